"""`roadwork spec`: everything about a spec that needs no training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import common_options
from .run import add_override_options

if TYPE_CHECKING:
    from roadwork_core.console import Console
    from roadwork_core.errors import Problem
    from roadwork_core.plugins import Plugins
    from roadwork_core.spec import ResolvedSpec


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    common = [common_options()]
    checking = commands.add_parser("check", help="say everything that is wrong with a spec", parents=common)
    showing = commands.add_parser("show", help="print the resolved spec, defaults included", parents=common)
    for child in (checking, showing):
        child.add_argument("spec", type=Path, metavar="SPEC", help="the spec, a TOML file")
        add_override_options(child)
    showing.add_argument("--origin", action="store_true", help="say where each value was written")
    schema = commands.add_parser("schema", help="print the JSON Schema of specs, for editors", parents=common)
    diff = commands.add_parser("diff", help="compare two resolved specs by value", parents=common)
    diff.add_argument("before", type=Path, metavar="A", help="a spec")
    diff.add_argument("after", type=Path, metavar="B", help="the spec that it is compared with")
    for child in (checking, showing, schema, diff):
        child.add_argument("--json", action="store_true", help="print JSON")
    new = commands.add_parser("new", help="write a commented spec to begin with", parents=common)
    new.add_argument(
        "path", type=Path, nargs="?", default=Path("spec.toml"), metavar="PATH", help="(default: spec.toml)"
    )
    new.add_argument("--force", action="store_true", help="overwrite a file that is there")


def handle(options: argparse.Namespace, console: Console) -> int:
    if options.action == "new":
        return _new(options.path, options.force, console)
    from roadwork_core.plugins import Plugins

    plugins = Plugins.load()
    if options.action == "schema":
        return _schema(plugins, console)
    if options.action == "diff":
        return _diff(options.before, options.after, plugins, console)
    from roadwork_core.spec import load_spec

    resolved = load_spec(options.spec, plugins, overrides=options.overrides, unset=options.unset)
    for warning in resolved.warnings:
        console.warn(str(warning))
    return _check(resolved, console) if options.action == "check" else _show(resolved, options.origin, console)


def _check(resolved: ResolvedSpec, console: Console) -> int:
    from roadwork_core.spec.resolved import OF_OTHER_COMMANDS

    resolved.require_installed(also=OF_OTHER_COMMANDS)
    counts = resolved.counts()
    if console.as_json:
        warnings = [warning.to_json() for warning in resolved.warnings]
        console.json({"ok": True, "name": resolved.spec.name, "components": counts, "warnings": warnings})
        return 0
    total = sum(counts.values())
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    console.out(f"ok: {resolved.source}: {resolved.spec.name}, {total} components ({listed})")
    return 0


def _show(resolved: ResolvedSpec, with_origin: bool, console: Console) -> int:
    from roadwork_core.spec import dump_toml, format_key, walk

    def origin(key: str) -> str:
        return str(resolved.origin(key))

    if console.as_json and with_origin:
        rows = {}
        for path, value in walk(resolved.values):
            where = resolved.origin(format_key(path))
            rows[format_key(path)] = {"value": value, "file": where.source, "line": where.line}
        console.json(rows)
    elif console.as_json:
        console.json(resolved.values)
    else:
        note = (lambda path: origin(format_key(path))) if with_origin else None
        console.out(dump_toml(resolved.values, note=note).rstrip("\n"))
    return 0


def _schema(plugins: Plugins, console: Console) -> int:
    import json

    from roadwork_core.spec import spec_schema

    schema = spec_schema(plugins)
    if console.as_json:
        console.json(schema)
    else:
        console.out(json.dumps(schema, indent=2, ensure_ascii=False))
    return 0


def _diff(before: Path, after: Path, plugins: Plugins, console: Console) -> int:
    from roadwork_core.errors import SpecError
    from roadwork_core.spec import load_spec
    from roadwork_core.spec.compare import differences
    from roadwork_core.spec.dump import toml_value

    resolved: list[ResolvedSpec] = []
    problems: list[Problem] = []
    for path in (before, after):
        try:
            resolved.append(load_spec(path, plugins))
        except SpecError as error:
            problems += error.problems()
    if problems:
        raise SpecError(dict.fromkeys(problems))
    for warning in (warning for spec in resolved for warning in spec.warnings):
        console.warn(str(warning))
    found = differences(resolved[0].values, resolved[1].values)
    if console.as_json:
        console.json({"a": str(before), "b": str(after), "differences": [difference.to_json() for difference in found]})
        return 0
    for difference in found:
        old, new = ("" if value is None else toml_value(value) for value in (difference.before, difference.after))
        line = {
            "added": f"+ {difference.key} = {new}",
            "removed": f"- {difference.key} = {old}",
            "changed": f"~ {difference.key} = {old} -> {new}",
        }
        console.out(line[difference.change])
    if not found:
        console.info(f"{before} and {after} resolve to the same spec")
    return 0


def _new(path: Path, force: bool, console: Console) -> int:
    from roadwork_core.errors import UsageError
    from roadwork_core.spec.starter import starter

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(starter(path.stem))
    except FileExistsError:
        raise UsageError("is there already", path=path, hint="--force overwrites it, or give another path") from None
    console.out(f"{path}")
    console.info(f"next: put the root of your pictures into it, then: roadwork spec check {path}")
    return 0
