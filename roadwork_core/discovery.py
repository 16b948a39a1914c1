"""Finds the installed plugins and loads each on its own: one that fails is kept apart, with its cause."""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Any

import attrs
import pluggy

from . import hookspecs
from .component import API_LEVEL, ComponentDefinitionError, component_info, is_component

ENTRY_POINT_GROUP = "roadwork"


class Status(StrEnum):
    OK = "ok"
    BROKEN = "broken"


@attrs.frozen(kw_only=True)
class PluginRecord:
    """One entry point of one distribution, loaded or not.

    `api` is the component API level that its components ask for. `source` is `file:line`: of the hook that hands
    over the components, or of the line at which a broken plugin failed. `cause` says why a broken one is broken.
    """

    name: str
    distribution: str
    version: str
    module: str
    status: Status
    api: int = API_LEVEL
    source: str | None = None
    cause: str | None = None
    components: tuple[type, ...] = ()


@attrs.frozen
class Found:
    """An entry point and where it comes from, or the cause why it cannot even be read."""

    name: str
    distribution: str
    version: str
    module: str
    point: importlib.metadata.EntryPoint | None
    cause: str | None = None


class _HandedOver(Exception):
    """A plugin that imports well hands over something that is no usable component."""

    def __init__(self, message: str, api: int = API_LEVEL, source: str | None = None) -> None:
        super().__init__(message)
        self.api = api
        self.source = source


def make_manager() -> pluggy.PluginManager:
    """A hook manager that knows the seven hooks and no plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def installed() -> list[Found]:
    """The entry points of the group `roadwork`, by entry-point name, then distribution.

    `importlib.metadata.entry_points()` forgets which distribution a point came from, and stops at the first
    distribution with damaged metadata.
    """
    found: list[Found] = []
    seen: set[str] = set()
    for dist in importlib.metadata.distributions():
        with contextlib.suppress(Exception):
            text = dist.read_text("entry_points.txt") or ""
            if ENTRY_POINT_GROUP not in text:
                continue
            entries = list(_points(dist, text))
            # The first on the path is the one that would be imported.
            if entries and (name := re.sub(r"[-_.]+", "-", entries[0].distribution).lower()) not in seen:
                seen.add(name)
                found += entries
    return sorted(found, key=lambda entry: (entry.name, entry.distribution))


def _points(dist: importlib.metadata.Distribution, text: str) -> Iterator[Found]:
    name = dist.name or "(no name)"
    version = dist.version or "(no version)"
    try:
        points = [point for point in dist.entry_points if point.group == ENTRY_POINT_GROUP]
    except Exception as error:  # noqa: BLE001 - damaged metadata may fail in any way; its cause is kept
        if f"[{ENTRY_POINT_GROUP}]" in text:
            yield Found(name, name, version, "", None, f"entry_points.txt cannot be read: {cause_of(error)}")
        return
    names = Counter(point.name for point in points)
    for point in points:
        cause = f"{name} declares the entry point {point.name!r} twice" if names[point.name] > 1 else None
        yield Found(point.name, name, version, point.value, point, cause)


def load(found: Found, manager: pluggy.PluginManager) -> PluginRecord:
    """Imports one plugin and registers its hooks; never raises for what the plugin does."""
    if found.point is None or found.cause is not None:
        return _broken(found, found.cause or "no entry point")
    try:
        # What a plugin prints while it loads must not end up in the results of a command.
        with contextlib.redirect_stdout(sys.stderr):
            module = found.point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may fail in any way; its cause is kept
        return _broken(found, cause_of(error), source=_line_of(error))
    return register(found, module, manager)


def register(found: Found, obj: Any, manager: pluggy.PluginManager) -> PluginRecord:
    """Registers an object with hooks as a plugin and takes its components."""
    # Two distributions may use one entry-point name; pluggy wants a unique one.
    unique = f"{found.distribution}:{found.name}"
    try:
        with contextlib.redirect_stdout(sys.stderr):
            manager.register(obj, name=unique)
            _refuse_unknown_hooks(obj, unique, manager)
            provider = getattr(obj, "roadwork_components", None)
            components = tuple(provider()) if callable(provider) else ()
        _check(components)
        components = tuple(dict.fromkeys(components))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
        if manager.get_plugin(unique) is obj:
            manager.unregister(name=unique)
        if isinstance(error, _HandedOver):
            return _broken(found, str(error), api=error.api, source=error.source or _source_of(obj))
        return _broken(found, cause_of(error), source=_line_of(error) or _source_of(obj))
    return PluginRecord(
        name=found.name,
        distribution=found.distribution,
        version=found.version,
        module=found.module,
        status=Status.OK,
        api=max((component_info(cls).api for cls in components), default=API_LEVEL),
        source=_source_of(obj),
        components=components,
    )


def _refuse_unknown_hooks(obj: Any, unique: str, manager: pluggy.PluginManager) -> None:
    # pluggy drops an implementation of a hook that it does not know without a word.
    known = hook_names()
    for caller in manager.get_hookcallers(manager.get_plugin(unique)) or ():
        if caller.name not in known:
            close = difflib.get_close_matches(caller.name, known, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"hooks: {', '.join(known)}"
            raise _HandedOver(f"implements the hook {caller.name}, which does not exist ({hint})")


def _check(components: Sequence[Any]) -> None:
    names: dict[tuple[str, str], type] = {}
    for cls in components:
        if not isinstance(cls, type) or not is_component(cls):
            raise _HandedOver(f"roadwork_components() hands over {cls!r}, which is not made by @component")
        info = component_info(cls)
        if info.api != API_LEVEL:
            older = "a newer plugin" if info.api < API_LEVEL else "a newer roadwork"
            raise _HandedOver(
                f"{cls.__name__} asks for component API {info.api}, this roadwork speaks {API_LEVEL}: install {older}",
                info.api,
                info.source,
            )
        other = names.setdefault((info.kind, info.name), cls)
        if other is not cls:
            raise _HandedOver(
                f"{other.__name__} and {cls.__name__} are both the {info.kind} {info.name!r}", source=info.source
            )


def hook_names() -> list[str]:
    """The names of the hooks, in the order of their definition."""
    return [name for name in vars(hookspecs) if name.startswith(f"{hookspecs.PROJECT}_")]


def _broken(found: Found, cause: str, *, api: int = API_LEVEL, source: str | None = None) -> PluginRecord:
    return PluginRecord(
        name=found.name,
        distribution=found.distribution,
        version=found.version,
        module=found.module,
        status=Status.BROKEN,
        api=api,
        source=source,
        cause=cause,
    )


def cause_of(error: BaseException) -> str:
    """An exception as one line: its class, unless it is ours, and the first line of its text."""
    text = str(error).strip().splitlines()
    if isinstance(error, ComponentDefinitionError) and text:
        return text[0]
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _source_of(obj: Any) -> str | None:
    provider = getattr(obj, "roadwork_components", obj)
    code = getattr(inspect.unwrap(provider) if callable(provider) else provider, "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    file = getattr(obj, "__file__", None)
    return None if file is None else f"{file}:1"


def _line_of(error: BaseException) -> str | None:
    """The innermost line of the plugin itself at which it failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    lines = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in _frames(error.__traceback__)
        if not _is_machinery(frame.f_code.co_filename, frame.f_globals.get("__name__", ""))
    ]
    return lines[-1] if lines else None


def _frames(traceback: TracebackType | None) -> Iterator[tuple[Any, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def _is_machinery(file: str, module: str) -> bool:
    return file.startswith("<frozen") or module.partition(".")[0] in ("importlib", "pluggy", "attr", __package__)
