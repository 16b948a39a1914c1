"""`roadwork drift`: whether what is served still looks like what the bundle was measured on."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadwork_core.bundle import Bundle
    from roadwork_core.console import Console
    from roadwork_core.evaluation.served import Served


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    parser.add_argument(
        "--scores",
        type=Path,
        required=True,
        metavar="FILE",
        help="what was served: a feedback store, or CSV or Parquet with logit_0, logit_1, ... and, where known, label,"
        " group, feature_0, ...",
    )
    parser.add_argument("--days", type=float, metavar="N", help="only predictions of the last N days of a store")
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="the same of the evidence, or of a time when all was well"
        " (default: score/test.csv of the run that made the bundle)",
    )
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where to look for that run, if the bundle does not lie in it (default: runs)",
    )
    parser.add_argument("--policy", metavar="NAME", help="(default: the active one)")
    parser.add_argument(
        "--alpha", type=float, default=0.01, metavar="P", help="probability of a false alarm in all (default: 0.01)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.bundle.runtime import make_decider
    from roadwork_core.errors import ExitCode, UsageError
    from roadwork_core.evaluation.drift import SCHEMA, Status, compare_served
    from roadwork_core.plugins import Plugins

    from .bundle import _read

    if not 0 < options.alpha < 0.5:
        raise UsageError(f"--alpha must lie between 0 and 0.5, got {options.alpha:g}")
    if options.days is not None and not options.days > 0:
        raise UsageError(f"--days must be above 0, got {options.days:g}")
    bundle = _read(options.bundle)
    name = bundle.policy_for(policy=options.policy)
    decider = make_decider(bundle, Plugins.load())
    served = _served(options.scores, bundle, options.days)
    place = options.reference or _evidence(options.bundle, options.runs_dir)
    reference = _served(place, bundle) if place else None
    if reference is None:
        console.info("no reference scores: only the abstention rate and labels can be compared (--reference FILE)")
    found = compare_served(
        served,
        reference,
        decider,
        bundle.policies[name],
        bundle.manifest["evidence"].get(name, {}),
        alpha=options.alpha,
    )
    document = {
        "schema": SCHEMA,
        "status": found["status"],
        "bundle_id": bundle.id,
        "policy": name,
        "reference": str(place) if place else None,
        "alpha": options.alpha,
        **found,
    }
    if console.as_json:
        console.json(document)
    else:
        _print(document, console)
    return {Status.DRIFT: ExitCode.VERIFICATION, Status.NOT_COMPARED: ExitCode.FAILED}.get(found["status"], ExitCode.OK)


def _served(path: Path, bundle: Bundle, days: float | None = None) -> Served:
    """Samples of a scores file, or of a feedback store (of the last `days` of it)."""
    from roadwork_core.errors import UsageError
    from roadwork_core.evaluation.served import read_served, served_of_store
    from roadwork_core.feedback import FeedbackStore
    from roadwork_core.feedback.store import is_store

    if is_store(path):
        since = None if days is None else time.time() - 86_400 * days
        with FeedbackStore(path, create=False) as store:
            return served_of_store(store, bundle.labels, bundle_id=bundle.id, since=since)
    if days is not None:
        raise UsageError("--days is for a feedback store", path=path)
    return read_served(path, classes=len(bundle.labels))


def _evidence(bundle: Path, runs_dir: Path) -> Path | None:
    """The scores that the bundle's evidence was measured on, where its run is known."""
    from roadwork_core.runs.made import run_of

    run = run_of(bundle, runs_dir)
    return run / "score" / "test.csv" if run is not None and (run / "score" / "test.csv").is_file() else None


def _print(document: Mapping[str, Any], console: Console) -> None:
    for row in document["checks"]:
        mark = "*" if row["differs"] else " "
        console.out(f"{mark} {row['check']:<11} {row['value']:.4f}  p {row['p_adjusted']:.4f}  {row['says']}")
    console.out(document["text"])
