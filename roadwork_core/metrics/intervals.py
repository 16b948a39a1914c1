"""Intervals: exact ones for proportions, a group bootstrap for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike, NDArray

from .binary import CountMetric, Counts
from .inputs import Floats, Integers, InvalidScores, binary_labels, group_codes
from .special import beta_quantile, normal_cdf, normal_quantile

Groups = Sequence[Hashable] | NDArray[np.generic] | None

#: Values nearer than this are one, but for rounding.
SAME = 1e-12


@frozen
class Estimate:
    """A value with its interval, of `n` samples in `groups` groups; nan bounds mean "cannot be said"."""

    value: float
    low: float
    high: float
    level: float = 0.95
    method: str = ""
    n: int = 0
    groups: int = 0

    def to_json(self) -> dict[str, object]:
        """Plain JSON; a value that is not finite becomes null."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        finite: dict[str, object] = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        return finite | {"level": self.level, "method": self.method, "n": self.n, "groups": self.groups}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def _check_proportion(successes: int, n: int, level: float) -> None:
    if not 0 <= successes <= n:
        raise InvalidScores(f"successes must lie between 0 and {n}, not {successes}")
    if not 0.0 < level < 1.0:
        raise InvalidScores(f"level must lie strictly between 0 and 1, not {level}")


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """The exact two-sided interval of a proportion (Clopper and Pearson, 1934); [0, 1] when n is 0."""
    _check_proportion(successes, n, level)
    tail = (1.0 - level) / 2.0
    low = beta_quantile(tail, successes, n - successes + 1) if successes else 0.0
    high = beta_quantile(1.0 - tail, successes + 1, n - successes) if successes < n else 1.0
    return Estimate(successes / n if n else math.nan, low, high, level, "clopper_pearson", n, n)


def clopper_pearson_upper(successes: int, n: int, delta: float) -> float:
    """The exact one-sided bound u with P(rate <= u) >= 1 - delta; 1 when n is 0 or every trial succeeded."""
    _check_proportion(successes, n, 1.0 - delta)
    return 1.0 if successes == n else beta_quantile(1.0 - delta, successes + 1, n - successes)


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """The score interval of a proportion (Wilson, 1927); [0, 1] when n is 0."""
    _check_proportion(successes, n, level)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, level, "wilson", 0, 0)
    z = normal_quantile(0.5 + level / 2.0)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Estimate(p, low, high, level, "wilson", n, n)


def resampled_totals(table: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Column totals (resamples, columns) when the rows (groups, columns) are drawn with replacement.

    Rows that are alike are drawn together, as one multinomial, so that 10,000 samples of a confusion matrix
    cost four numbers a resample and not 10,000.
    """
    groups = table.shape[0]
    kinds, frequency = np.unique(table, axis=0, return_counts=True)
    totals = np.empty((resamples, table.shape[1]))
    chunk = max(1, 8_000_000 // len(kinds))
    for begin in range(0, resamples, chunk):
        size = min(chunk, resamples - begin)
        drawn = rng.multinomial(groups, frequency / groups, size=size)
        totals[begin : begin + size] = drawn @ kinds
    return totals


def resampled_weights(codes: Integers, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Per resample the number of times (n,) each sample is drawn when whole groups are drawn."""
    groups = int(codes.max()) + 1
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(0, groups, size=groups), minlength=groups)
        yield drawn.astype(np.float64)[codes]


def percentile_interval(values: Floats, level: float) -> tuple[float, float]:
    """The central `level` of the finite values; nan bounds when fewer than half of them are finite."""
    finite = values[np.isfinite(values)]
    if finite.size == 0 or 2 * finite.size < values.size:
        return math.nan, math.nan
    low, high = np.quantile(finite, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def bca_interval(values: Floats, value: float, jackknife: Floats, level: float) -> tuple[float, float]:
    """Efron's bias-corrected and accelerated interval (1987); the percentile one where it is not defined."""
    finite, jack = values[np.isfinite(values)], jackknife[np.isfinite(jackknife)]
    if finite.size == 0 or 2 * finite.size < values.size or jack.size < 2:
        return percentile_interval(values, level)
    below = (np.sum(finite < value) + 0.5 * np.sum(finite == value)) / finite.size
    spread = jack.mean() - jack
    scale = 6.0 * float(np.sum(spread**2)) ** 1.5
    if not 0.0 < below < 1.0 or scale == 0.0:
        return percentile_interval(values, level)
    bias, acceleration = normal_quantile(float(below)), float(np.sum(spread**3)) / scale
    ends = []
    for tail in ((1.0 - level) / 2.0, (1.0 + level) / 2.0):
        z = bias + normal_quantile(tail)
        denominator = 1.0 - acceleration * z
        if denominator <= 0.0:
            return percentile_interval(values, level)
        ends.append(normal_cdf(bias + z / denominator))
    low, high = np.quantile(finite, ends)
    return float(low), float(high)


def group_counts(
    labels: ArrayLike, predictions: ArrayLike, groups: Groups = None, weights: ArrayLike | None = None
) -> Floats:
    """Confusion counts per group (groups, 4), columns tp, fp, fn, tn, of 0/1 labels and predictions (n,)."""
    n = np.asarray(labels).shape[0]
    y, predicted = binary_labels(labels, n), binary_labels(predictions, n, "predictions")
    codes = group_codes(groups, n)
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    column = np.where(y, np.where(predicted, 0, 2), np.where(predicted, 1, 3))
    count = int(codes.max()) + 1 if n else 0
    flat = np.bincount(codes * 4 + column, weights=w, minlength=4 * count)
    return flat.astype(np.float64).reshape(count, 4)


def bootstrap_counts(
    table: Floats,
    metric: CountMetric,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: str = "bca",
) -> Estimate:
    """The interval of a metric of decisions from its counts per group (groups, 4), by bca or percentile.

    With fewer than two groups nothing can be said of the spread, and the bounds are nan. Where no resample changes
    the metric, the other bound is what the number of groups still allows. Resamples that lack a class are left out:
    a rate of that class is 0 there by convention alone.
    """
    groups, n = table.shape[0], int(table.sum())
    total = table.sum(axis=0)
    value = float(metric(Counts.from_columns(total)))
    if groups < 2:
        return Estimate(value, math.nan, math.nan, level, f"group_bootstrap_{method}", n, groups)
    drawn = resampled_totals(table, resamples, np.random.default_rng(seed))
    values = _where_classes_are(total, drawn, metric(Counts.from_columns(drawn)))
    if method == "bca":
        left = total - table
        jackknife = _where_classes_are(total, left, metric(Counts.from_columns(left)))
        low, high = bca_interval(values, value, jackknife, level)
    else:
        low, high = percentile_interval(values, level)
    if (values[np.isfinite(values)] == value).all():
        reversed_ = table[:, [2, 3, 0, 1]]
        low, high = without_spread(table, reversed_, lambda t: metric(Counts.from_columns(t)), value, level)
    return Estimate(value, low, high, level, f"group_bootstrap_{method}", n, groups)


def _where_classes_are(total: Floats, drawn: Floats, values: Floats) -> Floats:
    """The values (R,) of drawn totals (R, 4), nan where a class of the whole was not drawn."""
    whole, counts = Counts.from_columns(total), Counts.from_columns(drawn)
    lacks = ((counts.positives == 0) & (whole.positives > 0)) | ((counts.negatives == 0) & (whole.negatives > 0))
    return np.where(lacks, np.nan, values)


def without_spread(
    table: Floats, reversed_: Floats, statistic: Callable[[Floats], Floats], value: float, level: float
) -> tuple[float, float]:
    """The interval of a metric that no resample changes, as that of decisions without a mistake.

    `table` are counts per group (groups, k), `reversed_` the same with every decision reversed, and `statistic` takes
    totals (R, k) to metrics (R,). A bootstrap cannot draw what it has not seen. Of G groups whose reversed decisions
    would change the metric none was seen reversed, so with confidence (1 + level) / 2 fewer than
    1 - ((1 - level) / 2)^(1/G) of all are (Clopper and Pearson): the bound is the metric with that share of every
    group's decisions reversed.
    """
    total = table.sum(axis=0)
    moved = int((np.abs(statistic(total - table + reversed_) - value) > SAME).sum())
    if moved == 0:
        return value, value
    share = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / moved)
    other = float(statistic(((1.0 - share) * total + share * reversed_.sum(axis=0))[None])[0])
    return min(value, other), max(value, other)


def bootstrap(
    statistic: Callable[[Floats], float],
    groups: NDArray[np.generic] | Sequence[Hashable],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """The percentile interval of any statistic of sample weights (n,), whole groups drawn with replacement.

    Resamples in which the statistic is not finite are left out. `groups` (n,) names each sample's group.
    """
    n = len(groups)
    codes = group_codes(groups, n)
    value = float(statistic(np.ones(n)))
    count = int(codes.max()) + 1
    if count < 2:
        return Estimate(value, math.nan, math.nan, level, "group_bootstrap_percentile", n, count)
    rng = np.random.default_rng(seed)
    values = np.asarray([statistic(weights) for weights in resampled_weights(codes, resamples, rng)])
    low, high = percentile_interval(values, level)
    return Estimate(value, low, high, level, "group_bootstrap_percentile", n, count)


def paired_difference(
    first: Floats,
    second: Floats,
    metric: CountMetric,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """The interval of metric(second) - metric(first) on the same groups, both drawn together.

    `first` and `second` are counts per group (groups, 4) of two deciders on the same samples. Resamples that lack a
    class are left out. Where the resamples do not tell the two apart and no group is decided worse by the second, the
    lower bound is what the number of groups still allows; where none is decided better, so is the upper one.
    """
    if first.shape != second.shape or not np.allclose(first.sum(axis=1), second.sum(axis=1)):
        raise InvalidScores("a paired difference needs both deciders' counts on the same groups")
    both = np.concatenate([first, second], axis=1)

    def difference(totals: Floats) -> Floats:
        before, after = Counts.from_columns(totals[..., :4]), Counts.from_columns(totals[..., 4:])
        result: Floats = metric(after) - metric(before)
        return result

    value = float(difference(both.sum(axis=0)))
    groups, n = first.shape[0], int(first.sum())
    if groups < 2:
        return Estimate(value, math.nan, math.nan, level, "paired_group_bootstrap", n, groups)
    drawn = resampled_totals(both, resamples, np.random.default_rng(seed))
    values = _where_classes_are(first.sum(axis=0), drawn[:, :4], difference(drawn))
    low, high = percentile_interval(values, level)
    if math.isfinite(low) and math.isfinite(high):
        low, high = _with_the_unseen(first, second, metric, (low, high), level)
    return Estimate(value, low, high, level, "paired_group_bootstrap", n, groups)


def _with_the_unseen(
    first: Floats, second: Floats, metric: CountMetric, bounds: tuple[float, float], level: float
) -> tuple[float, float]:
    """`bounds` of a paired difference that hold 0, widened on a side of which no group speaks.

    Bounds that leave out 0 stay, so that what is shown to differ does not hang on this. A bootstrap cannot draw what it
    has not seen. Where none of the G groups that bear on the metric is decided worse by the second, fewer than
    1 - ((1 - level) / 2)^(1/G) of all are, with confidence (1 + level) / 2 (Clopper and Pearson): the bound is the
    difference where in that share of every group the second is wrong and the first is right, and the rest is as it
    was seen. So for the other side.
    """

    def of(counts: Floats) -> Floats:
        return metric(Counts.from_columns(counts))

    one, two = first.sum(axis=0), second.sum(axis=0)
    positives, negatives, none = first[:, 0] + first[:, 2], first[:, 1] + first[:, 3], np.zeros(first.shape[0])
    right = np.stack([positives, none, none, negatives], axis=1)
    wrong = np.stack([none, negatives, positives, none], axis=1)
    speaking = int((of(one - first + right) != of(one - first + wrong)).sum())
    if speaking == 0:
        return bounds
    share = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / speaking)
    seen = (1.0 - share) * np.stack([one, two])
    better, worse = seen + share * right.sum(axis=0), seen + share * wrong.sum(axis=0)
    moved = np.where((first != second).any(axis=1), of(one - first + second) - of(one), 0.0)
    low, high = bounds
    if low <= 0.0 and not (moved < 0).any():
        low = min(low, float(of(worse[1]) - of(better[0])))
    if high >= 0.0 and not (moved > 0).any():
        high = max(high, float(of(better[1]) - of(worse[0])))
    return low, high
