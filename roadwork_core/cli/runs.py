"""`roadwork runs`: past runs, and what is known of each."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import common_options
from .run import with_interval

if TYPE_CHECKING:
    from roadwork_core.console import Console


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = commands.add_parser("list", help="one line per run", parents=[common_options()])
    showing = commands.add_parser("show", help="stages, metrics and versions of one run", parents=[common_options()])
    showing.add_argument("run", metavar="RUN", help="a run's name, or its directory")
    for child in (listing, showing):
        child.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="(default: runs)")
        child.add_argument("--json", action="store_true", help="print JSON")


def handle(options: argparse.Namespace, console: Console) -> int:
    if options.action == "list":
        return _list(options.runs_dir, console)
    return _show(options.runs_dir, options.run, console)


def _list(runs_dir: Path, console: Console) -> int:
    folders = sorted(path.parent for path in runs_dir.glob("*/run.json"))
    summaries = [_summary(folder) for folder in folders]
    if console.as_json:
        console.json({"schema": "roadwork.runs/1", "runs": summaries})
        return 0
    if not summaries:
        console.info(f"no runs in {runs_dir}")
    width = max((len(summary["name"]) for summary in summaries), default=0)
    for summary in summaries:
        mcc = summary["mcc"]
        figure = f"test mcc {with_interval(mcc)}" if mcc and mcc["value"] is not None else ""
        console.out(f"{summary['name']:<{width}}  {summary['status']:<11}  {summary['finished'] or '-':<25}  {figure}")
    return 0


def _show(runs_dir: Path, name: str, console: Console) -> int:
    from roadwork_core.errors import UsageError

    folder = next((path for path in (runs_dir / name, Path(name)) if (path / "run.json").is_file()), None)
    if folder is None:
        known = sorted(path.parent.name for path in runs_dir.glob("*/run.json"))
        raise UsageError(f"no run {name!r} in {runs_dir}", hint=f"runs: {', '.join(known) or 'none'}")
    stages = _stages(folder)
    if console.as_json:
        console.json({"schema": "roadwork.run-summary/1", **_summary(folder), "stages": stages})
        return 0
    summary = _summary(folder)
    console.out(f"{summary['name']}: {summary['status']}  ({folder})")
    for stage in stages:
        console.out(f"  {stage['stage']:<9} {stage['started']}  {stage['seconds']:8.1f} s  {stage['fingerprint'][:12]}")
    for metric, figure in (_result(folder).get("metrics") or {}).get("test", {}).items():
        if figure["value"] is not None:
            console.out(f"  test {metric:<18} {with_interval(figure)}")
    return 0


def _result(folder: Path) -> dict[str, Any]:
    from roadwork_core.errors import RoadworkError

    try:
        result = json.loads((folder / "run.json").read_bytes()).get("result")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise RoadworkError(f"cannot read this run: {reason}", path=folder / "run.json") from None
    return result if isinstance(result, dict) else {}


def _summary(folder: Path) -> dict[str, Any]:
    result = _result(folder)
    stages = _stages(folder)
    return {
        "name": folder.name,
        "run_dir": str(folder),
        "status": result.get("status", "unfinished"),
        "finished": stages[-1]["started"] if stages else None,
        "bundle_dir": result.get("bundle_dir"),
        "mcc": (result.get("metrics") or {}).get("test", {}).get("mcc"),
    }


def _stages(folder: Path) -> list[dict[str, Any]]:
    import attrs

    from roadwork_core.runs.manifest import StageManifest
    from roadwork_core.stages import STAGES

    manifests = [StageManifest.read(folder / stage.name) for stage in STAGES]
    return [attrs.asdict(manifest) for manifest in manifests if manifest is not None]
