"""The best cut on margins for a metric of decisions: exact, by one sort, never by a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from attrs import field, frozen, validators
from numpy.typing import ArrayLike

from .binary import COUNT_METRICS, Counts, precision, ratio, recall
from .inputs import Booleans, Floats, Integers, InvalidScores, binary_labels, scores_1d
from .logits import sigmoid

TIE_RULE = "positive iff margin >= threshold; midpoint cut; of equal values the widest gap, then the highest cut"
SAME_VALUE = 1e-12


def _positive(instance: object, attribute: object, value: float) -> None:
    if not (np.isfinite(value) and value >= 0):
        raise InvalidScores(f"costs must be finite and not negative, not {value}")


@frozen(kw_only=True)
class Objective:
    """What a cut is judged by: the metric's name and what that metric needs to know.

    `cost` is the mean cost per sample, `fp_cost` of a false positive and `fn_cost` of a false negative.
    """

    metric: str = field(default="mcc", validator=validators.instance_of(str))
    fp_cost: float = field(default=1.0, validator=_positive)
    fn_cost: float = field(default=1.0, validator=_positive)
    min_precision: float = 0.9
    min_recall: float = 0.9

    def __attrs_post_init__(self) -> None:
        if self.metric not in OBJECTIVES:
            raise InvalidScores(
                f"no metric {self.metric!r} to choose a cut by",
                hint=f"one of {', '.join(sorted(OBJECTIVES))}",
            )

    def value(self, counts: Counts) -> Floats:
        """The metric itself, as it is reported; same shape as the counts."""
        return OBJECTIVES[self.metric](self, counts)[0]

    def utility(self, counts: Counts) -> Floats:
        """What is maximised: -inf where the constraint fails, the negated cost for `cost`, else the value."""
        value, allowed = OBJECTIVES[self.metric](self, counts)
        return np.where(allowed, -value if self.metric == "cost" else value, -np.inf)


Judge = Callable[[Objective, Counts], tuple[Floats, Booleans]]


def _plain(name: str) -> Judge:
    metric = COUNT_METRICS[name]
    return lambda _, counts: (metric(counts), np.asarray(True))


def _cost(objective: Objective, counts: Counts) -> tuple[Floats, Booleans]:
    total = objective.fp_cost * counts.fp + objective.fn_cost * counts.fn
    return ratio(total, counts.total), np.asarray(True)


def _recall_at_precision(objective: Objective, counts: Counts) -> tuple[Floats, Booleans]:
    allowed = (precision(counts) >= objective.min_precision) & (counts.predicted > 0)
    return recall(counts), allowed


def _precision_at_recall(objective: Objective, counts: Counts) -> tuple[Floats, Booleans]:
    return precision(counts), recall(counts) >= objective.min_recall


#: Every metric that a cut can be chosen by: (objective, counts) -> (values, where the constraint holds).
OBJECTIVES: Mapping[str, Judge] = MappingProxyType(
    {
        **{name: _plain(name) for name in ("mcc", "f1", "balanced_accuracy", "accuracy", "youden")},
        "cost": _cost,
        "recall_at_precision": _recall_at_precision,
        "precision_at_recall": _precision_at_recall,
    }
)


@frozen(eq=False)
class Cuts:
    """All distinct cuts of a set of margins, from "nothing predicted" down to "everything predicted".

    `low` and `high` (m + 1,) are each cut's neighbouring margins: any threshold in (low, high] decides alike.
    """

    order: Integers
    last: Integers
    low: Floats
    high: Floats

    @classmethod
    def of(cls, margins: Floats) -> Cuts:
        order = np.argsort(-margins, kind="stable")
        ordered = margins[order]
        last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), ordered.size - 1)
        distinct = ordered[last]
        return cls(order, last, np.append(distinct, -np.inf), np.append(np.inf, distinct))

    def cumulate(self, weights: Floats) -> Floats:
        """Total weight (m + 1,) of the samples decided positive at each cut; `weights` has shape (n,)."""
        return np.append(0.0, np.cumsum(weights[self.order])[self.last])

    def thresholds(self, index: Integers) -> Floats:
        """The middle of each cut's gap; beyond the outermost margins one logit further out."""
        low, high = self.low[index], self.high[index]
        middle = low / 2.0 + high / 2.0
        inside = np.where((low < middle) & (middle <= high), middle, high)
        above = np.maximum(low + 1.0, np.nextafter(low, np.inf))
        below = np.minimum(high - 1.0, np.nextafter(high, -np.inf))
        result: Floats = np.where(np.isinf(high), above, np.where(np.isinf(low), below, inside))
        return result


@frozen(eq=False)
class Curve:
    """The metric along at most `n_thresholds` cuts, evenly spaced by rank, thresholds descending."""

    threshold: Floats
    value: Floats
    counts: Counts

    def rows(self) -> list[dict[str, float]]:
        """One row a cut, as `threshold_sweep.csv` holds it."""
        columns = {
            "threshold": self.threshold,
            "probability": sigmoid(self.threshold),
            "value": self.value,
            "precision": precision(self.counts),
            "recall": recall(self.counts),
            "tp": self.counts.tp,
            "fp": self.counts.fp,
            "fn": self.counts.fn,
            "tn": self.counts.tn,
        }
        names = list(columns)
        table = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(names, row, strict=True)) for row in table]


@frozen(eq=False)
class SweepResult:
    """The chosen cut. `value` is in the sample the cut was chosen on, so optimistic as an estimate.

    `plateau` is (low, high]: every threshold in it decides the sample alike; infinite at an end.
    """

    metric: str
    threshold: float
    value: float
    plateau: tuple[float, float]
    counts: Counts
    cuts: int
    tie_rule: str = TIE_RULE
    curve: Curve | None = None


def best_cut(
    margins: Floats, positive: Floats, negative: Floats, objective: Objective, n_thresholds: int = 0
) -> SweepResult:
    """The cut with the best objective when sample i counts `positive[i]` as a 1 and `negative[i]` as a 0.

    Hard labels, class weights, resampling counts and probabilities (expected counts) are all such weights.
    All three arrays are float64 of shape (n,). O(n log n). Samples of no weight do not shape the cuts.
    Raises `InvalidScores` when no cut meets the objective's constraint.
    """
    used = (positive > 0) | (negative > 0)
    if not used.all():
        margins, positive, negative = margins[used], positive[used], negative[used]
    if margins.size == 0:
        raise InvalidScores("there are no samples with a weight", hint="give at least one sample")
    cuts = Cuts.of(margins)
    tp, fp = cuts.cumulate(positive), cuts.cumulate(negative)
    counts = Counts(tp, fp, tp[-1] - tp, fp[-1] - fp)
    utility = np.broadcast_to(objective.utility(counts), tp.shape)
    best = utility.max()
    if np.isneginf(best):
        raise InvalidScores(
            f"no cut reaches the constraint of {objective.metric}", hint="ask for less, or give more samples"
        )
    among = np.flatnonzero(utility >= best - SAME_VALUE * max(1.0, abs(best)))
    gap = cuts.high[among] - cuts.low[among]
    index = int(among[np.argmax(np.where(np.isfinite(gap), gap, -1.0))])
    return SweepResult(
        metric=objective.metric,
        threshold=float(cuts.thresholds(np.asarray([index]))[0]),
        value=float(np.broadcast_to(objective.value(counts), tp.shape)[index]),
        plateau=(float(cuts.low[index]), float(cuts.high[index])),
        counts=Counts(*(column[index] for column in (counts.tp, counts.fp, counts.fn, counts.tn))),
        cuts=int(tp.size),
        curve=_curve(cuts, counts, objective, index, n_thresholds) if n_thresholds else None,
    )


def _curve(cuts: Cuts, counts: Counts, objective: Objective, chosen: int, n_thresholds: int) -> Curve:
    size = counts.tp.size
    kept = np.arange(size)
    if size > n_thresholds:
        kept = np.round(np.linspace(0, size - 1, max(n_thresholds - 1, 2))).astype(np.int64)
        kept = np.unique(np.append(kept, chosen))
    part = Counts(counts.tp[kept], counts.fp[kept], counts.fn[kept], counts.tn[kept])
    return Curve(cuts.thresholds(kept), np.broadcast_to(objective.value(part), kept.shape), part)


def class_weights(labels: Booleans, target_prior: float | None) -> tuple[float, float]:
    """Weights (positive, negative) that make `target_prior` the share of positives; the total stays n."""
    return prior_weights(float(labels.mean()), target_prior)


def prior_weights(share: float, target_prior: float | None) -> tuple[float, float]:
    """Weights (positive, negative) that bring a `share` of positives to `target_prior`; the total stays."""
    if target_prior is None:
        return 1.0, 1.0
    if not 0.0 < target_prior < 1.0:
        raise InvalidScores(f"target_prior must lie strictly between 0 and 1, not {target_prior}")
    return target_prior / share, (1.0 - target_prior) / (1.0 - share)


def require_both_classes(labels: Booleans) -> None:
    """Raise `InvalidScores` when only one class occurs, for then no cut is better than another."""
    positives = int(labels.sum())
    if positives in (0, labels.size):
        raise InvalidScores(
            f"all {labels.size} samples are of one class, {'positive' if positives else 'negative'}",
            hint="a cut needs samples of both classes",
        )


def sweep(
    margins: ArrayLike,
    labels: ArrayLike,
    objective: Objective | str = "mcc",
    *,
    target_prior: float | None = None,
    weights: ArrayLike | None = None,
    n_thresholds: int = 5000,
) -> SweepResult:
    """The cut on `margins` (n,) that is exactly optimal for 0/1 `labels` (n,).

    `target_prior` reweights the classes to the share of positives expected in deployment; `weights` (n,)
    counts samples. `n_thresholds` only sets the resolution of the saved curve. Raises `InvalidScores` for no
    samples, non-finite margins or a single class.
    """
    m = scores_1d(margins, "margins")
    y = binary_labels(labels, m.size)
    require_both_classes(y)
    w1, w0 = class_weights(y, target_prior)
    w = np.ones(m.size) if weights is None else np.asarray(weights, dtype=np.float64)
    chosen = Objective(metric=objective) if isinstance(objective, str) else objective
    return best_cut(m, w * y * w1, w * ~y * w0, chosen, n_thresholds)
