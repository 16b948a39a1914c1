"""Calibrators that are linear maps of all logits at once: vector scaling and Dirichlet calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from roadwork_core.errors import DataError
from roadwork_core.metrics.inputs import Floats
from roadwork_core.metrics.logits import as_logits, log_softmax, softmax

from .calibrators import checked_samples

#: Keeps a weight finite where the classes are separable; too small to be seen where they are not.
DIAGONAL_RIDGE = 1e-6


@frozen(eq=False)
class LinearMap:
    """Logits of class c: sum_j weights[c, j] x_j + intercept[c], with x the logits or their log softmax."""

    weights: Floats
    intercept: Floats
    normalised: bool

    def transform(self, logits: NDArray[np.float64]) -> Floats:
        """Logits (n, C). Summed column by column, so that a row's sum does not depend on its batch."""
        z = as_logits(logits)
        x = log_softmax(z) if self.normalised else z
        result = np.repeat(self.intercept[None], x.shape[0], axis=0)
        for label, row in enumerate(self.weights):
            for column in np.flatnonzero(row):
                result[:, label] += row[column] * x[:, column]
        return result

    def state(self) -> Mapping[str, Any]:
        """Weights (the diagonal alone where nothing is off it) and intercept."""
        diagonal = np.diag(self.weights)
        plain = np.array_equal(np.diag(diagonal), self.weights)
        return {"weights": (diagonal if plain else self.weights).tolist(), "intercept": self.intercept.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], *, normalised: bool) -> LinearMap:
        """From `state()`. Raises DataError for shapes that do not fit or numbers that are not finite."""
        weights = np.asarray(state["weights"], dtype=np.float64)
        weights = np.diag(weights) if weights.ndim == 1 else weights
        intercept = np.asarray(state["intercept"], dtype=np.float64)
        if weights.shape != (intercept.size,) * 2 or not (np.isfinite(weights).all() and np.isfinite(intercept).all()):
            raise DataError("not a linear calibrator: its weights are not a square of finite numbers")
        return cls(weights, intercept, normalised)


def fit_vector(logits: NDArray[np.float64], labels: NDArray[np.int64], l2: float) -> LinearMap:
    """Vector scaling (Guo et al., 2017): a weight and an intercept per class, by maximum likelihood.

    Minimises mean NLL + l2 * mean(intercept^2) + 1e-6 * sum((weight - 1)^2); convex, so the optimum is unique.
    """
    z, y = checked_samples(logits, labels)
    classes = z.shape[1]

    def free(point: Floats) -> tuple[Floats, Floats]:
        return np.diag(point[:classes]), point[classes:]

    def packed(weights: Floats, intercept: Floats) -> Floats:
        return np.append(np.diag(weights), intercept)

    return _fit(z, y, free, packed, l2, normalised=False)


def fit_dirichlet(logits: NDArray[np.float64], labels: NDArray[np.int64], l2: float) -> LinearMap:
    """Dirichlet calibration (Kull et al., 2019) with their off-diagonal and intercept regularisation (ODIR).

    Minimises mean NLL + l2 * (mean(off-diagonal weights^2) + mean(intercept^2)) + 1e-6 * sum((diagonal - 1)^2).
    """
    z, y = checked_samples(logits, labels)
    classes = z.shape[1]

    def free(point: Floats) -> tuple[Floats, Floats]:
        return point[: classes * classes].reshape(classes, classes), point[classes * classes :]

    def packed(weights: Floats, intercept: Floats) -> Floats:
        return np.append(weights.ravel(), intercept)

    return _fit(log_softmax(z), y, free, packed, l2, normalised=True)


def _fit(
    x: Floats,
    y: NDArray[np.int64],
    free: Callable[[Floats], tuple[Floats, Floats]],
    packed: Callable[[Floats, Floats], Floats],
    l2: float,
    *,
    normalised: bool,
) -> LinearMap:
    """The least penalised NLL of softmax(x W' + b), from the identity. Features are scaled by one number first."""
    n, classes = x.shape
    scale = float(np.abs(x - x.mean(axis=0)).mean()) or 1.0
    x = x / scale
    eye, hot = np.eye(classes), np.eye(classes)[y]
    ridge = np.where(eye == 1, 2 * DIAGONAL_RIDGE / scale**2, 2 * l2 / scale**2 / max(classes * (classes - 1), 1))
    towards = packed(eye * scale, np.zeros(classes))
    penalty = packed(ridge, np.full(classes, 2 * l2 / classes))

    def scores(point: Floats) -> Floats:
        weights, intercept = free(point)
        made: Floats = x @ weights.T + intercept
        return made

    def value(point: Floats) -> float:
        fit = -np.mean((log_softmax(scores(point)) * hot).sum(axis=1))
        return float(fit + 0.5 * np.sum(penalty * (point - towards) ** 2))

    def derivatives(point: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
        p = softmax(scores(point))

        def back(residual: Floats) -> Floats:
            return packed(residual.T @ x / n, residual.mean(axis=0))

        def curvature(direction: Floats) -> Floats:
            moved = p * scores(direction)
            return back(moved - p * moved.sum(axis=1, keepdims=True)) + penalty * direction

        return back(p - hot) + penalty * (point - towards), curvature

    weights, intercept = free(newton(value, derivatives, towards))
    return LinearMap(weights / scale, intercept, normalised)


def newton(
    value: Callable[[Floats], float],
    derivatives: Callable[[Floats], tuple[Floats, Callable[[Floats], Floats]]],
    start: Floats,
) -> Floats:
    """The minimum of a strictly convex function by Newton steps, each solved by conjugate gradients and halved until
    it descends. `derivatives` gives the gradient and the product of the Hessian with a vector."""
    point, current = start, value(start)
    for _ in range(100):
        gradient, curvature = derivatives(point)
        step, size = _solve(curvature, gradient), 1.0
        while (new := value(point - size * step)) > current and size > 1e-10:
            size /= 2.0
        if new >= current:
            break
        point, gain, current = point - size * step, current - new, new
        if gain < 1e-14:
            break
    return point


def _solve(curvature: Callable[[Floats], Floats], gradient: Floats) -> Floats:
    """Conjugate gradients for curvature(step) = gradient, to a millionth of it."""
    step, residual = np.zeros_like(gradient), gradient.copy()
    direction, norm = residual.copy(), float(residual @ residual)
    target = 1e-12 * norm
    for _ in range(2 * gradient.size + 20):
        if norm <= target or norm == 0.0:
            break
        bent = curvature(direction)
        length = norm / float(direction @ bent)
        step, residual = step + length * direction, residual - length * bent
        norm, before = float(residual @ residual), norm
        direction = residual + norm / before * direction
    return step
