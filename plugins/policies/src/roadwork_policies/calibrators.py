"""Fitted calibrators: logits in, logits out whose softmax is the calibrated probability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from roadwork_core.errors import DataError
from roadwork_core.metrics.inputs import Floats, Integers, class_labels
from roadwork_core.metrics.logits import as_logits, margin, sigmoid, softmax, softplus

TEMPERATURE_BOUNDS = (0.01, 100.0)
#: A slope below this ranks samples hardly or backwards, so no cut on the calibrated margin is one on the raw margin.
SMALLEST_SLOPE = 1e-6


def _samples(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[Floats, Integers]:
    array = as_logits(logits)
    if array.shape[0] == 0:
        raise DataError("a calibrator cannot be fitted to no samples", hint="give val_calib some")
    return array, class_labels(labels, array.shape[0], array.shape[1])


@frozen
class Unchanged:
    """The identity."""

    def transform(self, logits: NDArray[np.float64]) -> Floats:
        """Logits (n, C), unchanged."""
        return as_logits(logits)

    def state(self) -> Mapping[str, Any]:
        """Nothing to keep."""
        return {}


@frozen
class Scaled:
    """Logits divided by `temperature`."""

    temperature: float

    @classmethod
    def fit(cls, logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Scaled:
        """The temperature of least NLL within [0.01, 100].

        The NLL is convex in 1/T, so its slope, mean(E_p[z] - z_y), changes sign once: bisecting log T on that sign
        reaches the optimum to the last bits, or the bound when the optimum lies beyond (separable data).
        """
        z, y = _samples(logits, labels)
        z = z - z.max(axis=1, keepdims=True)
        of_label = np.take_along_axis(z, y[:, None], axis=1)[:, 0]

        def slope(log_t: float) -> float:
            expected = (softmax(z * math.exp(-log_t)) * z).sum(axis=1)
            return float(np.mean(expected - of_label))

        low, high = (math.log(bound) for bound in TEMPERATURE_BOUNDS)
        if slope(low) == slope(high) == 0.0:
            return cls(1.0)
        for _ in range(60):
            middle = (low + high) / 2.0
            if slope(middle) > 0.0:
                low = middle
            else:
                high = middle
        return cls(math.exp((low + high) / 2.0))

    def transform(self, logits: NDArray[np.float64]) -> Floats:
        """Logits (n, C) over the temperature."""
        result: Floats = as_logits(logits) / self.temperature
        return result

    def state(self) -> Mapping[str, Any]:
        """The temperature."""
        return {"temperature": self.temperature}


@frozen
class Affine:
    """Two-class logits whose margin is `slope` times the raw margin plus `offset`."""

    slope: float
    offset: float

    @classmethod
    def fit(cls, logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Affine:
        """Platt's logistic fit, with his smoothed targets (N + 1)/(N + 2) and 1/(N + 2), by damped Newton steps."""
        z, y = _samples(logits, labels)
        if z.shape[1] != 2:
            raise DataError(f"platt calibrates two classes, not {z.shape[1]}", hint='use = "temperature"')
        m = margin(z)
        positives = int(y.sum())
        target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (y.size - positives + 2))
        # Newton on standardised margins, so that their scale does not matter.
        centre, scale = float(m.mean()), float(m.std()) or 1.0
        x = (m - centre) / scale

        def loss(a: float, b: float) -> float:
            u = a * x + b
            return float(np.mean(softplus(u) - target * u))

        a, b = 0.0, math.log((positives + 1) / (y.size - positives + 1))
        current = loss(a, b)
        for _ in range(100):
            p = sigmoid(a * x + b)
            w = np.maximum(p * (1 - p), 1e-12)
            gradient = np.asarray([np.mean((p - target) * x), np.mean(p - target)])
            cross = np.mean(w * x)
            hessian = np.asarray([[np.mean(w * x * x) + 1e-12, cross], [cross, np.mean(w) + 1e-12]])
            step = np.linalg.solve(hessian, gradient)
            size = 1.0
            while (new := loss(a - size * step[0], b - size * step[1])) > current and size > 1e-10:
                size /= 2.0
            a, b = a - size * float(step[0]), b - size * float(step[1])
            done, current = current - new < 1e-15, new
            if done:
                break
        if not a > SMALLEST_SLOPE:
            raise DataError(
                "platt cannot calibrate these scores: a higher margin does not mean a likelier positive",
                hint="check the order of the classes and which one is positive",
            )
        return cls(a / scale, b - a * centre / scale)

    def transform(self, logits: NDArray[np.float64]) -> Floats:
        """Logits (n, 2): minus and plus half the calibrated margin."""
        half = (self.slope * margin(logits) + self.offset) / 2.0
        return np.stack([-half, half], axis=1)

    def state(self) -> Mapping[str, Any]:
        """Slope and offset."""
        return {"slope": self.slope, "offset": self.offset}
