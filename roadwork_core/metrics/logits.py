"""Logits to margins and probabilities, each row alone, so that a batch's size never changes a result."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .inputs import Floats, InvalidScores, finite_floats


def as_logits(logits: ArrayLike) -> Floats:
    """Finite, C-contiguous float64 logits of shape (n, classes) with at least two classes; n may be 0."""
    array = np.ascontiguousarray(finite_floats(logits, "logits"))
    if array.ndim != 2 or array.shape[1] < 2:
        raise InvalidScores(f"logits must have shape (n, classes >= 2), not {array.shape}")
    return array


def logsumexp(values: Floats) -> Floats:
    """log sum exp over the last axis, without overflow; shape (n, c) -> (n,)."""
    top = values.max(axis=-1)
    total = np.zeros_like(top)
    for column in range(values.shape[-1]):
        total += np.exp(values[..., column] - top)
    result: Floats = top + np.log(total)
    return result


def log_softmax(logits: Floats) -> Floats:
    """Log probabilities of shape (n, classes)."""
    result: Floats = logits - logsumexp(logits)[..., None]
    return result


def softmax(logits: Floats) -> Floats:
    """Probabilities of shape (n, classes)."""
    result: Floats = np.exp(log_softmax(logits))
    return result


def class_log_odds(logits: Floats) -> Floats:
    """log p_y / (1 - p_y) for every class y, shape (n, classes): z_y - logsumexp(the other logits).

    Unlike p_y itself it does not saturate, so confident samples keep their order.
    """
    if logits.shape[1] == 2:
        difference = logits[:, 1] - logits[:, 0]
        return np.stack([-difference, difference], axis=1)
    log_p = log_softmax(logits)
    top = np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None]
    log_odds_of_top = logits.max(axis=1) - logsumexp(np.where(top, -np.inf, logits))
    rest = log_p - np.log1p(-np.exp(np.where(top, -1.0, log_p)))
    result: Floats = np.where(top, log_odds_of_top[:, None], rest)
    return result


def margin(logits: ArrayLike, positive: int = 1) -> Floats:
    """Log odds of the positive class, shape (n,): z1 - z0 for two classes, else z_pos - logsumexp(others)."""
    array = as_logits(logits)
    if not 0 <= positive < array.shape[1]:
        raise InvalidScores(f"positive class {positive} is not one of the {array.shape[1]} logit columns")
    if array.shape[1] == 2:
        difference: Floats = array[:, positive] - array[:, 1 - positive]
        return difference
    return class_log_odds(array)[:, positive]


def sigmoid(values: ArrayLike) -> Floats:
    """1 / (1 + exp(-x)) without overflow, any shape."""
    x = np.asarray(values, dtype=np.float64)
    small = np.exp(-np.abs(x))
    result: Floats = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return result


def logit(probabilities: ArrayLike) -> Floats:
    """log(p / (1 - p)); p of 0 and 1 give -inf and inf."""
    p = np.asarray(probabilities, dtype=np.float64)
    if ((p < 0) | (p > 1) | np.isnan(p)).any():
        raise InvalidScores("probabilities must lie in [0, 1]")
    with np.errstate(divide="ignore"):
        result: Floats = np.log(p) - np.log1p(-p)
    return result


def softplus(values: ArrayLike) -> Floats:
    """log(1 + exp(x)) without overflow, any shape."""
    result: Floats = np.logaddexp(0.0, np.asarray(values, dtype=np.float64))
    return result
