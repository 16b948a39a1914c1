"""The calibrator itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Temperature:
    """Logits, float64 (n, C), over one number."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    @classmethod
    def fit(cls, logits: NDArray[np.float64], labels: NDArray[np.int64], steps: int) -> Temperature:
        """The best of 1 and `steps` temperatures."""
        grid = [1.0, *np.geomspace(0.05, 20.0, steps).tolist()]
        return cls(min(grid, key=lambda temperature: _loss(logits / temperature, labels)))

    def transform(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return logits / self.temperature

    def state(self) -> Mapping[str, Any]:
        return {"temperature": self.temperature}


def _loss(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_p[np.arange(len(labels)), labels].mean())
