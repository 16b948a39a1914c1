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
from roadwork_core.metrics.logits import as_logits, logit, margin, sigmoid, softmax, softplus

TEMPERATURE_BOUNDS = (0.01, 100.0)
#: A slope below this ranks samples hardly or backwards, so no cut on the calibrated margin is one on the raw margin.
SMALLEST_SLOPE = 1e-6
BACKWARDS = "these scores cannot be calibrated: a higher margin does not mean a likelier positive"
CHECK_CLASSES = "check the order of the classes and which one is positive"


def checked_samples(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[Floats, Integers]:
    """Finite logits (n, C) and labels (n,) with n > 0. Raises DataError for others."""
    array = as_logits(logits)
    if array.shape[0] == 0:
        raise DataError("a calibrator cannot be fitted to no samples", hint="give val_calib some")
    return array, class_labels(labels, array.shape[0], array.shape[1])


def _two_logits(calibrated: Floats) -> Floats:
    half = calibrated / 2.0
    return np.stack([-half, half], axis=1)


def _smoothed(y: Integers) -> Floats:
    """Platt's targets: the posterior means of two Bernoulli rates, which keep a separable fit finite."""
    positives = int(y.sum())
    return np.where(y == 1, (positives + 1) / (positives + 2), 1 / (y.size - positives + 2))


def logistic_fit(features: Floats, target: Floats) -> Floats:
    """Weights (k + 1,) of least logistic loss of `features` (n, k) and an intercept, by damped Newton steps.

    `target` (n,) are probabilities strictly between 0 and 1, which makes the optimum finite and unique.
    """
    x = np.column_stack([features, np.ones(features.shape[0])])
    mean = float(target.mean())
    weights = np.append(np.zeros(features.shape[1]), math.log(mean / (1.0 - mean)))

    def loss(at: Floats) -> float:
        u = x @ at
        return float(np.mean(softplus(u) - target * u))

    current = loss(weights)
    for _ in range(200):
        p = sigmoid(x @ weights)
        curvature = np.maximum(p * (1.0 - p), 1e-12)
        gradient = x.T @ (p - target) / target.size
        hessian = (x * curvature[:, None]).T @ x / target.size + 1e-10 * np.eye(x.shape[1])
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while (new := loss(weights - size * step)) > current and size > 1e-10:
            size /= 2.0
        if new >= current:
            break
        weights, done, current = weights - size * step, current - new < 1e-14, new
        if done:
            break
    return weights


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
        z, y = checked_samples(logits, labels)
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
        """Platt's logistic fit, with his smoothed targets (N + 1)/(N + 2) and 1/(N + 2)."""
        z, y = checked_samples(logits, labels)
        if z.shape[1] != 2:
            raise DataError(f"platt calibrates two classes, not {z.shape[1]}", hint='use = "temperature"')
        m = margin(z)
        # On standardised margins, so that their scale does not matter.
        centre, scale = float(m.mean()), float(m.std()) or 1.0
        slope, offset = logistic_fit(np.stack([(m - centre) / scale], axis=1), _smoothed(y)).tolist()
        if not slope > SMALLEST_SLOPE:
            raise DataError(BACKWARDS, hint=CHECK_CLASSES)
        return cls(slope / scale, offset - slope * centre / scale)

    def transform(self, logits: NDArray[np.float64]) -> Floats:
        """Logits (n, 2): minus and plus half the calibrated margin."""
        return _two_logits(self.slope * margin(logits) + self.offset)

    def state(self) -> Mapping[str, Any]:
        """Slope and offset."""
        return {"slope": self.slope, "offset": self.offset}


@frozen
class Beta:
    """Two-class logits whose margin is a log p - b log(1 - p) + c, with p the sigmoid of the standardised margin."""

    centre: float
    scale: float
    a: float
    b: float
    c: float

    @classmethod
    def fit(cls, logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Beta:
        """Beta calibration (Kull et al., 2017), a and b not negative, on Platt's smoothed targets.

        The margin is standardised so that the medians of the two classes come to lie at -2 and 2: the bend of the
        map is then between the classes wherever the logits have their zero, and outliers do not move it.
        """
        z, y = checked_samples(logits, labels)
        if z.shape[1] != 2:
            raise DataError(f"beta calibrates two classes, not {z.shape[1]}", hint='use = "temperature"')
        if not 0 < y.sum() < y.size:
            raise DataError(f"all {y.size} samples are of one class", hint="beta needs samples of both")
        m = margin(z)
        lower, upper = float(np.median(m[y == 0])), float(np.median(m[y == 1]))
        if not upper > lower:
            raise DataError(BACKWARDS, hint=CHECK_CLASSES)
        centre, scale = (lower + upper) / 2.0, (upper - lower) / 4.0
        columns, target = _beta_features((m - centre) / scale), _smoothed(y)
        for kept in ((0, 1), (0,), (1,)):
            found = logistic_fit(columns[:, kept], target)
            if (found[:-1] >= 0).all() and found[:-1].sum() > SMALLEST_SLOPE:
                slopes = dict(zip(kept, found[:-1].tolist(), strict=True))
                return cls(centre, scale, slopes.get(0, 0.0), slopes.get(1, 0.0), float(found[-1]))
        raise DataError(BACKWARDS, hint=CHECK_CLASSES)

    def transform(self, logits: NDArray[np.float64]) -> Floats:
        """Logits (n, 2): minus and plus half the calibrated margin."""
        columns = _beta_features((margin(logits) - self.centre) / self.scale)
        return _two_logits(self.a * columns[:, 0] + self.b * columns[:, 1] + self.c)

    def state(self) -> Mapping[str, Any]:
        """Standardisation and the three parameters."""
        return {"centre": self.centre, "scale": self.scale, "a": self.a, "b": self.b, "c": self.c}


def _beta_features(x: Floats) -> Floats:
    """log p and -log(1 - p) of p = sigmoid(x), shape (n, 2)."""
    return np.stack([-softplus(-x), softplus(x)], axis=1)


@frozen(eq=False)
class Isotonic:
    """Two-class logits whose P(positive) is a non-decreasing, piecewise linear function of the margin."""

    margins: Floats
    probabilities: Floats

    @classmethod
    def fit(cls, logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Isotonic:
        """Isotonic regression (Zadrozny and Elkan, 2002) by scikit-learn.

        Probabilities are kept within [1/(n + 2), 1 - 1/(n + 2)]: its outermost steps are 0 and 1 from few samples,
        which no finite logits can say and none should.
        """
        from sklearn.isotonic import IsotonicRegression

        z, y = checked_samples(logits, labels)
        if z.shape[1] != 2:
            raise DataError(f"isotonic calibrates two classes, not {z.shape[1]}", hint='use = "dirichlet"')
        if not 0 < y.sum() < y.size:
            raise DataError(f"all {y.size} samples are of one class", hint="isotonic needs samples of both")
        model = IsotonicRegression(out_of_bounds="clip").fit(margin(z), y.astype(np.float64))
        margins = np.asarray(model.X_thresholds_, dtype=np.float64)
        found = np.asarray(model.y_thresholds_, dtype=np.float64)
        if not found[-1] > found[0]:
            raise DataError(BACKWARDS, hint=CHECK_CLASSES)
        floor = 1.0 / (y.size + 2)
        return cls(margins, np.clip(found, floor, 1.0 - floor))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Isotonic:
        """From `state()`. Raises DataError for steps that are not rising probabilities strictly between 0 and 1."""
        margins, found = (np.asarray(state[key], dtype=np.float64) for key in ("margins", "probabilities"))
        rising = margins.shape == found.shape and margins.size > 0 and np.isfinite(margins).all()
        if not rising or (np.diff(margins) <= 0).any() or (np.diff(found) < 0).any():
            raise DataError("not an isotonic calibrator: its steps do not rise")
        if not 0.0 < found[0] <= found[-1] < 1.0:
            raise DataError("not an isotonic calibrator: its probabilities reach 0 or 1")
        return cls(margins, found)

    def transform(self, logits: NDArray[np.float64]) -> Floats:
        """Logits (n, 2): minus and plus half the log odds; constant outside the margins of the fit."""
        return _two_logits(logit(np.interp(margin(logits), self.margins, self.probabilities)))

    def state(self) -> Mapping[str, Any]:
        """Corners of the function: margins, rising, and P(positive) at each."""
        return {"margins": self.margins.tolist(), "probabilities": self.probabilities.tolist()}
