"""Fusion of the views' logits, float64 (V, n, C), to one, float64 (n, C), whose softmax is the fused probability."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float64]


def log_softmax(logits: Logits) -> Logits:
    """Log probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normalised: Logits = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised


def mean_logit(logits: Logits) -> Logits:
    """Mean of the logits: the normalised geometric mean of the probabilities."""
    fused: Logits = logits.mean(axis=0)
    return fused


def mean_probability(logits: Logits) -> Logits:
    """Log of the mean of the probabilities."""
    return _log_mean(log_softmax(logits), np.full(logits.shape[:2], -np.log(len(logits))))


def most_confident(logits: Logits) -> Logits:
    """Each sample takes the logits of the view with the highest probability (the first of equals)."""
    best = log_softmax(logits).max(axis=-1).argmax(axis=0)
    return logits[best, np.arange(logits.shape[1])]


def entropy_weighted(logits: Logits) -> Logits:
    """Log of the mean of the probabilities, each view weighted by log C minus its entropy, per sample.

    Views that all know nothing are weighted alike.
    """
    log_p = log_softmax(logits)
    information = np.log(logits.shape[-1]) + (np.exp(log_p) * log_p).sum(axis=-1)
    # A floor in proportion keeps the weights defined where every view is flat.
    weights = np.maximum(information, 0.0) + 1e-9
    return _log_mean(log_p, np.log(weights / weights.sum(axis=0)))


def _log_mean(log_p: Logits, log_weights: Logits) -> Logits:
    terms = log_p + log_weights[..., None]
    top = terms.max(axis=0)
    fused: Logits = top + np.log(np.exp(terms - top).sum(axis=0))
    return fused


FUSIONS: Mapping[str, Callable[[Logits], Logits]] = {
    "mean_logit": mean_logit,
    "mean_probability": mean_probability,
    "max": most_confident,
    "entropy": entropy_weighted,
}
