"""Metrics of P(positive) with intervals that hold for small errors too: what no resample shows may still be so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike

from .binary import auroc, average_precision
from .calibration import ece_null
from .inputs import Booleans, Floats, Integers, binary_labels, group_codes, scores_1d
from .intervals import Estimate, Groups, bca_interval, resampled_weights
from .selective import aurc

#: Parts that are left out in turn for the acceleration: whole groups, several together where there are more groups.
JACKKNIFE_PARTS = 200


@frozen
class ScoreStatistic:
    """A metric as a function of sample weights (n,) that are whole numbers, and as it would be (`reversed_at`) if a
    share of the samples had scores as wrong as they are right."""

    of_weights: Callable[[Floats], float]
    reversed_at: Callable[[float], float]


def log_losses(scores: Floats, positive: Booleans) -> Floats:
    """-log of the probability given to the label, (n,); a probability of 0 counts as 1e-300."""
    losses: Floats = -np.log(np.clip(np.where(positive, scores, 1.0 - scores), 1e-300, None))
    return losses


def score_statistics(scores: Floats, positive: Booleans) -> Mapping[str, ScoreStatistic]:
    """auroc, average_precision, nll, brier and aurc of P(positive) `scores` (n,); `positive` (n,) are the labels."""
    confidence, wrong = np.maximum(scores, 1.0 - scores), ((scores >= 0.5) != positive).astype(np.float64)
    twice, labels = np.concatenate([scores, 1.0 - scores]), np.concatenate([positive, positive])

    def ranked(metric: Callable[..., float]) -> ScoreStatistic:
        return ScoreStatistic(
            lambda weights: metric(scores, positive, weights),
            lambda share: metric(twice, labels, np.repeat([1.0 - share, share], scores.size)),
        )

    def averaged(losses: Floats, reversed_: Floats) -> ScoreStatistic:
        return ScoreStatistic(
            lambda weights: float(np.average(losses, weights=weights)),
            lambda share: float(np.mean((1.0 - share) * losses + share * reversed_)),
        )

    return {
        "auroc": ranked(auroc),
        "average_precision": ranked(average_precision),
        "nll": averaged(log_losses(scores, positive), log_losses(1.0 - scores, positive)),
        "brier": averaged((scores - positive) ** 2, (1.0 - scores - positive) ** 2),
        "aurc": ScoreStatistic(
            lambda weights: aurc(confidence, wrong, weights),
            lambda share: aurc(confidence, (1.0 - share) * wrong + share * (1.0 - wrong)),
        ),
    }


def score_estimates(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: Groups = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    bins: int = 15,
) -> dict[str, Estimate]:
    """auroc, average_precision, nll, brier, ece and aurc of P(positive) (n,) against 0/1 labels (n,), by group.

    Intervals are BCa (Efron, 1987); for the ECE see `_ece_interval`. A bootstrap cannot draw a mistake that it has
    not seen, so where there is none the interval is widened to what the number of groups G allows: with confidence
    (1 + level) / 2 fewer than 1 - ((1 - level) / 2)^(1/G) of the groups hold one. What is a mistake: for auroc and
    average_precision a positive below a negative, for the others a sample on the wrong side of one half. For the
    first two G counts pairs of a group with positives and another with negatives, disjoint, each of which would have to
    be in order: at an AUROC of t they all are with probability t^G at most. Bounds are nan for fewer than two groups.
    """
    p = scores_1d(scores)
    y = binary_labels(labels, p.size)
    codes = group_codes(groups, p.size)
    count = int(codes.max()) + 1
    statistics = score_statistics(p, y)
    gaps = _Gaps.of(p, y, bins)
    ones = np.ones(p.size)
    values = {name: statistic.of_weights(ones) for name, statistic in statistics.items()} | {"ece": gaps.ece(ones)}
    bounds = dict.fromkeys(values, (math.nan, math.nan))
    if count > 1:
        drawn: dict[str, list[float]] = {name: [] for name in statistics}
        drawn_gaps = []
        for weights in resampled_weights(codes, resamples, np.random.default_rng(seed)):
            drawn_gaps.append(gaps.mean(weights))
            for name, statistic in statistics.items():
                drawn[name].append(statistic.of_weights(weights))
        left_out = [(codes % JACKKNIFE_PARTS != part).astype(np.float64) for part in range(min(count, JACKKNIFE_PARTS))]
        for name, statistic in statistics.items():
            jackknife = np.asarray([statistic.of_weights(weights) for weights in left_out])
            bounds[name] = bca_interval(np.asarray(drawn[name]), values[name], jackknife, level)
        null = ece_null(p, bins=bins, seed=seed)
        bounds["ece"] = _ece_interval(gaps.mean(ones), np.asarray(drawn_gaps), null, level)
        reversed_at = {name: statistic.reversed_at for name, statistic in statistics.items()}
        reversed_at["ece"] = gaps.ece_reversed_at
        for name, share in _unseen(p, y, codes, values["auroc"], level).items():
            low, high = bounds[name]
            other = 1.0 - share if name == "auroc" else reversed_at[name](share)
            other = share if name == "auroc" and values[name] == 0.0 else other
            bounds[name] = (min(low, other), max(high, other))
    order = ("auroc", "average_precision", "nll", "brier", "ece", "aurc")
    methods = {"ece": "group_bootstrap_centred"}
    return {
        name: Estimate(values[name], *bounds[name], level, methods.get(name, "group_bootstrap_bca"), p.size, count)
        for name in order
    }


@frozen(eq=False)
class _Gaps:
    """P(positive) less the label of each sample (n,), and that of its reversed score, by bin of equal width (n,)."""

    own: Floats
    bins: Integers
    reversed_own: Floats
    reversed_bins: Integers
    count: int

    @classmethod
    def of(cls, scores: Floats, positive: Booleans, count: int) -> _Gaps:
        edges = np.linspace(0.0, 1.0, count + 1)[1:-1]
        other = 1.0 - scores
        places = (np.searchsorted(edges, values, side="left").astype(np.int64) for values in (scores, other))
        bins, reversed_bins = places
        return cls(scores - positive, bins, other - positive, reversed_bins, count)

    def mean(self, weights: Floats) -> Floats:
        """The signed gap of each bin (count,), as a share of all samples."""
        gaps: Floats = np.bincount(self.bins, weights * self.own, minlength=self.count) / weights.sum()
        return gaps

    def ece(self, weights: Floats) -> float:
        return float(np.abs(self.mean(weights)).sum())

    def ece_reversed_at(self, share: float) -> float:
        other = np.bincount(self.reversed_bins, self.reversed_own, minlength=self.count) / self.own.size
        return float(np.abs((1.0 - share) * self.mean(np.ones(self.own.size)) + share * other).sum())


def _ece_interval(gaps: Floats, drawn: Floats, null: Floats, level: float) -> tuple[float, float]:
    """An interval of sum |gap| from the gaps (bins,) and those of the resamples (resamples, bins), to the wide side.

    The ECE of a sample lies above that of its distribution, the more so the fewer samples there are, and that of a
    resample higher still, so that the usual bootstrap intervals miss. Here the lower bound takes off how far the
    resamples' gaps lie from the sample's, all bins added up, which is the most by which noise can have raised it, and
    no less than what noise alone makes of a calibrated model (`null`, its ECE in independent draws). On average noise
    never lowers an ECE (Jensen), so the upper bound adds how far a resample's falls below their mean.
    """
    tail = (1.0 - level) / 2.0
    value, found = float(np.abs(gaps).sum()), np.abs(drawn).sum(axis=1)
    noise = max(float(np.quantile(draws, 1.0 - tail)) for draws in (np.abs(drawn - gaps).sum(axis=1), null))
    return max(0.0, value - noise), value + float(found.mean() - np.quantile(found, tail))


def unseen_share(name: str, labels: ArrayLike, groups: Groups, level: float) -> float:
    """The share of the groups, of pairs of them for auroc and average_precision, that may hold what none of those seen
    does, with confidence (1 + level) / 2 (Clopper and Pearson). `labels` 0/1 (n,) hold both classes."""
    positive = binary_labels(labels, np.asarray(labels).shape[0])
    codes = group_codes(groups, positive.size)
    count = int(codes.max()) + 1
    if name in ("auroc", "average_precision"):
        count = min(np.unique(codes[positive]).size, np.unique(codes[~positive]).size, count // 2)
    return 1.0 - ((1.0 - level) / 2.0) ** (1.0 / count)


def _unseen(scores: Floats, positive: Booleans, codes: Integers, area: float, level: float) -> dict[str, float]:
    """For each metric whose mistakes (or whose right answers) are all unseen, the share of groups that may hold one."""
    names: list[str] = []
    wrong = (scores >= 0.5) != positive
    if wrong.all() or not wrong.any():
        names += ["nll", "brier", "ece", "aurc"]
    if area in (0.0, 1.0):
        names += ["auroc", "average_precision"]
    return {name: unseen_share(name, positive, codes, level) for name in names}
