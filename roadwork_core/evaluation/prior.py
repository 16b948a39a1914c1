"""Figures carried over to another share of positives, and the reward that they would earn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import COUNT_METRICS, Counts, Estimate
from ..metrics.intervals import SAME, percentile_interval, resampled_totals, without_spread
from ..metrics.reward import PRIOR, WINDOW, expected_reward
from ..report.evaluation import DECISION_METRICS, Judge

if TYPE_CHECKING:
    from ..decisions import Decisions

Floats = NDArray[np.float64]

#: Resamples of the reward: each of them is a sum over all outcomes of a window.
REWARD_RESAMPLES = 500


def at_prior(judge: Judge, decisions: Decisions, prior: float) -> dict[str, Any] | None:
    """The metrics of the answered samples, and the share of samples answered, if `prior` of all were positive.

    What the policy does with either class is taken as it is here (a shift of the label's distribution alone). None
    where one class is absent: its rates are not known.
    """
    table = _table(judge, decisions)
    if not _both_classes(table.sum(axis=0)):
        return None
    # Of more than two classes accuracy counts every class, and these counts know only the positive one.
    names = [name for name in DECISION_METRICS if name != "accuracy" or len(judge.classes) == 2]
    statistics = {name: _on_answered(COUNT_METRICS[name], prior) for name in names}
    statistics["coverage"] = lambda totals: _scaled(totals, prior)[:, :4].sum(axis=1)
    return {"prior": prior, "metrics": _estimates(judge, table, statistics, judge.resamples)}


def estimated_reward(judge: Judge, answering: Decisions) -> dict[str, Any] | None:
    """The expected reward (see `metrics.reward`) of decisions that never abstain; None without both classes."""
    table = _table(judge, answering)
    if not _both_classes(table.sum(axis=0)):
        return None

    def statistic(totals: Floats) -> Floats:
        counts = Counts.from_columns(totals[:, :4])
        rates = np.stack([COUNT_METRICS["recall"](counts), COUNT_METRICS["specificity"](counts)], axis=1)
        different, place = np.unique(rates, axis=0, return_inverse=True)
        return expected_reward(different[:, 0], different[:, 1])[place.reshape(-1)]

    found = _estimates(judge, table, {"reward": statistic}, min(judge.resamples, REWARD_RESAMPLES))["reward"]
    return {**found, "window": WINDOW, "prior": PRIOR}


def _table(judge: Judge, decisions: Decisions) -> Floats:
    """Counts per group (groups, 6): tp, fp, fn, tn of the answers, then positives and negatives not answered."""
    positive = judge.labels == judge.positive
    said = decisions.labels == judge.positive
    column = np.where(positive, np.where(said, 0, 2), np.where(said, 1, 3))
    column = np.where(decisions.abstain, np.where(positive, 4, 5), column)
    _, codes = np.unique(judge.group_names.astype(str), return_inverse=True)
    count = int(codes.max()) + 1
    return np.bincount(codes * 6 + column, minlength=6 * count).reshape(count, 6).astype(np.float64)


def _both_classes(totals: Floats) -> bool:
    return bool(totals[[0, 2, 4]].sum() > 0 and totals[[1, 3, 5]].sum() > 0)


def _scaled(totals: Floats, prior: float) -> Floats:
    """Totals (R, 6) as shares of all samples when `prior` of them are positive; nan where a class is absent."""
    positives, negatives = totals[:, [0, 2, 4]].sum(axis=1), totals[:, [1, 3, 5]].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.stack([prior / positives, (1.0 - prior) / negatives], axis=1)
    weight[(positives == 0) | (negatives == 0)] = np.nan
    scaled: Floats = totals * weight[:, [0, 1, 0, 1, 0, 1]]
    return scaled


def _on_answered(metric: Callable[[Counts], Floats], prior: float) -> Callable[[Floats], Floats]:
    def statistic(totals: Floats) -> Floats:
        scaled = _scaled(totals, prior)
        found: Floats = np.where(np.isnan(scaled[:, 0]), np.nan, metric(Counts.from_columns(np.nan_to_num(scaled))))
        return found

    return statistic


def _estimates(
    judge: Judge, table: Floats, statistics: dict[str, Callable[[Floats], Floats]], resamples: int
) -> dict[str, Any]:
    groups, n = len(table), int(table.sum())
    whole = table.sum(axis=0)[None]
    drawn = resampled_totals(table, resamples, np.random.default_rng(judge.seed)) if groups > 1 else None
    found = {}
    for name, statistic in statistics.items():
        value, low, high = float(statistic(whole)[0]), np.nan, np.nan
        if drawn is not None:
            values = statistic(drawn)
            low, high = percentile_interval(values, judge.level)
            if np.isfinite(low) and (np.abs(values[np.isfinite(values)] - value) <= SAME).all():
                low, high = without_spread(table, table[:, [2, 3, 0, 1, 4, 5]], statistic, value, judge.level)
        found[name] = Estimate(value, low, high, judge.level, "group_bootstrap_percentile", n, groups).to_json()
    return found
