"""How well a candidate does on val_select, cross-fitted, and which one to take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from roadwork_core.learned_tta import LearnedTta, TtaFitContext, ViewScores
from roadwork_core.metrics import Estimate, bootstrap, bootstrap_counts, group_counts, log_softmax, mcc

from .learned import temperatures

if TYPE_CHECKING:
    from roadwork_core.kinds import Tta

Floats = NDArray[np.float64]
SPLIT = "val_select"


@frozen(kw_only=True)
class Judged:
    """`losses` (n,) are the samples' negative log-likelihoods, `cost` is in units of one view of the model's size."""

    name: str
    views: int
    cost: float
    losses: Floats
    groups: NDArray[np.int64]
    nll: Estimate
    mcc: Estimate

    def __str__(self) -> str:
        return f"{self.views} views, cost {self.cost:.2f}, NLL {self.nll}, MCC {self.mcc}"

    def to_json(self, best: Judged) -> dict[str, Any]:
        """Plain JSON without the samples' losses; `behind` is its mean loss above that of the best candidate."""
        behind = {
            "value": _behind(self, best),
            "standard_error": standard_error(self.losses - best.losses, self.groups),
        }
        record = {"name": self.name, "views": self.views, "cost": self.cost, "behind": behind}
        return {**record, "nll": self.nll.to_json(), "mcc": self.mcc.to_json()}


def table(judged: Sequence[Mapping[str, Any]], chosen: str) -> dict[str, Any]:
    """The candidates for people, from their JSON."""
    columns = ["candidate", "views", "cost", "NLL", "above the best (standard error)", "MCC", ""]
    rows = [
        [
            *(one["name"], str(one["views"]), f"{one['cost']:.2f} x", _shown(one["nll"])),
            f"{one['behind']['value']:.4f} ({one['behind']['standard_error']:.4f})",
            _shown(one["mcc"]),
            "chosen" if one["name"] == chosen else "",
        ]
        for one in judged
    ]
    return {"columns": columns, "rows": rows}


def _shown(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "n/a"
    if figure["low"] is None or figure["high"] is None:
        return f"{figure['value']:.4f}"
    return f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})"


def judge(name: str, tta: Tta, ctx: TtaFitContext, *, cost: float, folds: int) -> Judged:
    """A candidate's negative log-likelihood after a temperature, and its MCC where the likelier class is answered.

    Temperature and fusion (where it learns on val_select) are fitted on the other folds; groups are never divided.
    What is learned on train is learned once.
    """
    scores = ctx.splits[SPLIT]
    fold = _folds(scores.groups, folds, ctx.seed)
    learns = cast("Mapping[str, int | None]", getattr(tta, "fits_on", {}))
    ready = tta
    if learns and SPLIT not in learns:
        ready = _restored(tta, ctx)
    calibrated = np.empty(scores.logits.shape[1:])
    for number in np.unique(fold):
        inside, outside = fold != number, fold == number
        if not inside.any():
            inside = outside
        if SPLIT in learns:
            ready = _restored(tta, attrs.evolve(ctx, splits={**ctx.splits, SPLIT: _part(scores, inside)}))
        fused = ready.fuse(np.ascontiguousarray(scores.logits[:, inside]))
        temperature = temperatures(fused[None], scores.labels[inside])[0]
        calibrated[outside] = ready.fuse(np.ascontiguousarray(scores.logits[:, outside])) / temperature
    losses = -log_softmax(calibrated)[np.arange(len(fold)), scores.labels]
    answers = calibrated.argmax(axis=1) == ctx.positive
    counts = group_counts((scores.labels == ctx.positive).astype(int), answers.astype(int), scores.groups)
    return Judged(
        name=name,
        views=len(tta.view_ids),
        cost=cost,
        losses=losses,
        groups=scores.groups,
        nll=bootstrap(lambda w: float((w * losses).sum() / w.sum()), scores.groups, resamples=1000, seed=ctx.seed),
        mcc=bootstrap_counts(counts, mcc, resamples=1000, seed=ctx.seed),
    )


def best_of(judged: Sequence[Judged]) -> Judged:
    """The candidate of least loss; of equals the cheapest."""
    return min(judged, key=lambda one: (one.losses.mean(), one.cost))


def pick(judged: Sequence[Judged], errors: float) -> int:
    """The cheapest candidate whose loss is at most `errors` standard errors above the best one's (Breiman, 1984).

    The standard error is that of the paired difference, over groups.
    """
    best = best_of(judged)
    near = [number for number, one in enumerate(judged) if _behind(one, best) <= 0 or _within(one, best, errors)]
    return min(near, key=lambda number: (judged[number].cost, judged[number].losses.mean()))


def _behind(one: Judged, best: Judged) -> float:
    return float((one.losses - best.losses).mean())


def _within(one: Judged, best: Judged, errors: float) -> bool:
    return _behind(one, best) <= errors * standard_error(one.losses - best.losses, one.groups)


def standard_error(values: Floats, groups: NDArray[np.int64]) -> float:
    """Of the mean of (n,) values that may be alike within a group; 0 where there are fewer than two groups."""
    _, codes = np.unique(groups, return_inverse=True)
    totals = np.bincount(codes, weights=values - values.mean())
    if len(totals) < 2:
        return 0.0
    return math.sqrt(len(totals) / (len(totals) - 1) * float((totals**2).sum())) / len(values)


def _folds(groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    unique, codes = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(unique))
    found: NDArray[np.int64] = (order % min(folds, len(unique)))[codes]
    return found


def _part(scores: ViewScores, inside: NDArray[np.bool_]) -> ViewScores:
    return ViewScores(
        logits=np.ascontiguousarray(scores.logits[:, inside]),
        labels=scores.labels[inside],
        groups=scores.groups[inside],
    )


def _restored(tta: Tta, ctx: TtaFitContext) -> Tta:
    learned = cast(LearnedTta, tta)
    return learned.restore(learned.fit(ctx))
