"""One weight per view, fitted on held-out logits (Shanmugam et al., 2021, arXiv 2011.11156), and temperatures."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from roadwork_core.metrics import log_softmax

from .fusing import NOTHING, not_fitted, refuse_other_views
from .fusion import Logits, log_mixture

if TYPE_CHECKING:
    from roadwork_core.learned_tta import TtaFitContext

    from .components import LearnedOptions

Floats = NDArray[np.float64]
SPLIT = "val_select"
#: Temperatures are looked for between exp(-5) and exp(5).
_BOUND = 5.0


class LearnedFusion:
    """p = sum_v w_v softmax(z_v / T_v): weights on the simplex, and each view's own temperature."""

    def __init__(self, view_ids: Sequence[str], options: LearnedOptions) -> None:
        self._view_ids = tuple(view_ids)
        self._options = options
        self._weights: Floats | None = None
        self._temperatures: Floats = np.ones(len(view_ids))

    @property
    def fits_on(self) -> Mapping[str, int | None]:
        return {SPLIT: None} if self._weights is None else NOTHING

    def fuse(self, logits: Logits) -> Logits:
        if self._weights is None:
            raise not_fitted("learned", SPLIT)
        log_p = log_softmax(logits / self._temperatures[:, None, None])
        # A floor, so that a weight of nothing has a logarithm.
        return log_mixture(log_p, np.repeat(self._weights[:, None] + 1e-12, logits.shape[1], axis=1))

    def fit(self, ctx: TtaFitContext) -> Mapping[str, Any]:
        scores = ctx.splits[SPLIT]
        found = np.ones(len(self._view_ids))
        if self._options.temperatures:
            found = temperatures(scores.logits, scores.labels)
        log_p = log_softmax(scores.logits / found[:, None, None])
        weights = simplex_weights(log_p[:, np.arange(len(scores.labels)), scores.labels], self._options.l2)
        return {
            "weights": dict(zip(self._view_ids, weights.tolist(), strict=True)),
            "temperatures": dict(zip(self._view_ids, found.tolist(), strict=True)),
        }

    def restore(self, state: Mapping[str, Any]) -> LearnedFusion:
        values = {}
        for name in ("weights", "temperatures"):
            refuse_other_views(state[name], self._view_ids)
            values[name] = np.array([float(state[name][view]) for view in self._view_ids])
            if not np.isfinite(values[name]).all() or (values[name] < 0).any():
                raise ValueError(f"{name} must be finite and not negative")
        if abs(values["weights"].sum() - 1) > 1e-6 or (values["temperatures"] == 0).any():
            raise ValueError("weights must add up to 1 and temperatures be above 0")
        fitted = copy.copy(self)
        fitted._weights, fitted._temperatures = values["weights"], values["temperatures"]
        return fitted

    def summary(self) -> Mapping[str, Any]:
        text = f"{len(self._view_ids)} views, weighted as learned on {SPLIT}"
        if self._weights is None:
            return {"text": text}
        rows = zip(self._view_ids, self._weights.tolist(), self._temperatures.tolist(), strict=True)
        table = {"columns": ["view", "weight", "temperature"], "rows": [list(row) for row in rows]}
        return {"text": text, "table": table}


def temperatures(logits: Logits, labels: NDArray[np.int64]) -> Floats:
    """For each view the temperature of least cross-entropy with `softened` labels, (V, n, C) and (n,) to (V,).

    It is convex in 1 / T, so its slope changes sign once: bisection on log T to the last bits.
    """
    low, high = np.full(len(logits), -_BOUND), np.full(len(logits), _BOUND)
    own = (softened(labels, logits.shape[-1]) * logits).sum(axis=-1)
    for _ in range(60):
        middle = (low + high) / 2
        p = np.exp(log_softmax(logits * np.exp(middle)[:, None, None]))
        too_sharp = ((p * logits).sum(axis=-1) - own).sum(axis=-1) > 0
        low, high = np.where(too_sharp, low, middle), np.where(too_sharp, middle, high)
    found: Floats = np.exp(-(low + high) / 2)
    return found


def softened(labels: NDArray[np.int64], classes: int) -> Floats:
    """Labels, int64 (n,), as targets (n, C): n_k + 1 of n_k + C on the class k that n_k samples have, the rest shared.

    For two classes those of Platt (1999, "Probabilistic outputs for support vector machines"). With plain labels, a few
    samples that are all answered rightly would ask for certainty, and the first mistake elsewhere would cost without
    bound.
    """
    counts = np.bincount(labels, minlength=classes)[labels][:, None]
    targets = np.repeat(1.0 / (counts + classes), classes, axis=1)
    targets[np.arange(len(labels)), labels] *= counts[:, 0] + 1.0
    return targets


def simplex_weights(log_p: Floats, l2: float, *, steps: int = 20_000, tolerance: float = 1e-11) -> Floats:
    """Weights (V,) of least -sum_i log sum_v w_v p_vi + l2 V ||w - 1/V||^2 on the simplex; a convex problem.

    `log_p` (V, n): each view's log probability of the true class. With l2 = 1 all weight on one view costs V - 1 nats.
    Accelerated projected gradient (Beck and Teboulle, 2009) with backtracking and restarts.
    """
    views, n = log_p.shape
    p = np.exp(log_p - log_p.max(axis=0)) + 1e-300
    # Divided by n, so that steps are of one size whatever the number of samples.
    strength = l2 * views / n

    def value(w: Floats) -> float:
        return float(-np.log(np.maximum(w @ p, 1e-300)).mean() + strength * ((w - 1 / views) ** 2).sum())

    def gradient(w: Floats) -> Floats:
        slope: Floats = -(p / np.maximum(w @ p, 1e-300)).mean(axis=1) + 2 * strength * (w - 1 / views)
        return slope

    weights = ahead = np.full(views, 1 / views)
    momentum, rate = 1.0, 1.0
    for _ in range(steps):
        slope, here = gradient(ahead), value(ahead)
        while True:
            moved = onto_simplex(ahead - rate * slope)
            change = moved - ahead
            if value(moved) <= here + slope @ change + change @ change / (2 * rate) + 1e-15 or rate < 1e-12:
                break
            rate /= 2
        step = moved - weights
        if np.abs(step).max() < tolerance and np.abs(change).max() < tolerance:
            return moved
        if (ahead - moved) @ step > 0:
            momentum, ahead = 1.0, moved
        else:
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = onto_simplex(moved + (momentum - 1) / following * step)
            momentum = following
        weights = moved
        rate *= 1.05
    return weights


def onto_simplex(values: Floats) -> Floats:
    """The nearest point whose parts are not negative and add up to 1 (Duchi et al., 2008)."""
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(values) + 1)
    last = np.flatnonzero(ordered > excess)[-1]
    projected: Floats = np.maximum(values - excess[last], 0.0)
    return projected
