"""Discovery of plugins: each loads on its own, failures are kept apart, names and conflicts are settled here."""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import attrs
import pluggy

from . import hookspecs
from .component import API_LEVEL, component_info, is_component
from .errors import UnknownComponentError, UsageError
from .kinds import Kind

ENTRY_POINT_GROUP = "roadwork"
RESTRICT_VARIABLE = "ROADWORK_PLUGINS"


class Status(StrEnum):
    OK = "ok"
    BROKEN = "broken"


@attrs.frozen(kw_only=True)
class PluginRecord:
    """One entry point of one distribution, loaded or not. `cause` says why a broken one is broken."""

    name: str
    distribution: str
    version: str
    module: str
    status: Status
    cause: str | None = None
    components: tuple[type, ...] = ()

    @property
    def api(self) -> int:
        """The highest component API level that its components ask for."""
        return max((component_info(cls).api for cls in self.components), default=API_LEVEL)


class Plugins:
    """What is installed: components by kind and name, and the hooks. Passed along, never global."""

    def __init__(self, records: Iterable[PluginRecord], manager: pluggy.PluginManager) -> None:
        self.records = tuple(records)
        self._manager = manager
        self._found: dict[tuple[Kind, str], list[tuple[PluginRecord, type]]] = {}
        self._owner: dict[type, PluginRecord] = {}
        for record in self.records:
            for cls in record.components:
                info = component_info(cls)
                self._found.setdefault((info.kind, info.name), []).append((record, cls))
                self._owner[cls] = record

    @classmethod
    def load(cls, only: Sequence[str] | None = None) -> Plugins:
        """Loads every installed plugin, or those named in `only` (default: the ROADWORK_PLUGINS variable).

        Names are entry-point names. Raises UsageError where `only` names one that is not installed.
        """
        if only is None and (restriction := os.environ.get(RESTRICT_VARIABLE)) is not None:
            only = [name.strip() for name in restriction.split(",") if name.strip()]
        found = _entry_points()
        if only is not None:
            known = sorted({point.name for _, point in found})
            if unknown := sorted(set(only) - set(known)):
                raise UsageError(
                    f"{RESTRICT_VARIABLE} names {', '.join(map(repr, unknown))}, which is not installed",
                    hint=f"installed: {', '.join(known) or 'none'}",
                )
            found = [(dist, point) for dist, point in found if point.name in only]
        manager = _manager()
        return cls([_load(dist, point, manager) for dist, point in found], manager)

    @classmethod
    def of(cls, modules: Mapping[str, Any]) -> Plugins:
        """Plugins made of objects with hooks, by name, for tests and notebooks; nothing installed is looked at."""
        manager = _manager()
        records = [_register(name, "(in memory)", "0", name, obj, manager) for name, obj in modules.items()]
        return cls(records, manager)

    @property
    def hook(self) -> Any:
        """The hook relay: `plugins.hook.roadwork_run_started(run=run)` calls every plugin."""
        return self._manager.hook

    def owner(self, component: Any) -> PluginRecord:
        """The plugin that supplies a component class or instance."""
        return self._owner[component if isinstance(component, type) else type(component)]

    def components(self, kind: Kind | None = None) -> list[type]:
        """All component classes (of one kind), ordered by kind, name and plugin."""
        rows = [
            (key[0], key[1], record.name, cls)
            for key, suppliers in self._found.items()
            for record, cls in suppliers
            if kind is None or key[0] is kind
        ]
        return [row[3] for row in sorted(rows, key=lambda row: row[:3])]

    def names(self, kind: Kind) -> list[str]:
        """What `use` may say for this kind: bare names where unambiguous, `plugin/name` for each conflict."""
        return sorted(self.use_name(cls) for cls in self.components(kind))

    def use_name(self, component: Any) -> str:
        """The shortest unambiguous `use` of a component."""
        info = component_info(component)
        if len(self._found.get((info.kind, info.name), ())) > 1:
            return self.qualified_name(component)
        return info.name

    def qualified_name(self, component: Any) -> str:
        """`plugin/name`, which stays right whatever else is installed."""
        return f"{self.owner(component).name}/{component_info(component).name}"

    def get(self, kind: Kind, use: str) -> type:
        """The component class for `use`, a bare or a qualified name.

        Raises UnknownComponentError where there is none (with the nearest name), where a bare name is ambiguous
        (with both), or where the plugin that may supply it is broken (with the cause).
        """
        plugin, _, name = use.rpartition("/")
        suppliers = self._found.get((kind, name), [])
        if plugin:
            suppliers = [pair for pair in suppliers if pair[0].name == plugin]
        if len(suppliers) == 1:
            return suppliers[0][1]
        if suppliers:
            options = " or ".join(f'"{record.name}/{name}"' for record, _ in suppliers)
            raise UnknownComponentError(f'{kind} "{use}" is ambiguous', hint=f"write {options}")
        raise UnknownComponentError(f'unknown {kind} "{use}"', hint=self._unknown_hint(kind, use, plugin))

    def broken(self) -> list[PluginRecord]:
        return [record for record in self.records if record.status is Status.BROKEN]

    def _unknown_hint(self, kind: Kind, use: str, plugin: str) -> str:
        for record in self.broken():
            if plugin == record.name:
                return f"the plugin {record.name} is broken: {record.cause}"
        names = self.names(kind)
        hints = []
        qualified = [self.qualified_name(cls) for cls in self.components(kind)]
        if close := difflib.get_close_matches(use, [*names, *qualified], n=1):
            hints.append(f'did you mean "{close[0]}"?')
        elif names:
            hints.append(f"known: {', '.join(names)}")
        else:
            hints.append(f"no plugin supplies any {kind}; is one installed?")
        if broken := self.broken():
            hints.append("broken: " + "; ".join(f"{record.name} ({record.cause})" for record in broken))
        return ", ".join(hints)


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _entry_points() -> list[tuple[importlib.metadata.Distribution, importlib.metadata.EntryPoint]]:
    # importlib.metadata.entry_points() forgets which distribution a point came from when two share a name.
    found = []
    seen: set[str] = set()
    for dist in importlib.metadata.distributions():
        points = [point for point in dist.entry_points if point.group == ENTRY_POINT_GROUP]
        if not points or dist.name in seen:
            continue
        seen.add(dist.name)
        found += [(dist, point) for point in points]
    return sorted(found, key=lambda pair: (pair[0].name, pair[1].name))


def _load(
    dist: importlib.metadata.Distribution, point: importlib.metadata.EntryPoint, manager: pluggy.PluginManager
) -> PluginRecord:
    try:
        module = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may fail in any way; its cause is kept
        return _broken(point.name, dist.name, dist.version, point.value, _cause(error))
    return _register(point.name, dist.name, dist.version, point.value, module, manager)


def _register(
    name: str, distribution: str, version: str, module: str, obj: Any, manager: pluggy.PluginManager
) -> PluginRecord:
    # Two distributions may use one entry-point name; pluggy wants a unique one.
    registered = f"{distribution}:{name}"
    try:
        manager.register(obj, name=registered)
        provider = getattr(obj, "roadwork_components", None)
        components = tuple(provider()) if callable(provider) else ()
        for cls in components:
            _check(cls)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
        if manager.has_plugin(registered):
            manager.unregister(name=registered)
        return _broken(name, distribution, version, module, _cause(error))
    return PluginRecord(
        name=name,
        distribution=distribution,
        version=version,
        module=module,
        status=Status.OK,
        components=components,
    )


def _check(cls: Any) -> None:
    if not isinstance(cls, type) or not is_component(cls):
        raise TypeError(f"roadwork_components() hands over {cls!r}, which is not made by @component")
    info = component_info(cls)
    if info.api != API_LEVEL:
        raise TypeError(f"{cls.__name__} asks for component API {info.api}, this core speaks {API_LEVEL}")


def _broken(name: str, distribution: str, version: str, module: str, cause: str) -> PluginRecord:
    return PluginRecord(
        name=name,
        distribution=distribution,
        version=version,
        module=module,
        status=Status.BROKEN,
        cause=cause,
    )


def _cause(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def heavy_imports() -> list[str]:
    """Which of the libraries that must wait until `build` are already imported."""
    return [name for name in ("torch", "transformers", "torchvision", "sklearn") if name in sys.modules]
