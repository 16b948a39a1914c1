"""`roadwork export`: a bundle in the form of another runtime, checked before it is handed over."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadwork_core.console import Console

SCHEMA = "roadwork.export/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="the exporter component, for example onnx")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write, not there yet")
    parser.add_argument(
        "--set", action="append", default=[], metavar="K=V", dest="settings", help="an option of the exporter, in TOML"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON document")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.errors import ExitCode, UsageError
    from roadwork_core.kinds import Kind
    from roadwork_core.plugins import Plugins
    from roadwork_core.spec import component_from_settings

    plugins = Plugins.load()
    exporter = component_from_settings(Kind.EXPORTER, {"use": options.to}, options.settings, plugins)
    if options.out.exists() or options.out.is_symlink():
        raise UsageError("is already there", path=options.out, hint="choose another --out, or remove it")
    found = _export(exporter, options, plugins, console)
    result = {"schema": SCHEMA, "bundle": str(options.bundle), "to": options.to, "out": str(options.out), **found}
    if console.as_json:
        console.json(result)
        return ExitCode.OK
    console.out(f"{options.to:<8} {options.out}")
    for key in found:
        if key != "bundle_id":
            for line in _lines(key, found[key]):
                console.out(line)
    return ExitCode.OK


def _export(exporter: Any, options: argparse.Namespace, plugins: Any, console: Console) -> Mapping[str, Any]:
    """Writes beside the place that was asked for, and moves the folder there when the exporter is content with it."""
    from roadwork_core.bundle import Level, load
    from roadwork_core.kinds import ExporterContext

    runtime = load(options.bundle, Level.REPLAY, plugins=plugins, device="cpu", backend="torch").runtime
    out: Path = options.out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        fresh = Path(scratch) / out.name
        fresh.mkdir()
        found = exporter.build(ExporterContext(runtime=runtime, plugins=plugins, folder=fresh, report=console.info))
        fresh.rename(out)
    return {"bundle_id": runtime.bundle.id, **found}


def _lines(key: str, value: Any, depth: int = 0) -> Iterator[str]:
    """A value by its key: on one line, or where tables of tables lie in it, each of those on a line below."""
    below = (
        {name: part for name, part in value.items() if isinstance(part, Mapping) and not _is_figure(part)}
        if isinstance(value, Mapping)
        else {}
    )
    rest = {name: part for name, part in value.items() if name not in below} if below else value
    yield f"{'  ' * depth}{key:<8} {_plain(rest)}".rstrip()
    for name, part in below.items():
        yield from _lines(name, part, depth + 1)


def _is_figure(value: Mapping[str, Any]) -> bool:
    return {"value", "low", "high"} <= value.keys()


def _plain(value: Any) -> str:
    if isinstance(value, Mapping) and _is_figure(value):
        bounds = ", ".join("none" if value[end] is None else _plain(value[end]) for end in ("low", "high"))
        return f"{_plain(value['value'])} [{bounds}]"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join("x".join(map(str, item)) if isinstance(item, list) else str(item) for item in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
