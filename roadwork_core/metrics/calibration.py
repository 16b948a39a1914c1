"""How far probabilities are from frequencies: proper scores, calibration error with its null, reliability."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike

from .binary import ratio
from .inputs import Floats, Integers, InvalidScores, binary_labels, class_labels, scores_1d, weighted_mean
from .logits import as_logits, log_softmax, softmax


class Binning(StrEnum):
    """Bins of equal width, (low, high] with 0 in the first; or of equal count in order of confidence."""

    EQUAL_WIDTH = "equal_width"
    EQUAL_MASS = "equal_mass"


@frozen(eq=False)
class Reliability:
    """A reliability table: per bin its edges, count, mean confidence and mean outcome (0 where empty)."""

    low: Floats
    high: Floats
    count: Integers
    confidence: Floats
    outcome: Floats

    def rows(self) -> list[dict[str, float]]:
        """One row a non-empty bin."""
        columns = (self.low, self.high, self.count, self.confidence, self.outcome)
        names = ("low", "high", "count", "confidence", "outcome")
        table = zip(*(column.tolist() for column in columns), strict=True)
        return [dict(zip(names, row, strict=True)) for row in table if row[2]]


def positive_class(logits: ArrayLike, labels: ArrayLike, positive: int = 1) -> tuple[Floats, Floats]:
    """(P(positive), whether the label is positive), both (n,): the positive-class view of calibration."""
    array = as_logits(logits)
    y = class_labels(labels, array.shape[0], array.shape[1])
    return softmax(array)[:, positive], (y == positive).astype(np.float64)


def top_label(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """(largest probability, whether that class is the label), both (n,): the top-label view."""
    array = as_logits(logits)
    y = class_labels(labels, array.shape[0], array.shape[1])
    return softmax(array).max(axis=1), (array.argmax(axis=1) == y).astype(np.float64)


def _probabilities(confidence: ArrayLike) -> Floats:
    p = scores_1d(confidence, "confidences")
    if ((p < 0) | (p > 1)).any():
        raise InvalidScores("confidences must lie in [0, 1]")
    return p


def _bins(p: Floats, bins: int, binning: Binning) -> Integers:
    if bins < 1:
        raise InvalidScores(f"bins must be at least 1, not {bins}")
    if binning is Binning.EQUAL_WIDTH:
        edges = np.linspace(0.0, 1.0, bins + 1)
        return np.searchsorted(edges[1:-1], p, side="left").astype(np.int64)
    rank = np.empty(p.size, dtype=np.int64)
    rank[np.argsort(p, kind="stable")] = np.arange(p.size)
    bin_of = rank * bins // p.size
    # Equal confidences share a bin, the lowest any of them falls in: the order of samples is no matter.
    _, inverse = np.unique(p, return_inverse=True)
    lowest = np.full(int(inverse.max()) + 1, bins, dtype=np.int64)
    np.minimum.at(lowest, inverse, bin_of)
    return lowest[inverse]


def reliability(
    confidence: ArrayLike, outcome: ArrayLike, *, bins: int = 15, binning: Binning = Binning.EQUAL_WIDTH
) -> Reliability:
    """The reliability table of `confidence` (n,) in [0, 1] against 0/1 `outcome` (n,)."""
    p = _probabilities(confidence)
    y = binary_labels(outcome, p.size, "outcomes").astype(np.float64)
    index = _bins(p, bins, Binning(binning))
    count = np.bincount(index, minlength=bins)
    if binning == Binning.EQUAL_WIDTH:
        edges = np.linspace(0.0, 1.0, bins + 1)
        low, high = edges[:-1], edges[1:]
    else:
        low, high = np.full(bins, np.inf), np.full(bins, -np.inf)
        np.minimum.at(low, index, p)
        np.maximum.at(high, index, p)
    n = count.astype(np.float64)
    sums = (np.bincount(index, weights=values, minlength=bins) for values in (p, y))
    mean_p, mean_y = (ratio(total.astype(np.float64), n) for total in sums)
    return Reliability(low, high, count.astype(np.int64), mean_p, mean_y)


def ece(confidence: ArrayLike, outcome: ArrayLike, *, bins: int = 15, binning: Binning = Binning.EQUAL_WIDTH) -> float:
    """Expected calibration error (Naeini et al., 2015): mean |confidence - outcome| of bins, by count."""
    table = reliability(confidence, outcome, bins=bins, binning=binning)
    gaps = np.abs(table.confidence - table.outcome)
    return float(np.sum(table.count * gaps) / table.count.sum())


def debiased_ece(
    confidence: ArrayLike, outcome: ArrayLike, *, bins: int = 15, binning: Binning = Binning.EQUAL_MASS
) -> float:
    """Root mean squared calibration error without the bias of finite bins (Kumar et al., 2019, section 5).

    From each bin's squared gap the variance of its mean outcome, y(1-y)/(n_b - 1), is taken off; bins of one
    sample are left out; a sum below 0 gives 0.
    """
    table = reliability(confidence, outcome, bins=bins, binning=binning)
    kept = table.count > 1
    if not kept.any():
        return 0.0
    n, p, y = table.count[kept], table.confidence[kept], table.outcome[kept]
    squared = (p - y) ** 2 - y * (1.0 - y) / (n - 1)
    return float(np.sqrt(max(0.0, float(np.sum(n * squared) / n.sum()))))


def classwise_ece(
    logits: ArrayLike, labels: ArrayLike, *, bins: int = 15, binning: Binning = Binning.EQUAL_WIDTH
) -> float:
    """Mean over the classes of the ECE of that class's probability (Kull et al., 2019, "Beyond temperature scaling").

    `logits` (n, C), `labels` int (n,). For two classes it is the ECE of the positive class, but for the edges of
    bins.
    """
    p = softmax(as_logits(logits))
    y = class_labels(labels, p.shape[0], p.shape[1])
    errors = [ece(p[:, index], y == index, bins=bins, binning=binning) for index in range(p.shape[1])]
    return float(np.mean(errors))


@frozen
class CalibrationError:
    """ECE with what a perfectly calibrated model of the same confidences would show.

    `null_mean` and `null_95` are the mean and the 95 % quantile under that null; `p_value` is the share of
    null draws at least as large, counting the data as one of them.
    """

    value: float
    null_mean: float
    null_95: float
    p_value: float
    bins: int
    binning: Binning
    n: int

    def to_json(self) -> dict[str, object]:
        """All fields as plain JSON values."""
        return {
            "value": self.value,
            "null_mean": self.null_mean,
            "null_95": self.null_95,
            "p_value": self.p_value,
            "bins": self.bins,
            "binning": self.binning.value,
            "n": self.n,
        }


def ece_null(
    confidence: ArrayLike,
    *,
    bins: int = 15,
    binning: Binning = Binning.EQUAL_WIDTH,
    draws: int = 500,
    seed: int = 0,
) -> Floats:
    """The ECE (draws,) of outcomes drawn as Bernoulli(confidence) (n,), each independently, binned as the data are."""
    p = _probabilities(confidence)
    index = _bins(p, bins, Binning(binning))
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    sums = np.add.reduceat(p[order], starts)
    rng = np.random.default_rng(seed)
    null = np.empty(draws)
    chunk = max(1, 4_000_000 // p.size)
    for begin in range(0, draws, chunk):
        size = min(chunk, draws - begin)
        simulated = (rng.random((size, p.size)) < p[order]).astype(np.float64)
        hits = np.add.reduceat(simulated, starts, axis=1)
        null[begin : begin + size] = np.abs(hits - sums).sum(axis=1) / p.size
    return null


def ece_with_null(
    confidence: ArrayLike,
    outcome: ArrayLike,
    *,
    bins: int = 15,
    binning: Binning = Binning.EQUAL_WIDTH,
    draws: int = 500,
    seed: int = 0,
) -> CalibrationError:
    """ECE and its null by simulation: outcomes drawn as Bernoulli(confidence), binned as the data are.

    A small sample shows a large ECE without any miscalibration, so the value alone says little
    (Vaicenavicius et al., 2019).
    """
    p = _probabilities(confidence)
    value = ece(p, outcome, bins=bins, binning=binning)
    null = ece_null(p, bins=bins, binning=binning, draws=draws, seed=seed)
    at_least = int(np.sum(null >= value - 1e-12))
    return CalibrationError(
        value=value,
        null_mean=float(null.mean()),
        null_95=float(np.quantile(null, 0.95)),
        p_value=(1 + at_least) / (draws + 1),
        bins=bins,
        binning=Binning(binning),
        n=p.size,
    )


def brier(confidence: ArrayLike, outcome: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean (p - y)^2 of the positive-class probability (Brier, 1950; the halved two-class form)."""
    p = _probabilities(confidence)
    y = binary_labels(outcome, p.size, "outcomes")
    return weighted_mean((p - y) ** 2, weights)


def nll(logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Mean negative log likelihood in nats of `labels` (n,) under softmax(`logits`) (n, classes)."""
    array = as_logits(logits)
    if array.shape[0] == 0:
        raise InvalidScores("there are no logits", hint="give at least one sample")
    y = class_labels(labels, array.shape[0], array.shape[1])
    losses = -np.take_along_axis(log_softmax(array), y[:, None], axis=1)[:, 0]
    return weighted_mean(losses, weights)
