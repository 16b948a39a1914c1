"""A network across the views' logits: shared encoder, attention between views, a decoder of its own for each."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from roadwork_core.metrics import log_softmax

from .fusing import NOTHING, not_fitted, refuse_other_views
from .fusion import Logits

if TYPE_CHECKING:
    from roadwork_core.learned_tta import TtaFitContext

    from .components import AttentionOptions

Floats = NDArray[np.float64]
SPLIT = "train"
#: Weights of the network that all views share, and those of which each view has its own.
SHARED = ("encoder", "query", "key", "mix")
OWN = ("embedding", "decoder", "bias", "log_temperature")


class AttentionFusion:
    """z = sum_v a_v(x) z_v / T_v: the weights a of a picture come from attention across its views' logits.

    Temperatures are positive and weights convex, so views that agree on a class are never overruled.
    """

    def __init__(self, view_ids: Sequence[str], options: AttentionOptions) -> None:
        self._view_ids = tuple(view_ids)
        self._options = options
        self._state: Mapping[str, Any] | None = None
        self._weights: dict[str, Floats] = {}
        self._scale = 1.0

    @property
    def fits_on(self) -> Mapping[str, int | None]:
        return {SPLIT: self._options.samples} if self._state is None else NOTHING

    def fuse(self, logits: Logits) -> Logits:
        if self._state is None:
            raise not_fitted("attention", SPLIT)
        weights = self._weights
        tokens = encode_input(logits, self._scale)
        hidden = np.tanh(_times(tokens, weights["encoder"]) + weights["embedding"][:, None])
        query, key = _times(hidden, weights["query"]), _times(hidden, weights["key"])
        # (V, V, n): how much view v looks at view u.
        looks = _softmax((query[:, None] * key[None]).sum(axis=-1) / np.sqrt(key.shape[-1]), axis=1)
        seen = (looks[..., None] * _times(hidden, weights["mix"])[None]).sum(axis=1)
        scores = ((hidden + seen) * weights["decoder"][:, None]).sum(axis=-1) + weights["bias"][:, None]
        share = _softmax(scores, axis=0) * np.exp(-weights["log_temperature"])[:, None]
        fused: Logits = (share[..., None] * logits).sum(axis=0)
        return fused

    def fit(self, ctx: TtaFitContext) -> Mapping[str, Any]:
        from .attention_training import trained

        scores = ctx.splits[SPLIT]
        found, record = trained(scores, self._options, ctx.seed)
        ctx.report(
            f"attention across {len(self._view_ids)} views: best after step {record['best_step']} of"
            f" {record['steps']}, negative log-likelihood {record['mean_logit_nll']:.4f} -> {record['nll']:.4f}"
        )
        own = {view: {name: found[name][index].tolist() for name in OWN} for index, view in enumerate(self._view_ids)}
        shared = {name: found[name].tolist() for name in SHARED}
        return {**shared, "views": own, "scale": float(found["scale"]), "training": record}

    def restore(self, state: Mapping[str, Any]) -> AttentionFusion:
        refuse_other_views(state["views"], self._view_ids)
        weights = {name: np.array(state[name], dtype=np.float64) for name in SHARED}
        for name in OWN:
            weights[name] = np.array([state["views"][view][name] for view in self._view_ids], dtype=np.float64)
        width, views = weights["encoder"].shape[-1], len(self._view_ids)
        shapes = {
            **dict.fromkeys(("query", "key", "mix"), (width, width)),
            **{"embedding": (views, width), "decoder": (views, width), "bias": (views,), "log_temperature": (views,)},
        }
        for name, shape in shapes.items():
            if weights[name].shape != shape:
                raise ValueError(f"{name} has the shape {weights[name].shape}, not {shape}")
        scale = float(state["scale"])
        if not all(np.isfinite(array).all() for array in weights.values()) or not 0 < scale < np.inf:
            raise ValueError("its weights are not finite")
        fitted = copy.copy(self)
        fitted._state, fitted._weights, fitted._scale = state, weights, scale
        return fitted

    def summary(self) -> Mapping[str, Any]:
        text = f"{len(self._view_ids)} views, weighted for each picture by a network trained on {SPLIT}"
        if self._state is None:
            return {"text": text}
        record = self._state["training"]
        nll = f"{record['mean_logit_nll']:.4f} for their mean and {record['nll']:.4f} for the network"
        return {"text": f"{text}; negative log-likelihood on the part of {SPLIT} it was not trained on: {nll}"}


def encode_input(logits: Logits, scale: float) -> Logits:
    """What the network is given of each view: log probabilities about their mean, in units of `scale`."""
    log_p = log_softmax(logits)
    tokens: Logits = (log_p - log_p.mean(axis=-1, keepdims=True)) / scale
    return tokens


def _times(values: Floats, matrix: Floats) -> Floats:
    """`values @ matrix` over the last axis, term by term, so that a row's result does not depend on its batch."""
    total = values[..., :1] * matrix[0]
    for index in range(1, matrix.shape[0]):
        total = total + values[..., index : index + 1] * matrix[index]
    return np.asarray(total)


def _softmax(scores: Floats, axis: int) -> Floats:
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))
