"""Fusions of the views' logits, float64 (V, n, C), to one, float64 (n, C), whose softmax is the fused probability.

`kept`, bool (V, n), says which views of a sample count, at least one of each; None is all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from roadwork_core.metrics import log_softmax

Logits = NDArray[np.float64]
Kept = NDArray[np.bool_] | None
Fuse = Callable[..., Logits]


def entropy(logits: Logits) -> Logits:
    """Entropy in nats of each view's probabilities, (V, n, C) to (V, n)."""
    log_p = log_softmax(logits)
    found: Logits = -(np.exp(log_p) * log_p).sum(axis=-1)
    return found


def mean_logit(logits: Logits, kept: Kept = None) -> Logits:
    """Mean of the logits: the normalised geometric mean of the probabilities."""
    if kept is None:
        return np.asarray(logits.mean(axis=0))
    fused: Logits = np.where(kept[..., None], logits, 0.0).sum(axis=0) / kept.sum(axis=0)[:, None]
    return fused


def mean_probability(logits: Logits, kept: Kept = None) -> Logits:
    """Log of the mean of the probabilities."""
    return log_mixture(log_softmax(logits), np.ones(logits.shape[:2]), kept)


def most_confident(logits: Logits, kept: Kept = None) -> Logits:
    """Each sample takes the logits of the view with the highest probability.

    Views that are equally sure are averaged, so that their order does not matter.
    """
    confidence = log_softmax(logits).max(axis=-1)
    if kept is not None:
        confidence = np.where(kept, confidence, -np.inf)
    best = confidence == confidence.max(axis=0)
    return np.where(best.sum(axis=0)[:, None] == 1, _first(logits, best), mean_logit(logits, best))


def entropy_weighted(logits: Logits, kept: Kept = None) -> Logits:
    """Log of the mean of the probabilities, each view weighted by log C minus its entropy, per sample.

    Views that all know nothing are weighted alike.
    """
    information = np.log(logits.shape[-1]) - entropy(logits)
    # A floor in proportion keeps the weights defined where every view is flat.
    return log_mixture(log_softmax(logits), np.maximum(information, 0.0) + 1e-9, kept)


def log_mixture(log_p: Logits, weights: Logits, kept: Kept = None) -> Logits:
    """log sum_v w_v p_v, with the weights (V, n) > 0 normalised for each sample over the views that count."""
    weights = weights if kept is None else np.where(kept, weights, 0.0)
    with np.errstate(divide="ignore"):
        terms = log_p + np.log(weights / weights.sum(axis=0))[..., None]
    top = terms.max(axis=0)
    fused: Logits = top + np.log(np.exp(terms - top).sum(axis=0))
    return fused


def most_certain(logits: Logits, identity: int, keep: float) -> NDArray[np.bool_]:
    """Which views of each sample count, bool (V, n): the part `keep` of lowest entropy, rounded up, and `identity`.

    Views that are as certain as the last one kept are kept too, so that their order does not matter.
    """
    uncertain = entropy(logits)
    last = np.sort(uncertain, axis=0)[int(np.ceil(keep * len(logits) - 1e-9)) - 1]
    kept: NDArray[np.bool_] = uncertain <= last
    kept[identity] = True
    return kept


def _first(logits: Logits, chosen: NDArray[np.bool_]) -> Logits:
    return logits[chosen.argmax(axis=0), np.arange(logits.shape[1])]


FUSIONS: Mapping[str, Fuse] = {
    "mean_logit": mean_logit,
    "mean_probability": mean_probability,
    "max": most_confident,
    "entropy": entropy_weighted,
}
