"""`roadwork plugins`: what is installed, what it offers, whether it keeps its promises, and how to begin one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import common_options

if TYPE_CHECKING:
    from roadwork_core.console import Console
    from roadwork_core.plugins import PluginRecord, Plugins


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    common = [common_options()]
    listing = commands.add_parser("list", help="what is installed, from where, and what is broken", parents=common)
    showing = commands.add_parser("show", help="the documentation of a component", parents=common)
    showing.add_argument(
        "name", metavar="NAME", help="KIND/NAME (loss/focal, loss/acme/focal), a kind, or a plugin", nargs="?"
    )
    checking = commands.add_parser("check", help="hold what is installed to its contract", parents=common)
    checking.add_argument("name", metavar="NAME", nargs="?", help="a plugin, or KIND/NAME (default: everything)")
    for child in (listing, showing, checking):
        child.add_argument("--json", action="store_true", help="print JSON")
    new = commands.add_parser("new", help="write a plugin package whose tests pass", parents=common)
    new.add_argument("kind", metavar="KIND", help="loss, head, policy, ...")
    new.add_argument("name", metavar="NAME", help="name of the component and of the package, in snake_case")
    new.add_argument("--dir", type=Path, default=Path(), metavar="DIR", help="where (default: here)")


def handle(options: argparse.Namespace, console: Console) -> int:
    if options.action == "new":
        return _new(options.kind, options.name, options.dir, console)
    from roadwork_core.plugins import Plugins

    plugins = Plugins.load()
    if options.action == "list":
        return _list(plugins, console)
    if options.action == "check":
        return _check(plugins, options.name, console)
    return _show(plugins, options.name, console)


# --- list ---


def _list(plugins: Plugins, console: Console) -> int:
    from roadwork_core.plugins import RESTRICT_VARIABLE

    if console.as_json:
        records = [_record_json(plugins, record) for record in plugins.records]
        console.json({"schema": "roadwork.plugins/1", "plugins": records})
        return 0
    if RESTRICT_VARIABLE in os.environ:
        console.info(f"{RESTRICT_VARIABLE} restricts what loads to: {os.environ[RESTRICT_VARIABLE] or 'nothing'}")
    if not plugins.records:
        console.info("no plugin is installed")
    rows = [("plugin", "distribution", "version", "api", "status", "source")]
    rows += [
        (record.name, record.distribution, record.version, str(record.api), record.status, _short(record.source))
        for record in plugins.records
    ]
    lines = _columns(rows)
    for line, record in zip(lines, (None, *plugins.records), strict=True):
        if record is None:
            if plugins.records:
                console.out(line)
            continue
        console.out(line)
        if record.cause:
            console.out(f"  {record.cause}")
        for kind, names in _names_by_kind(plugins, record):
            console.out(f"  {kind}: {', '.join(names)}")
    return 0


def _names_by_kind(plugins: Plugins, record: PluginRecord) -> list[tuple[str, list[str]]]:
    from roadwork_core.component import component_info

    kinds: dict[str, list[str]] = {}
    for cls in sorted(record.components, key=lambda cls: component_info(cls).name):
        kinds.setdefault(component_info(cls).kind, []).append(_use_in(plugins, record, cls))
    return sorted(kinds.items())


def _use_in(plugins: Plugins, record: PluginRecord, cls: type) -> str:
    from roadwork_core.component import component_info

    info = component_info(cls)
    shared = len(plugins.suppliers(info.kind, info.name)) > 1
    return f"{plugins.namespace(record)}/{info.name}" if shared else info.name


def _record_json(plugins: Plugins, record: PluginRecord) -> dict[str, Any]:
    from roadwork_core.component import component_info

    components = [
        {
            "kind": str(component_info(cls).kind),
            "name": component_info(cls).name,
            "use": _use_in(plugins, record, cls),
            "source": component_info(cls).source,
            "api": component_info(cls).api,
        }
        for cls in record.components
    ]
    return {
        "name": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "module": record.module,
        "source": record.source,
        "api": record.api,
        "status": str(record.status),
        "cause": record.cause,
        "components": components,
    }


# --- show ---


def _show(plugins: Plugins, name: str | None, console: Console) -> int:
    from roadwork_core.kinds import CONTRACTS
    from roadwork_core.spec.describe import describe

    if name is None or name in list(CONTRACTS):
        return _overview(plugins, [kind for kind in CONTRACTS if name in (None, kind)], console)
    described = [describe(cls, plugins) for cls in _components_named(plugins, name)]
    if console.as_json:
        console.json({"schema": "roadwork.components/1", "components": described})
        return 0
    for index, component in enumerate(described):
        if index:
            console.out("")
        _print_component(component, console)
    return 0


def _overview(plugins: Plugins, kinds: Sequence[Any], console: Console) -> int:
    from roadwork_core.spec.describe import describe

    described = {kind: [describe(cls, plugins) for cls in plugins.components(kind)] for kind in kinds}
    if console.as_json:
        components = [component for group in described.values() for component in group]
        console.json({"schema": "roadwork.components/1", "components": components})
        return 0
    rows = [(f"{kind}/{c['use']}", c["summary"]) for kind, group in described.items() for c in group]
    for line in _columns(rows):
        console.out(line)
    return 0


def _components_named(plugins: Plugins, name: str) -> list[type]:
    """`kind/name`, `kind/plugin/name`, `plugin/name` or `plugin`. Raises UsageError, UnknownComponentError."""
    from roadwork_core.component import component_info
    from roadwork_core.errors import UsageError
    from roadwork_core.kinds import Kind

    head, _, rest = name.partition("/")
    if head in list(Kind) and rest:
        return [plugins.get(Kind(head), rest)]
    owned = [record for record in plugins.records if head in (record.name, record.distribution)]
    for record in owned:
        if record.cause:
            raise UsageError(f"the plugin {record.name} is broken: {record.cause}")
    classes = [cls for record in owned for cls in record.components]
    found = [cls for cls in classes if rest in ("", component_info(cls).name)]
    if not found:
        raise UsageError(f"nothing is named {name!r}", hint=_suggestion(plugins, name))
    return found


def _suggestion(plugins: Plugins, name: str) -> str:
    import difflib

    from roadwork_core.component import component_info

    paths = [f"{component_info(cls).kind}/{plugins.use_name(cls)}" for cls in plugins.components()]
    last = name.rpartition("/")[2]
    same = [path for path in paths if path.rpartition("/")[2] == last]
    close = same or difflib.get_close_matches(name, [*paths, *(record.name for record in plugins.records)], n=1)
    return f'did you mean "{close[0]}"?' if close else "`roadwork plugins show` lists everything"


def _print_component(component: dict[str, Any], console: Console) -> None:
    console.out(f"{component['kind']} {component['use']}  ({component['qualified']})")
    console.out(f"from {component['distribution']} {component['version']}, {_short(component['source'])}")
    console.out("")
    for line in (component["doc"] or "(not documented)").splitlines():
        console.out(line)
    console.out("")
    for name, value in component["traits"].items():
        console.out(f"{name}: {value}")
    console.out("options" if component["fields"] else "no options")
    for field in component["fields"]:
        default = "required" if field["required"] else f"default {_value(field['default'])}"
        told = [field["type"], *([field["bounds"]] if field["bounds"] else []), default]
        console.out(f"  {field['name']}: {', '.join(told)}")
        if field["help"]:
            console.out(f"      {field['help']}")
    for old, new in component["renamed"].items():
        console.out(f"  {old}: earlier name of {new}")
    console.out("")
    console.out(component["toml"].rstrip("\n"))


def _value(value: Any) -> str:
    from roadwork_core.spec import dump_toml

    if value is None:
        return "absent"
    return dump_toml({"x": [value]}).partition("=")[2].strip()[1:-1] if not isinstance(value, dict) else str(value)


# --- check ---


def _check(plugins: Plugins, name: str | None, console: Console) -> int:
    from roadwork_core.component import component_info
    from roadwork_core.errors import ExitCode
    from roadwork_core.testing.static import static_problems, undocumented

    records = [record for record in plugins.records if name is None or name in (record.name, record.distribution)]
    classes = [cls for record in records for cls in record.components]
    if name is not None and not records:
        classes = _components_named(plugins, name)
    broken = [record for record in records if record.cause is not None]
    report: list[dict[str, Any]] = [
        {"plugin": record.name, "component": None, "problems": [str(record.cause)]} for record in broken
    ]
    for cls in classes:
        problems = [str(problem) for problem in static_problems(cls, plugins)]
        info = component_info(cls)
        label = f"{info.kind}/{plugins.use_name(cls)}"
        if problems:
            report.append({"plugin": plugins.owner(cls).name, "component": label, "problems": problems})
        elif plain := undocumented(cls):
            console.detail(f"{label}: {', '.join(plain)} would be documented by option(default=..., help=...)")
    code = ExitCode.VERIFICATION if report else ExitCode.OK
    if console.as_json:
        document = {"schema": "roadwork.plugins-check/1", "ok": not report, "checked": len(classes), "failures": report}
        console.json(document)
        return code
    for failure in report:
        for problem in failure["problems"]:
            console.error(f"{failure['plugin']}: {problem}")
    if report:
        console.info(f"{len(report)} of {len(classes) + len(broken)} do not conform")
    else:
        console.out(f"ok: {len(classes)} components of {len({plugins.owner(cls).name for cls in classes})} plugins")
    return code


# --- new ---


def _new(kind: str, name: str, folder: Path, console: Console) -> int:
    from roadwork_core.scaffold import write_plugin

    written = write_plugin(kind, name, folder)
    for path in written:
        console.out(str(path))
    package = written[0].parent
    console.info(f"try it: cd {package} && python -m pytest; install it: pip install -e {package}")
    return 0


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _short(source: str | None) -> str:
    """A path for people: relative to the current directory where that is shorter."""
    if source is None:
        return "-"
    path, _, line = source.rpartition(":")
    try:
        near = os.path.relpath(path)
    except ValueError:
        return source
    return f"{near if len(near) < len(path) else path}:{line}"
