"""Two deciders on the same samples: the difference of every figure with its interval, paired and by group."""

from __future__ import annotations

from collections.abc import Callable
from math import lgamma, log
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve, frozen

from ..errors import DataError
from ..metrics import Counts, bootstrap, paired_difference, score_statistics, unseen_share
from ..report.evaluation import DECISION_METRICS, decision_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..decisions import Decisions

#: Metrics of P(positive) that are compared; of the last two less is better.
SCORE_METRICS = ("auroc", "average_precision", "nll", "brier")


@frozen(kw_only=True)
class Answers:
    """What one decider says of labelled samples, each known by its `keys`.

    `targets` int64 (n,) are class indices, `groups` (n,) names, `answering` the decisions without abstentions,
    `answered` bool (n,) where the decider answers if it may abstain.
    """

    keys: list[str]
    targets: NDArray[np.int64]
    groups: NDArray[Any]
    answering: Decisions
    answered: NDArray[np.bool_]


def compare(
    first: Answers, second: Answers, *, positive: int, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """Figures of both on the samples that they share, and second less first with intervals, as JSON.

    Decisions are compared where neither may abstain, coverage as they are. Raises DataError where they share no
    sample, or do not agree on a shared sample's label.
    """
    a, b = _shared(first, second)
    targets, groups = first.targets[a], first.groups[a]
    if not np.array_equal(targets, second.targets[b]):
        wrong = int((targets != second.targets[b]).sum())
        raise DataError(f"{wrong} of {len(a)} shared samples have another label in the second run")
    truth = targets == positive
    said = first.answering.labels[a], second.answering.labels[b]
    scores = first.answering.scores[a], second.answering.scores[b]
    options: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    metrics = {
        name: _counted([decision_counts(name, targets, one, positive, groups) for one in said], options)
        for name in DECISION_METRICS
    }
    metrics["coverage"] = _coverage(first.answered[a], second.answered[b], groups, options)
    if truth.any() and not truth.all():
        metrics |= {name: _scored(name, truth, scores, groups, options) for name in SCORE_METRICS}
    return {
        "n": len(a),
        "only_first": len(first.keys) - len(a),
        "only_second": len(second.keys) - len(a),
        "groups": len(np.unique(groups.astype(str))),
        "level": level,
        "metrics": metrics,
        "mcnemar": mcnemar(said[0] == targets, said[1] == targets),
    }


def mcnemar(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> dict[str, Any]:
    """McNemar's exact test (1947) of equal accuracy on the samples where exactly one is right; both bool (n,).

    It takes samples as independent, which frames of one sequence are not.
    """
    gained, lost = int((second_right & ~first_right).sum()), int((first_right & ~second_right).sum())
    n, k = gained + lost, min(gained, lost)
    # In logarithms: 2**n is no float beyond n = 1,023.
    logs = [lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * log(2.0) for i in range(k + 1)]
    p = min(1.0, 2.0 * float(np.exp(np.logaddexp.reduce(logs))))
    return {"gained": gained, "lost": lost, "p_value": p}


def _shared(first: Answers, second: Answers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in either of the samples that both have, in the first one's order."""
    place = {key: index for index, key in enumerate(second.keys)}
    pairs = [(index, place[key]) for index, key in enumerate(first.keys) if key in place]
    if not pairs:
        raise DataError("the two share no sample: nothing can be compared", hint="compare runs on the same data")
    both = np.array(pairs, dtype=np.int64)
    return both[:, 0], both[:, 1]


def _counted(
    counted: list[tuple[NDArray[np.float64], Callable[[Counts], NDArray[np.float64]]]], options: dict[str, Any]
) -> dict[str, Any]:
    (first, metric), (second, _) = counted
    values = [float(metric(Counts.from_columns(table.sum(axis=0)))) for table in (first, second)]
    difference = paired_difference(first, second, metric, **options)
    return {"first": values[0], "second": values[1], "difference": difference.to_json()}


def _coverage(
    first: NDArray[np.bool_], second: NDArray[np.bool_], groups: NDArray[Any], options: dict[str, Any]
) -> dict[str, Any]:
    """The shares answered; without width where neither abstained, for such deciders are in most cases ones that
    cannot."""
    # Coverage is the accuracy of answering, where to answer is always right.
    always = np.ones(len(first), dtype=np.int64)
    found = _counted(
        [decision_counts("accuracy", always, one.astype(np.int64), 1, groups) for one in (first, second)], options
    )
    if first.all() and second.all() and found["difference"]["low"] is not None:
        found["difference"] |= {"low": 0.0, "high": 0.0}
    return found


def _scored(
    name: str,
    truth: NDArray[np.bool_],
    scores: tuple[NDArray[np.float64], NDArray[np.float64]],
    groups: NDArray[Any],
    options: dict[str, Any],
) -> dict[str, Any]:
    statistics = [score_statistics(one, truth)[name] for one in scores]
    of = [statistic.of_weights for statistic in statistics]
    difference = bootstrap(lambda weights: of[1](weights) - of[0](weights), groups, **options)
    ones = np.ones(len(truth))
    values = [one(ones) for one in of]
    if difference.low == difference.value == difference.high:
        # No resample shows a difference, which is not to say that there is none: one of the two may be wrong where
        # none of these samples lies. Of two areas the difference is at most the share of pairs ordered otherwise.
        share = unseen_share(name, truth, groups, options["level"])
        worse = [statistic.reversed_at(share) for statistic in statistics]
        ends = [-share, share] if name == "auroc" else [worse[1] - values[0], values[1] - worse[0]]
        difference = evolve(difference, low=min(difference.low, *ends), high=max(difference.high, *ends))
    return {"first": values[0], "second": values[1], "difference": difference.to_json()}
