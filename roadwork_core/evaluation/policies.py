"""All policies of a bundle on the same labelled pictures: what each answers, where they agree, and what they cost."""

from __future__ import annotations

import time
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from .measure import Decided, Labelled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.deciding import Decider
    from ..decisions import Decisions
    from ..report.evaluation import Judge

#: Decisions are timed on as many rows, several times, and the median counts.
TIMED_ROWS = 1000
TIMES = 5
DIFFERENCES = ("mcc", "accuracy")


def compare_policies(data: Labelled, decider: Decider, decided: Decided, judge: Judge) -> dict[str, Any]:
    """The figures of every policy, their agreement, and the difference of each to the active one, as JSON.

    The difference (paired, by group) is of decisions that never abstain. `microseconds` is what a decision takes
    beyond the model, in batches; two policies agree on a sample where both give the same label or both abstain.
    """
    active = decider.active
    measured = judge.policies(decided)
    policies = {}
    for name, (_, answering) in decided.items():
        entry = measured[name]
        policies[name] = {
            "metrics": entry["metrics"],
            "coverage": entry["coverage"],
            "selective_risk": entry["selective_risk"],
            "sets": entry["sets"],
            "must_answer": entry.get("must_answer", entry["metrics"]),
            "difference": None
            if name == active
            else {
                metric: judge.difference(metric, decided[active][1].labels, answering.labels) for metric in DIFFERENCES
            },
            "microseconds": _microseconds(decider, name, data.logits),
        }
    return {
        "n": judge.n,
        "groups": len(np.unique(judge.group_names.astype(str))),
        "active": active,
        "level": judge.level,
        "policies": policies,
        "agreement": [
            {"policies": [first, second], **_agreement(judge, decided[first][0], decided[second][0])}
            for first, second in combinations(decided, 2)
        ],
    }


def _agreement(judge: Judge, first: Decisions, second: Decisions) -> dict[str, Any]:
    everyone = np.ones(judge.n, dtype=np.bool_)
    both = ~first.abstain & ~second.abstain
    return {
        "same": judge.share(first.labels == second.labels, everyone),
        "different_labels": int((both & (first.labels != second.labels)).sum()),
        "only_first_answers": int((~first.abstain & second.abstain).sum()),
        "only_second_answers": int((first.abstain & ~second.abstain).sum()),
    }


def _microseconds(decider: Decider, name: str, logits: NDArray[np.float64]) -> float:
    rows = np.resize(logits, (TIMED_ROWS, logits.shape[1]))
    taken = []
    for _ in range(TIMES):
        start = time.perf_counter()
        decider.decide(rows, policy=name)
        taken.append(time.perf_counter() - start)
    return 1e6 * float(np.median(taken)) / TIMED_ROWS
