"""What changes on labelled pictures when something else scores in the place of a bundle's own network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..console import Console
from .compare import Answers, compare
from .labelled_set import dataset_for, read_labelled
from .measure import Labelled, decide_all

if TYPE_CHECKING:
    from ..bundle.deciding import Decider
    from ..bundle.runtime import Runtime
    from ..decisions import Decisions
    from ..inference import Scorer
    from ..plugins import Plugins

#: Of `compare`'s figures, those that a decision alone determines.
SHOWN = ("mcc", "accuracy", "coverage")


def compare_substitute(
    runtime: Runtime, scorer: Scorer, decider: Decider, where: str, plugins: Plugins, report: Callable[[str], None]
) -> dict[str, Any]:
    """The bundle and its substitute on one labelled set, as JSON: by policy, the share of equal decisions, and MCC,
    accuracy and coverage of `first` (the bundle) and `second`, with second less first in a paired 95 % interval.

    `where` is a folder with one folder per class, a manifest, or the name of a dataset component; `scorer` needs
    `logits` and `min_side`. MCC and accuracy are those of decisions that may not abstain. Raises UsageError for what
    is no labelled set, DataError for labels that are not the bundle's or pictures that cannot be read.
    """
    from .scoring import score_rows

    bundle, quiet, name = runtime.bundle, Console(verbosity=-1), Path(where).name
    max_pixels = bundle.manifest["signature"]["input"]["max_pixels"]
    component = dataset_for(where, (), plugins)
    with tempfile.TemporaryDirectory() as cache:
        found = read_labelled(
            component, name, bundle.labels, plugins, quiet, cache_dir=Path(cache), max_pixels=max_pixels
        )
        report(f"measuring on the {len(found.rows)} pictures of {name}")
        sets = [
            Labelled(
                logits=score_rows(
                    one, found.rows, classes=len(bundle.labels), name=name, console=quiet, max_pixels=max_pixels
                ),
                rows=found.rows,
                classes=bundle.labels,
                name=name,
            )
            for one in (runtime.scorer, scorer)
        ]
    before, after = decide_all(runtime.decider, sets[0])[0], decide_all(decider, sets[1])[0]
    keys = [str(row.index) for row in found.rows]
    policies = {}
    for policy in sorted(before):
        first, second = (
            Answers(
                keys=keys,
                targets=sets[0].targets,
                groups=sets[0].groups,
                answering=answering,
                answered=~plain.abstain,
            )
            for plain, answering in (before[policy], after[policy])
        )
        figures = compare(first, second, positive=bundle.positive)["metrics"]
        policies[policy] = {
            "agreement": agreement(before[policy][0], after[policy][0]),
            **{metric: _plain(figures[metric]) for metric in SHOWN},
        }
    groups = len(np.unique(sets[0].groups.astype(str)))
    return {"data": name, "n": len(found.rows), "groups": groups, "policies": policies}


def agreement(first: Decisions, second: Decisions) -> float:
    """The share of samples with the same label, or the same abstention, and the same set."""
    same = (first.labels == second.labels) & (first.sets == second.sets).all(axis=1)
    return float(same.mean())


def _plain(figure: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: figure["difference"][key] for key in ("value", "low", "high", "level")}
    return {"first": figure["first"], "second": figure["second"], "difference": shown}
