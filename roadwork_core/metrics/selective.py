"""Metrics of answers given and withheld: risk against coverage, abstention, prediction sets."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike, NDArray

from .binary import ratio
from .inputs import Booleans, Floats, InvalidScores, class_labels, scores_1d, weighted_mean


@frozen(eq=False)
class RiskCoverage:
    """Mean loss of the most confident samples; one point per distinct confidence, coverage rising."""

    confidence: Floats
    coverage: Floats
    risk: Floats


def _sorted(confidence: ArrayLike, losses: ArrayLike) -> tuple[Floats, Floats, NDArray[np.int64]]:
    c, loss = scores_1d(confidence, "confidences"), scores_1d(losses, "losses")
    if c.shape != loss.shape:
        raise InvalidScores(f"losses must have shape {c.shape}, not {loss.shape}")
    order = np.argsort(-c, kind="stable")
    c, loss = c[order], loss[order]
    return c, loss, np.append(np.flatnonzero(c[1:] != c[:-1]), c.size - 1).astype(np.int64)


def risk_coverage(confidence: ArrayLike, losses: ArrayLike) -> RiskCoverage:
    """The risk-coverage curve (El-Yaniv and Wiener, 2010) of `losses` (n,), most confident (n,) first."""
    c, loss, last = _sorted(confidence, losses)
    answered = last + 1.0
    return RiskCoverage(c[last], answered / c.size, np.cumsum(loss)[last] / answered)


def aurc(confidence: ArrayLike, losses: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the risk-coverage curve: mean over k of the risk of the k most confident (Geifman, 2019).

    Samples of equal confidence are averaged over all their orders, so the order of the input does not matter.
    `weights` (n,) are whole numbers, how often each sample counts (as a bootstrap draws them); nan where all are 0.
    """
    c, loss, last = _sorted(confidence, losses)
    if weights is None:
        counts = np.ones(c.size)
    else:
        counts = np.asarray(weights, dtype=np.float64)[np.argsort(-scores_1d(confidence, "confidences"), kind="stable")]
    first = np.concatenate([[0], last[:-1] + 1]) if last.size else last
    size = np.add.reduceat(counts, first)
    total = np.add.reduceat(counts * loss, first)
    after = np.cumsum(size)
    if after[-1] == 0:
        return float("nan")
    mean = ratio(total, size)
    before, lost = after - size, np.cumsum(total) - total
    # Over the k of one tie group the risk is (lost + mean * (k - before)) / k: a sum of 1/k, twice.
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1.0, after[-1] + 1.0))])
    reciprocals = harmonic[after.astype(np.int64)] - harmonic[before.astype(np.int64)]
    return float(np.sum(mean * size + (lost - mean * before) * reciprocals) / after[-1])


def risk_at_coverage(confidence: ArrayLike, losses: ArrayLike, coverage: float) -> float:
    """The risk at the first point of the curve whose coverage is at least `coverage`."""
    if not 0.0 < coverage <= 1.0:
        raise InvalidScores(f"coverage must lie in (0, 1], not {coverage}")
    curve = risk_coverage(confidence, losses)
    return float(curve.risk[np.searchsorted(curve.coverage, coverage - 1e-12)])


@frozen
class SelectiveCounts:
    """What a deciding policy did: `answered` of `n`, of which `wrong` were wrong."""

    n: int
    answered: int
    wrong: int

    @property
    def abstention(self) -> float:
        """Share of samples without an answer."""
        return 1.0 - self.coverage

    @property
    def coverage(self) -> float:
        """Share of samples with an answer; 0 without samples."""
        return self.answered / self.n if self.n else 0.0

    @property
    def risk(self) -> float:
        """Share of wrong answers among the answers given; nan when none was given."""
        return self.wrong / self.answered if self.answered else float("nan")


def selective_counts(answers: ArrayLike, labels: ArrayLike, abstained: ArrayLike) -> SelectiveCounts:
    """Counts of `answers` (n,) against `labels` (n,), where `abstained` (n,) marks the answers withheld."""
    given = ~np.asarray(abstained, dtype=np.bool_)
    wrong = given & (np.asarray(answers) != np.asarray(labels))
    return SelectiveCounts(int(given.size), int(given.sum()), int(wrong.sum()))


def set_coverage(sets: Booleans, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Share of samples whose set holds the label; `sets` is a membership table (n, classes)."""
    y = class_labels(labels, sets.shape[0], sets.shape[1])
    inside = np.take_along_axis(sets, y[:, None], axis=1)[:, 0]
    return weighted_mean(inside.astype(np.float64), weights)


def coverage_by_class(sets: Booleans, labels: ArrayLike) -> Floats:
    """`set_coverage` within each true class, shape (classes,); nan for a class that does not occur."""
    y = class_labels(labels, sets.shape[0], sets.shape[1])
    inside = np.take_along_axis(sets, y[:, None], axis=1)[:, 0]
    total = np.bincount(y, minlength=sets.shape[1]).astype(np.float64)
    hits = np.bincount(y, weights=inside, minlength=sets.shape[1]).astype(np.float64)
    return np.where(total > 0, ratio(hits, total), np.nan)


def mean_set_size(sets: Booleans) -> float:
    """Mean number of labels in a set; nan without samples."""
    return float(sets.sum(axis=1).mean()) if sets.shape[0] else float("nan")
