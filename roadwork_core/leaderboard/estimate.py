"""What reward own labelled answers would earn, to hold beside what a leaderboard says."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..decisions import Decisions
from ..errors import DataError, UsageError
from ..evaluation.prior import estimated_reward
from ..feedback import FeedbackStore
from ..metrics import confusion, mcc
from ..metrics.binary import ratio
from ..metrics.reward import PRIOR, WINDOW, reward
from ..policies.scores import read_scores
from ..report.evaluation import Judge


def from_feedback(
    path: Path, positive: str, *, bundle_id: str | None = None, since: float | None = None
) -> dict[str, Any]:
    """The estimate of what a feedback store's labelled predictions earn; those that abstained are counted apart.

    `bundle_id` may be the first digits of one. Raises UsageError for what is no store, DataError where no label has
    come, or none of either class.
    """
    labels: list[bool] = []
    said: list[bool] = []
    abstained = 0
    with FeedbackStore(path, create=False) as store:
        for one in store.read(bundle_id=bundle_id, since=since, labelled=True, features=False):
            if one.seen.label is None:
                abstained += 1
                continue
            labels.append(one.truth == positive)
            said.append(one.seen.label == positive)
    if not labels:
        raise DataError("no labelled prediction to estimate a reward from", path=path)
    found = _estimate(np.array(labels), np.array(said), None, path, f'"{positive}"')
    return {**found, "abstained": abstained, "last": _window(labels, said)}


def from_scores(path: Path) -> dict[str, Any]:
    """The estimate of what a file of two-class logits earns, positive where logit_1 is above logit_0.

    A tie is a probability of 0.5, which the reward rounds to 0. Raises UsageError for another file, DataError where a
    class is absent.
    """
    scores = read_scores(path)
    if scores.logits.shape[1] != 2:
        raise UsageError(f"the reward is of two classes, not of {scores.logits.shape[1]}", path=path)
    assert scores.labels is not None
    said = scores.logits[:, 1] > scores.logits[:, 0]
    found = _estimate(scores.labels == 1, said, scores.groups, path, "class 1")
    return {**found, "abstained": 0, "last": None}


def _estimate(
    labels: NDArray[np.bool_], said: NDArray[np.bool_], groups: NDArray[np.int64] | None, path: Path, positive: str
) -> dict[str, Any]:
    judge = Judge(labels=labels.astype(np.int64), groups=groups, classes=("0", "1"), positive=1)
    n = len(labels)
    answers = Decisions(
        labels=said.astype(np.int64),
        scores=said.astype(np.float64),
        sets=np.stack([~said, said], axis=1),
        reasons=[""] * n,
    )
    found = estimated_reward(judge, answers)
    if found is None:
        raise DataError(
            f"all {n} labels are of one class, and the reward needs both ({positive} and others)", path=path
        )
    counts = confusion(labels, said)
    return {
        "file": str(path),
        "positive": positive,
        "n": n,
        "positives": int(labels.sum()),
        "mcc": float(mcc(counts)),
        "accuracy": float(ratio(counts.tp + counts.tn, counts.total)),
        "reward": {key: found[key] for key in ("value", "low", "high")},
        "window": WINDOW,
        "prior": PRIOR,
    }


def _window(labels: Sequence[bool], said: Sequence[bool]) -> dict[str, Any]:
    """What the last answers earn as they came."""
    last = [np.array(deque(values, maxlen=WINDOW)) for values in (labels, said)]
    counts = confusion(*last)
    return {
        "n": len(last[0]),
        "mcc": float(mcc(counts)),
        "accuracy": float(ratio(counts.tp + counts.tn, counts.total)),
        "reward": float(reward(counts)),
    }
