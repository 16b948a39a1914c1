"""Metrics of two-class decisions (confusion counts) and of two-class scores (ranking)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike

from .inputs import Floats, binary_labels, scores_1d


@frozen(eq=False)
class Counts:
    """A confusion matrix, or arrays of them of one shape; counts may be weighted, hence float64."""

    tp: Floats
    fp: Floats
    fn: Floats
    tn: Floats

    @property
    def positives(self) -> Floats:
        return self.tp + self.fn

    @property
    def negatives(self) -> Floats:
        return self.fp + self.tn

    @property
    def predicted(self) -> Floats:
        return self.tp + self.fp

    @property
    def total(self) -> Floats:
        total: Floats = self.positives + self.negatives
        return total

    @classmethod
    def from_columns(cls, table: Floats) -> Counts:
        """From an array of shape (..., 4) with columns tp, fp, fn, tn."""
        return cls(table[..., 0], table[..., 1], table[..., 2], table[..., 3])

    def reweighted(self, positive: float, negative: float) -> Counts:
        """Every positive sample counted `positive` times, every negative one `negative` times."""
        return Counts(self.tp * positive, self.fp * negative, self.fn * positive, self.tn * negative)


def confusion(labels: ArrayLike, predictions: ArrayLike, weights: ArrayLike | None = None) -> Counts:
    """Counts of 0/1 `predictions` (n,) against 0/1 `labels` (n,), each a zero-dimensional float64 array."""
    n = np.asarray(labels).shape[0]
    y, predicted = binary_labels(labels, n), binary_labels(predictions, n, "predictions")
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    cells = (y & predicted, ~y & predicted, y & ~predicted, ~y & ~predicted)
    return Counts(*(np.asarray(w[cell].sum()) for cell in cells))


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """numerator / denominator, and 0 where the denominator is 0."""
    top, bottom = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    result: Floats = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)
    return result


def mcc(counts: Counts) -> Floats:
    """Matthews' correlation coefficient; 0 where a row or a column of the matrix is empty (as scikit-learn).

    (TP*N - FP*P) / (sqrt(k*P) sqrt((n-k)*N)) with k predicted positive, which equals the usual form. In float64
    and under two roots, because the product under one root passes the int64 range near n = 120,000.
    """
    p, n, k = counts.positives, counts.negatives, counts.predicted
    roots = np.sqrt(k * p) * np.sqrt((counts.fn + counts.tn) * n)
    return np.clip(ratio(counts.tp * n - counts.fp * p, roots), -1.0, 1.0)


def precision(counts: Counts) -> Floats:
    """TP / (TP + FP); 0 where nothing is predicted positive."""
    return ratio(counts.tp, counts.predicted)


def recall(counts: Counts) -> Floats:
    """TP / P; 0 without positives."""
    return ratio(counts.tp, counts.positives)


def specificity(counts: Counts) -> Floats:
    """TN / N; 0 without negatives."""
    return ratio(counts.tn, counts.negatives)


def f1(counts: Counts) -> Floats:
    """2 TP / (2 TP + FP + FN); 0 where that is 0/0."""
    return ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def accuracy(counts: Counts) -> Floats:
    """(TP + TN) / n; 0 without samples."""
    return ratio(counts.tp + counts.tn, counts.total)


def balanced_accuracy(counts: Counts) -> Floats:
    """Mean recall over the classes that occur (as scikit-learn); 0 without samples."""
    present = (counts.positives > 0).astype(np.float64) + (counts.negatives > 0)
    return ratio(recall(counts) + specificity(counts), present)


def youden(counts: Counts) -> Floats:
    """Youden's J = recall + specificity - 1."""
    result: Floats = recall(counts) + specificity(counts) - 1.0
    return result


CountMetric = Callable[[Counts], Floats]

#: Metrics of decisions, by name; each maps counts of any shape to values of that shape, higher is better.
COUNT_METRICS: Mapping[str, CountMetric] = MappingProxyType(
    {
        "mcc": mcc,
        "f1": f1,
        "balanced_accuracy": balanced_accuracy,
        "accuracy": accuracy,
        "precision": precision,
        "recall": recall,
        "specificity": specificity,
        "youden": youden,
    }
)


def _cumulated(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Distinct scores, descending, with the weight of positives and negatives at or above each."""
    s = scores_1d(scores)
    y = binary_labels(labels, s.size)
    w = np.ones(s.size) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(-s, kind="stable")
    s, y, w = s[order], y[order], w[order]
    last = np.append(np.flatnonzero(s[1:] != s[:-1]), s.size - 1)
    return s[last], np.cumsum(w * y)[last], np.cumsum(w * ~y)[last]


def roc_curve(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> tuple[Floats, Floats, Floats]:
    """(false positive rate, true positive rate, threshold), from nothing predicted (threshold inf) to all."""
    thresholds, tp, fp = _cumulated(scores, labels, weights)
    tpr, fpr = ratio(tp, tp[-1]), ratio(fp, fp[-1])
    return np.append(0.0, fpr), np.append(0.0, tpr), np.append(np.inf, thresholds)


def pr_curve(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> tuple[Floats, Floats, Floats]:
    """(precision, recall, threshold) per distinct score, descending; no point is invented at recall 0."""
    thresholds, tp, fp = _cumulated(scores, labels, weights)
    return ratio(tp, tp + fp), ratio(tp, tp[-1]), thresholds


def auroc(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve, ties counted half; nan when a class is absent."""
    _, tp, fp = _cumulated(scores, labels, weights)
    if tp[-1] == 0 or fp[-1] == 0:
        return float("nan")
    tp, fp = np.append(0.0, tp), np.append(0.0, fp)
    area = np.sum(np.diff(fp) * (tp[1:] + tp[:-1])) / 2.0
    return float(area / (tp[-1] * fp[-1]))


def average_precision(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Sum of precision x the step in recall (no interpolation, as scikit-learn); nan without positives."""
    _, tp, fp = _cumulated(scores, labels, weights)
    if tp[-1] == 0:
        return float("nan")
    return float(np.sum(np.diff(np.append(0.0, tp)) * ratio(tp, tp + fp)) / tp[-1])


ScoreMetric = Callable[[ArrayLike, ArrayLike, ArrayLike | None], float]

#: Metrics of scores, by name: (scores, labels, weights) -> value.
SCORE_METRICS: Mapping[str, ScoreMetric] = MappingProxyType({"auroc": auroc, "average_precision": average_precision})
