"""`roadwork runs`: past runs, and what is known of each."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
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
    comparing = commands.add_parser(
        "compare", help="the difference of two runs on the test samples that they share", parents=[common_options()]
    )
    comparing.add_argument("first", metavar="A", help="a run's name, or its directory")
    comparing.add_argument("second", metavar="B", help="another run's name, or its directory")
    comparing.add_argument("--policy", metavar="NAME", help="of both runs (default: the active one of each)")
    comparing.add_argument(
        "--bootstrap", type=int, default=2000, metavar="N", help="resamples per interval (default: 2000)"
    )
    comparing.add_argument("--level", type=float, default=0.95, metavar="P", help="confidence level (default: 0.95)")
    for child in (listing, showing, comparing):
        child.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="(default: runs)")
        child.add_argument("--json", action="store_true", help="print JSON")


def handle(options: argparse.Namespace, console: Console) -> int:
    if options.action == "list":
        return _list(options.runs_dir, console)
    if options.action == "compare":
        return _compare(options, console)
    return _show(options.runs_dir, options.run, console)


def _list(runs_dir: Path, console: Console) -> int:
    folders = sorted((path.parent for path in runs_dir.glob("*/run.json")), key=_in_order)
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
        notes = "  ".join(note for note in (figure, _origin(summary)) if note)
        console.out(f"{summary['name']:<{width}}  {summary['status']:<11}  {summary['finished'] or '-':<25}  {notes}")
    return 0


def _in_order(folder: Path) -> list[tuple[bool, int, str]]:
    """By name, numbers in it by their value: trial 10 comes after trial 9."""
    parts = re.split(r"(\d+)", folder.name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _origin(summary: Mapping[str, Any]) -> str:
    """What the run was made for, and what came of it, in a few words."""
    notes = []
    if summary["sweep"]:
        notes.append(f"trial of {summary['sweep']}")
    if end := summary["pruned"]:
        notes.append(f"pruned after epoch {end['epoch']} at {end['metric']} {end['value']:.3f}")
    if summary["challenge"]:
        notes.append(f"challenger, {'promoted' if summary['challenge']['promoted'] else 'not promoted'}")
    return ", ".join(notes)


def _find(runs_dir: Path, name: str) -> Path:
    from roadwork_core.errors import UsageError

    folder = next((path for path in (runs_dir / name, Path(name)) if (path / "run.json").is_file()), None)
    if folder is None:
        known = sorted(path.parent.name for path in runs_dir.glob("*/run.json"))
        raise UsageError(f"no run {name!r} in {runs_dir}", hint=f"runs: {', '.join(known) or 'none'}")
    return folder


def _compare(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.errors import DataError, UsageError
    from roadwork_core.evaluation.compare import compare
    from roadwork_core.evaluation.past_run import answers_of_run
    from roadwork_core.plugins import Plugins

    if options.bootstrap < 100 or not 0.5 < options.level < 1:
        raise UsageError("--bootstrap must be at least 100 and --level between 0.5 and 1")
    plugins = Plugins.load()
    folders = [_find(options.runs_dir, name) for name in (options.first, options.second)]
    (first, classes), (second, others) = (answers_of_run(folder, plugins, options.policy) for folder in folders)
    if classes != others:
        raise DataError("the runs do not have the same classes", path=folders[1], hint="nothing can be compared")
    found = compare(first, second, positive=classes["positive"], resamples=options.bootstrap, level=options.level)
    document = {"schema": "roadwork.comparison/1", "first": str(folders[0]), "second": str(folders[1]), **found}
    if console.as_json:
        console.json(document)
        return 0
    _print_comparison(document, console)
    return 0


def _print_comparison(found: dict[str, Any], console: Console) -> None:
    if found["only_first"] or found["only_second"]:
        console.warn(
            f"compared on the {found['n']} samples that both tested; {found['only_first']} of the first and"
            f" {found['only_second']} of the second are left out"
        )
    console.out(f"{found['n']} test samples in {found['groups']} groups; nobody abstains but for the coverage")
    console.out(f"{'':<18} {'A':>7} {'B':>7}   B - A, {100 * found['level']:.0f} % interval")
    for name, line in found["metrics"].items():
        change = line["difference"]
        low, high = change["low"], change["high"]
        bounds = "no interval" if low is None or high is None else f"[{low:+.3f}, {high:+.3f}]"
        told = "" if low is None or high is None or low <= 0 <= high else "  *"
        console.out(f"{name:<18} {line['first']:7.3f} {line['second']:7.3f}  {change['value']:+.3f}  {bounds}{told}")
    test = found["mcnemar"]
    console.out(
        f"B alone is right on {test['gained']}, A alone on {test['lost']}: p = {test['p_value']:.3g} (McNemar, exact,"
        " if samples were independent)"
    )
    console.out("* the interval leaves out 0; of many lines some do by chance")


def _show(runs_dir: Path, name: str, console: Console) -> int:
    folder = _find(runs_dir, name)
    stages = _stages(folder)
    if console.as_json:
        console.json({"schema": "roadwork.run-summary/1", **_summary(folder), "stages": stages})
        return 0
    summary = _summary(folder)
    console.out(f"{summary['name']}: {summary['status']}  ({folder})")
    if origin := _origin(summary):
        console.out(f"  {origin}")
    if summary["challenge"]:
        console.out(f"  {summary['challenge']['reason']}")
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
        "sweep": _sweep_of(folder),
        "pruned": result.get("pruned"),
        "challenge": _challenge(folder),
    }


def _sweep_of(folder: Path) -> str | None:
    """The sweep beside the run that it is a trial of."""
    name = folder.name
    base = name.rpartition("-")[0]
    return f"{base}-sweep" if (folder.parent / f"{base}-sweep" / "specs" / f"{name}.toml").is_file() else None


def _challenge(folder: Path) -> dict[str, Any] | None:
    """The verdict on a run that `roadwork retrain` made, where there is one."""
    try:
        found = json.loads((folder / "challenge.json").read_bytes())
        return {"promoted": bool(found["promoted"]), "reason": str(found["reason"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _stages(folder: Path) -> list[dict[str, Any]]:
    import attrs

    from roadwork_core.runs.manifest import StageManifest
    from roadwork_core.stages import STAGES

    manifests = [StageManifest.read(folder / stage.name) for stage in STAGES]
    return [attrs.asdict(manifest) for manifest in manifests if manifest is not None]
