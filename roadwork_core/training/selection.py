"""Metrics of an epoch on val_select, and which epoch is the best by them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from roadwork_core.errors import DataError
from roadwork_core.metrics import SCORE_METRICS, margin, nll, sweep

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Metrics of which less is better.
LOWER_IS_BETTER = frozenset({"nll"})
#: Metrics of decisions: with two classes at their own best cut on val_select, with more by argmax.
DECISION_METRICS = ("mcc", "f1", "balanced_accuracy", "accuracy")


def epoch_metrics(logits: NDArray[np.float64], labels: NDArray[np.int64], positive: int) -> dict[str, float | None]:
    """Every metric that can select an epoch. `logits` float64 (n, C), finite; `labels` int64 (n,).

    Two classes: metrics of decisions are at the cut of the positive class's margin that is best for each, which is
    what a threshold policy will do, so that an epoch is not punished for a shifted bias. More classes: by argmax,
    with macro-averaged F1 and Gorodkin's R_K as MCC; `auroc` and `average_precision` are the positive class's
    against the rest. None where the split does not define a metric (one class only).
    """
    margins = margin(logits, positive)
    truth = labels == positive
    found: dict[str, float | None] = {"nll": nll(logits, labels)}
    if logits.shape[1] == 2:
        both = bool(truth.any() and not truth.all())
        for name in DECISION_METRICS:
            found[name] = sweep(margins, truth, name, n_thresholds=0).value if both else None
    else:
        table = confusion_table(labels, logits.argmax(axis=1), logits.shape[1])
        found |= {name: metric(table) for name, metric in _ARGMAX.items()}
    for name, score in SCORE_METRICS.items():
        value = score(margins, truth, None)
        found[name] = None if math.isnan(value) else value
    return found


def confusion_table(labels: NDArray[np.int64], predictions: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """Counts, float64 (C, C): rows are the true class, columns the predicted one."""
    flat = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes).astype(np.float64)


def multiclass_mcc(table: NDArray[np.float64]) -> float:
    """R_K of a confusion table (Gorodkin, 2004); 0 where one class alone is true or predicted."""
    n, true, predicted = table.sum(), table.sum(axis=1), table.sum(axis=0)
    covariance = n * np.trace(table) - true @ predicted
    spread = math.sqrt(n * n - true @ true) * math.sqrt(n * n - predicted @ predicted)
    return float(covariance / spread) if spread else 0.0


def _macro_f1(table: NDArray[np.float64]) -> float:
    total = table.sum(axis=0) + table.sum(axis=1)
    used = total > 0
    return float(np.mean(2.0 * np.diag(table)[used] / total[used]))


def _mean_recall(table: NDArray[np.float64]) -> float:
    true = table.sum(axis=1)
    used = true > 0
    return float(np.mean(np.diag(table)[used] / true[used]))


def _accuracy(table: NDArray[np.float64]) -> float:
    return float(np.trace(table) / table.sum())


_ARGMAX: Mapping[str, Callable[[NDArray[np.float64]], float]] = MappingProxyType(
    {"mcc": multiclass_mcc, "f1": _macro_f1, "balanced_accuracy": _mean_recall, "accuracy": _accuracy}
)


@frozen(kw_only=True)
class Best:
    """The chosen epoch (from 1) and the metric's value there."""

    epoch: int
    value: float


def best_epoch(history: Sequence[Mapping[str, Any]], select_by: str) -> Best | None:
    """The epoch whose line has the best `select_by`; of equal ones the earlier. None without history.

    Raises DataError where val_select does not define the metric.
    """
    best: Best | None = None
    for line in history:
        value = line[select_by]
        if value is None:
            raise DataError(
                f"val_select does not define {select_by}, by which the epoch is to be chosen",
                hint='give val_select samples of both classes, or set train.select_by = "nll"',
            )
        if best is None or (value < best.value if select_by in LOWER_IS_BETTER else value > best.value):
            best = Best(epoch=int(line["epoch"]), value=float(value))
    return best


def out_of_patience(history: Sequence[Mapping[str, Any]], select_by: str, patience: int | None) -> bool:
    """Whether the last `patience` epochs all failed to improve on the best one."""
    best = best_epoch(history, select_by)
    return best is not None and patience is not None and len(history) - best.epoch >= patience
