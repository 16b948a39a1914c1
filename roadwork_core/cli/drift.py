"""`roadwork drift`: whether what is served still looks like what the bundle was measured on."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadwork_core.console import Console


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    parser.add_argument(
        "--scores",
        type=Path,
        required=True,
        metavar="FILE",
        help="what was served, CSV or Parquet: logit_0, logit_1, ... and, where known, label, group, feature_0, ...",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="the same of the evidence (default: score/test.csv of the run that the bundle lies in)",
    )
    parser.add_argument("--policy", metavar="NAME", help="(default: the active one)")
    parser.add_argument(
        "--alpha", type=float, default=0.01, metavar="P", help="probability of a false alarm in all (default: 0.01)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def handle(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.bundle.runtime import make_decider
    from roadwork_core.errors import ExitCode, UsageError
    from roadwork_core.evaluation.drift import SCHEMA, compare_served, read_served
    from roadwork_core.plugins import Plugins

    from .bundle import _read

    if not 0 < options.alpha < 0.5:
        raise UsageError(f"--alpha must lie between 0 and 0.5, got {options.alpha:g}")
    bundle = _read(options.bundle)
    name = bundle.policy_for(policy=options.policy)
    decider = make_decider(bundle, Plugins.load())
    served = read_served(options.scores, classes=len(bundle.labels))
    place = options.reference or _of_its_run(options.bundle)
    reference = read_served(place, classes=len(bundle.labels)) if place else None
    if reference is None:
        console.info("no reference scores: only the abstention rate and labels can be compared (--reference FILE)")
    for what, part in (("--scores", served), ("the reference", reference)):
        if part is not None and len(part.scores) < 2:
            raise UsageError(f"{what} has fewer than two rows")
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
    return ExitCode.VERIFICATION if document["drift"] else ExitCode.OK


def _of_its_run(bundle: Path) -> Path | None:
    """The scores that the bundle's evidence was measured on, where it still lies in its run."""
    folder = bundle.absolute().parent
    found = folder.parent / "score" / "test.csv"
    return found if folder.name == "bundle" and found.is_file() else None


def _print(document: Mapping[str, Any], console: Console) -> None:
    for row in document["checks"]:
        mark = "*" if row["differs"] else " "
        console.out(f"{mark} {row['check']:<11} {row['value']:.4f}  p {row['p_adjusted']:.4f}  {row['says']}")
    console.out(document["text"])
