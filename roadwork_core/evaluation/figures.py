"""Which plots show a labelled set's figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..report import figures as plots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..decisions import Decisions


def draw_decisions(
    metrics: Mapping[str, Any],
    decisions: Decisions,
    targets: NDArray[np.int64],
    documents: Mapping[str, Mapping[str, Any]],
) -> list[plots.Figure]:
    """Confusion, ROC, precision and recall, scores, reliability, and risk against coverage of the active policy.

    `metrics` are those of `measure`; `targets` int64 (n,) are class indices; `documents` the policies' documents.
    """
    positive = metrics["classes"].index(metrics["positive"])
    truth = targets == positive
    active = metrics["policies"][metrics["active"]]
    drawn = [plots.confusion(metrics["confusion"], metrics["split"])]
    if truth.any() and not truth.all():
        answered = ~decisions.abstain
        said = decisions.labels == positive
        recall = _share(said, answered & truth)
        working = _point(_share(said, answered & ~truth), recall)
        precise = _point(recall, _share(truth, answered & said))
        of = "of the pictures it answers" if active["abstains"] else "of all pictures"
        drawn.append(plots.roc(decisions.scores, truth, working, of))
        drawn.append(plots.precision_recall(decisions.scores, truth, precise))
    names = (metrics["negative"] or "other classes", metrics["positive"])
    drawn += [
        plots.score_histogram(decisions.scores, truth, names, cut_of(documents[metrics["active"]])),
        plots.calibration(decisions.scores, truth, active["scores"]["ece"]),
        plots.risk_against_coverage(
            decisions.scores,
            truth,
            {
                name: (entry["coverage"]["value"], entry["selective_risk"]["value"])
                for name, entry in metrics["policies"].items()
                if entry["selective_risk"]["value"] is not None
            },
        ),
    ]
    return drawn


def cut_of(document: Mapping[str, Any]) -> float | None:
    """The cut on P(positive) that a policy says that it has."""
    cut = document["summary"].get("threshold_probability")
    return float(cut) if isinstance(cut, int | float) else None


def _share(hit: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(hit[among].mean()) if among.any() else None


def _point(x: float | None, y: float | None) -> tuple[float, float] | None:
    return None if x is None or y is None else (x, y)
