"""The policy itself: numpy only, and the same for one row as for many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadwork_core.decisions import ABSTAIN, Decisions


class Confident:
    """Abstains where the highest probability is below `confidence`."""

    def __init__(self, confidence: float, positive: int) -> None:
        self.confidence = confidence
        self.positive = positive

    @classmethod
    def fit(cls, logits: NDArray[np.float64], positive: int, coverage: float) -> Confident:
        """The confidence that `coverage` of the calibration samples reach."""
        return cls(float(np.quantile(_softmax(logits).max(axis=1), 1.0 - coverage)), positive)

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        p = _softmax(logits)
        best, highest = p.argmax(axis=1), p.max(axis=1)
        sure = highest >= self.confidence
        sets = np.where(sure[:, None], np.arange(p.shape[1]) == best[:, None], True)
        reasons = [
            f"p {value:.3f} {'>=' if answered else '<'} {self.confidence:.3f}"
            for value, answered in zip(highest.tolist(), sure.tolist(), strict=True)
        ]
        labels = np.where(sure, best, ABSTAIN).astype(np.int64)
        return Decisions(labels=labels, scores=p[:, self.positive], sets=sets, reasons=reasons)

    def state(self) -> Mapping[str, Any]:
        return {"confidence": self.confidence}

    def summary(self) -> Mapping[str, Any]:
        return {"confidence": self.confidence}

    def guarantee(self) -> Mapping[str, Any] | None:
        return None


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    made: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return made
