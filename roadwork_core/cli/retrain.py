"""`roadwork retrain`: a challenger on the champion's splits and hard negatives, promoted only where it is better."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run import add_override_options, execute

if TYPE_CHECKING:
    from roadwork_core.console import Console
    from roadwork_core.retraining import Mix

SCHEMA = "roadwork.challenge/1"
RECORD = "challenge.json"
METRICS = ("mcc", "accuracy", "f1", "balanced_accuracy", "auroc", "average_precision", "nll", "brier")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, metavar="SPEC", help="the spec of the challenger, a TOML file")
    parser.add_argument("--champion", type=Path, required=True, metavar="BUNDLE", help="the bundle to beat")
    parser.add_argument(
        "--hard-negatives", type=Path, required=True, metavar="FILE", help="the manifest that roadwork mine wrote"
    )
    parser.add_argument(
        "--champion-run",
        type=Path,
        metavar="DIR",
        help="the run that made the champion (default: where BUNDLE lies, or one in --runs-dir)",
    )
    parser.add_argument(
        "--metric", choices=METRICS, default="mcc", metavar="NAME", help=f"{', '.join(METRICS)} (default: mcc)"
    )
    parser.add_argument(
        "--margin", type=float, default=0.0, metavar="X", help="by how much it must be better (default: 0)"
    )
    parser.add_argument(
        "--share", type=float, default=0.3, metavar="P", help="of hard negatives in train at most (default: 0.3)"
    )
    parser.add_argument("--level", type=float, default=0.95, metavar="P", help="confidence level (default: 0.95)")
    parser.add_argument(
        "--bootstrap", type=int, default=2000, metavar="N", help="resamples per interval (default: 2000)"
    )
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="the record here too, beside challenge.json in the run"
    )
    add_override_options(parser)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="(default: runs)")
    parser.add_argument("--json", action="store_true", help="print the record as one JSON document")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.errors import DataError, ExitCode
    from roadwork_core.evaluation.compare import compare
    from roadwork_core.evaluation.past_run import answers_of_run
    from roadwork_core.files import digest_json, pretty_json, sha256_file, write_atomic
    from roadwork_core.plugins import Plugins
    from roadwork_core.retraining import judge, mix
    from roadwork_core.retraining.mix import overrides
    from roadwork_core.runs import Run
    from roadwork_core.spec import load_spec

    _check(options)
    plugins = Plugins.load()
    champion, champion_run = _champion(options)
    plain = load_spec(options.spec, plugins, overrides=options.overrides, unset=options.unset)
    plain.require_installed()
    mixed = mix(champion_run, options.hard_negatives, share=options.share)
    digest = sha256_file(options.hard_negatives)
    name = f"{plain.spec.name}-{digest_json([champion, digest, options.share, plain.values])[:8]}"
    run = Run(name=name, path=options.runs_dir.absolute() / name)
    manifest = run.path / "mixed.csv"
    write_atomic(manifest, mixed.manifest)
    laid_over = [*options.overrides, *overrides(mixed, manifest, name, plain.values)]
    resolved = load_spec(options.spec, plugins, overrides=laid_over, unset=options.unset)
    console.info(f"train: {mixed.train} pictures of the champion's and {mixed.used} of {mixed.given} hard negatives")
    if not mixed.used:
        console.warn(
            f"{options.hard_negatives} has nothing new: the challenger trains on the champion's pictures alone"
        )
    result = execute(run, resolved, plugins, console)
    (first, classes), (second, others) = (answers_of_run(folder, plugins) for folder in (champion_run, run.path))
    if classes != others:
        raise DataError("the challenger has other classes than the champion", path=run.path)
    comparison = compare(first, second, positive=classes["positive"], resamples=options.bootstrap, level=options.level)
    verdict = judge(comparison, options.metric, options.margin, used=mixed.used)
    document = {
        "schema": SCHEMA,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": "promoted" if verdict.promoted else "not_promoted",
        "promoted": verdict.promoted,
        "reason": verdict.reason,
        "metric": options.metric,
        "margin": options.margin,
        "champion": {"bundle_id": champion, "bundle_dir": str(options.champion), "run_dir": str(champion_run)},
        "challenger": {
            "bundle_id": _bundle_id(Path(result["bundle_dir"])),
            "bundle_dir": result["bundle_dir"],
            "run_dir": result["run_dir"],
        },
        "hard_negatives": {"path": str(options.hard_negatives), "sha256": digest, **_counts(mixed)},
        "comparison": comparison,
    }
    # The run always knows what became of it, wherever else the record is wanted.
    for record in (run.path / RECORD, *([options.record] if options.record else [])):
        write_atomic(record, pretty_json(document))
    if console.as_json:
        console.json(document)
    else:
        console.out(f"challenger  {result['bundle_dir']}")
        console.out(f"record      {record}")
        console.out(f"{'promoted' if verdict.promoted else 'not promoted'}: {verdict.reason}")
    return ExitCode.OK if verdict.promoted else ExitCode.VERIFICATION


def _check(options: argparse.Namespace) -> None:
    from roadwork_core.errors import UsageError

    if options.bootstrap < 100 or not 0.5 < options.level < 1:
        raise UsageError("--bootstrap must be at least 100 and --level between 0.5 and 1")
    if not 0 < options.share <= 0.9:
        raise UsageError("--share must be above 0 and at most 0.9")
    if not options.margin >= 0:
        raise UsageError("--margin must not be negative")
    if options.record is not None and options.record.is_dir():
        raise UsageError("is a folder", path=options.record, hint="--record names a file")


def _champion(options: argparse.Namespace) -> tuple[str, Path]:
    """The champion's id, and the run that made it, which must have made this very bundle."""
    from roadwork_core.errors import UsageError
    from roadwork_core.runs.made import run_of

    identity = _bundle_id(options.champion)
    folder: Path | None = options.champion_run or run_of(options.champion, options.runs_dir)
    hint = "--champion-run names the run that did"
    if folder is None:
        raise UsageError(f"no run there made the bundle {identity[:12]}", path=options.runs_dir, hint=hint)
    made = [path.parent for path in folder.glob("bundle/*/bundle.json")]
    if identity not in [_bundle_id(path) for path in made]:
        raise UsageError(f"did not make the bundle {identity[:12]}", path=folder, hint=hint)
    return identity, folder


def _bundle_id(path: Path) -> str:
    from roadwork_core.bundle import Level, verify
    from roadwork_core.errors import VerificationError

    found = verify(path, Level.SCHEMA)
    found.raise_for_failures()
    if found.bundle is None:
        raise VerificationError("the bundle could not be read", path=path)
    return found.bundle.id


def _counts(mixed: Mix) -> dict[str, Any]:
    return {"given": mixed.given, "used": mixed.used, "train": mixed.train}
