"""What is installed: components by kind and name with who supplies them, and the hooks; names are settled here."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import pluggy

from .component import component_info
from .discovery import (
    ENTRY_POINT_GROUP,
    Found,
    PluginRecord,
    Status,
    cause_of,
    hook_names,
    installed,
    load,
    make_manager,
    register,
)
from .errors import RoadworkError, UnknownComponentError, UsageError
from .kinds import Kind

__all__ = ["ENTRY_POINT_GROUP", "RESTRICT_VARIABLE", "Hooks", "PluginRecord", "Plugins", "Status", "heavy_imports"]

RESTRICT_VARIABLE = "ROADWORK_PLUGINS"


class Plugins:
    """What is installed: components by kind and name, and the hooks. Passed along, never global."""

    def __init__(self, records: Iterable[PluginRecord], manager: pluggy.PluginManager) -> None:
        self.records = tuple(records)
        self._manager = manager
        self._found: dict[tuple[Kind, str], list[tuple[PluginRecord, type]]] = {}
        self._owner: dict[type, PluginRecord] = {}
        names = [record.name for record in self.records]
        self._shared_names = {name for name in names if names.count(name) > 1}
        for record in self.records:
            for cls in record.components:
                info = component_info(cls)
                self._found.setdefault((info.kind, info.name), []).append((record, cls))
                self._owner.setdefault(cls, record)

    @classmethod
    def load(cls, only: Sequence[str] | None = None) -> Plugins:
        """Loads every installed plugin, or those named in `only` (default: the ROADWORK_PLUGINS variable).

        Names are entry-point names. Raises UsageError where `only` names one that is not installed.
        """
        restriction = os.environ.get(RESTRICT_VARIABLE) if only is None else None
        if restriction is not None:
            only = [name.strip() for name in restriction.split(",") if name.strip()]
        found = installed()
        if only is not None:
            known = sorted({entry.name for entry in found})
            if unknown := sorted(set(only) - set(known)):
                raise UsageError(
                    f"{'only' if restriction is None else RESTRICT_VARIABLE} names {', '.join(map(repr, unknown))},"
                    " which is not installed",
                    hint=_nearest(unknown[0], known) or f"installed: {', '.join(known) or 'none'}",
                )
            found = [entry for entry in found if entry.name in only]
        manager = make_manager()
        return cls([load(entry, manager) for entry in found], manager)

    @classmethod
    def of(cls, modules: Mapping[str, Any]) -> Plugins:
        """Plugins made of objects with hooks, by name, for tests and notebooks; nothing installed is looked at."""
        manager = make_manager()
        records = [register(Found(name, "(in memory)", "0", name, None), obj, manager) for name, obj in modules.items()]
        return cls(records, manager)

    def extended(self, modules: Mapping[str, Any]) -> Plugins:
        """These plugins and those that `of` would make; hooks of both are called."""
        manager = make_manager()
        for name, plugin in self._manager.list_name_plugin():
            manager.register(plugin, name=name)
        added = [register(Found(name, "(in memory)", "0", name, None), obj, manager) for name, obj in modules.items()]
        return Plugins([*self.records, *added], manager)

    @property
    def hook(self) -> Hooks:
        """The hook relay: `plugins.hook.roadwork_run_started(run=run)` calls every plugin."""
        return Hooks(self._manager, self.records)

    def owner(self, component: Any) -> PluginRecord:
        """The plugin that supplies a component class or instance. Raises KeyError where none here does."""
        return self._owner[component if isinstance(component, type) else type(component)]

    def components(self, kind: Kind | None = None) -> list[type]:
        """All component classes (of one kind), ordered by kind, name and plugin."""
        rows = [
            (key[0], key[1], record.name, record.distribution, cls)
            for key, suppliers in self._found.items()
            for record, cls in suppliers
            if kind is None or key[0] is kind
        ]
        return [row[-1] for row in sorted(rows, key=lambda row: row[:-1])]

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
        return f"{self.namespace(self.owner(component))}/{component_info(component).name}"

    def namespace(self, record: PluginRecord) -> str:
        """What stands before the slash: the entry-point name, or the distribution where two share that name."""
        return record.distribution if record.name in self._shared_names else record.name

    def suppliers(self, kind: Kind, use: str) -> list[tuple[PluginRecord, type]]:
        """Everything that `use` could mean: of one kind, a bare name or one with its plugin or distribution."""
        plugin, _, name = use.rpartition("/")
        found = self._found.get((kind, name), [])
        return [pair for pair in found if not plugin or plugin in (pair[0].name, pair[0].distribution)]

    def get(self, kind: Kind, use: str) -> type:
        """The component class for `use`, a bare or a qualified name.

        Raises UnknownComponentError where there is none (with the nearest name), where the name is ambiguous
        (with every name that is not), or where the plugin that may supply it is broken (with the cause).
        """
        suppliers = self.suppliers(kind, use)
        if len(suppliers) == 1:
            return suppliers[0][1]
        if suppliers:
            name = use.rpartition("/")[2]
            options = " or ".join(f'"{self.namespace(record)}/{name}"' for record, _ in suppliers)
            raise UnknownComponentError(f'{kind} "{use}" is ambiguous', hint=f"write {options}")
        raise UnknownComponentError(f'unknown {kind} "{use}"', hint=self._unknown_hint(kind, use))

    def broken(self) -> list[PluginRecord]:
        return [record for record in self.records if record.status is Status.BROKEN]

    def _unknown_hint(self, kind: Kind, use: str) -> str:
        plugin = use.rpartition("/")[0]
        for record in self.broken():
            if plugin in (record.name, record.distribution):
                return f"the plugin {record.name} is broken: {record.cause}"
        names = self.names(kind)
        hints = []
        qualified = [self.qualified_name(cls) for cls in self.components(kind)]
        if near := _nearest(use, [*names, *qualified]):
            hints.append(near)
        elif names:
            hints.append(f"known: {', '.join(names)}")
        else:
            hints.append(f"no plugin supplies any {kind}; is one installed?")
        if broken := self.broken():
            hints.append("broken: " + "; ".join(f"{record.name} ({record.cause})" for record in broken))
        return ", ".join(hints)


class Hooks:
    """The hooks as attributes. A plugin that fails in one is named in the error."""

    def __init__(self, manager: pluggy.PluginManager, records: Sequence[PluginRecord]) -> None:
        self._manager = manager
        self._records = {f"{record.distribution}:{record.name}": record for record in records}

    def __getattr__(self, name: str) -> Any:
        if name not in hook_names():
            raise AttributeError(name)
        caller = getattr(self._manager.hook, name)

        def call(**arguments: Any) -> Any:
            try:
                return caller(**arguments)
            except RoadworkError:
                raise
            except Exception as error:
                raise self._attributed(caller, error) from error

        return call

    def _attributed(self, caller: Any, error: Exception) -> RoadworkError:
        lines = _lines_by_code(error.__traceback__)
        for implementation in caller.get_hookimpls():
            code = getattr(implementation.function, "__code__", None)
            if code is not None and code in lines:
                record = self._records.get(implementation.plugin_name)
                plugin = record.name if record else implementation.plugin_name
                return RoadworkError(
                    f"the plugin {plugin} failed in {caller.name}: {cause_of(error)}",
                    hint=f"{RESTRICT_VARIABLE} can leave it out",
                    path=code.co_filename,
                    line=lines[code],
                )
        return RoadworkError(f"a plugin failed in {caller.name}: {cause_of(error)}")


def _lines_by_code(traceback: TracebackType | None) -> dict[Any, int]:
    lines = {}
    while traceback is not None:
        lines[traceback.tb_frame.f_code] = traceback.tb_lineno
        traceback = traceback.tb_next
    return lines


def _nearest(name: str, known: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(name, known, n=1)
    return f'did you mean "{close[0]}"?' if close else None


def heavy_imports() -> list[str]:
    """Which of the libraries that must wait until `build` are already imported."""
    return [name for name in ("torch", "transformers", "torchvision", "sklearn", "matplotlib") if name in sys.modules]
