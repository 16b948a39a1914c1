"""The training of the attention across views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from roadwork_core.metrics import log_softmax

from .attention import encode_input

if TYPE_CHECKING:
    from roadwork_core.learned_tta import ViewScores

    from .components import AttentionOptions

#: Part of the groups that is not trained on, by which the best step is chosen.
HELD_OUT = 0.2


def trained(
    scores: ViewScores, options: AttentionOptions, seed: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    """Weights of the network by name, float64, and a record of the training.

    Starts as the mean of the logits (decoders and biases are zero, temperatures one), and keeps the step that was
    best on a fifth of the groups, of which the start is one: it is never worse there than the mean.
    """
    logits = torch.from_numpy(np.ascontiguousarray(scores.logits))
    labels = torch.from_numpy(scores.labels)
    log_p = log_softmax(scores.logits)
    scale = max(1e-6, float((log_p - log_p.mean(axis=-1, keepdims=True)).std()))
    tokens = torch.from_numpy(encode_input(scores.logits, scale))
    inside, outside = parts(scores.groups, seed)
    weights = _start(len(logits), logits.shape[-1], options.width, seed)
    optimizer = torch.optim.AdamW(weights.values(), lr=options.lr, weight_decay=options.weight_decay, fused=False)

    def loss(part: Tensor) -> Tensor:
        return functional.cross_entropy(_fused(tokens[:, part], logits[:, part], weights), labels[part])

    best, best_step, kept = float("inf"), 0, {}
    start = float("inf")
    for step in range(options.steps + 1):
        with torch.no_grad():
            held_out = float(loss(outside))
        if step == 0:
            start = held_out
        if held_out < best:
            best, best_step = held_out, step
            kept = {name: tensor.detach().clone() for name, tensor in weights.items()}
        if step < options.steps:
            optimizer.zero_grad()
            loss(inside).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    found = {name: tensor.numpy() for name, tensor in kept.items()}
    record = {
        "steps": options.steps,
        "best_step": best_step,
        "samples": len(labels),
        "held_out": len(outside),
        "mean_logit_nll": start,
        "nll": best,
    }
    return {**found, "scale": np.array(scale)}, record


def parts(groups: NDArray[np.int64], seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the samples to train on and of those to choose the step by, no group in both where there are two."""
    unique = np.random.default_rng(seed).permutation(np.unique(groups))
    held_out = np.isin(groups, unique[: max(1, round(HELD_OUT * len(unique)))])
    if held_out.all():
        everything = torch.arange(len(groups))
        return everything, everything
    return torch.from_numpy(np.flatnonzero(~held_out)), torch.from_numpy(np.flatnonzero(held_out))


def _start(views: int, classes: int, width: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def random(rows: int) -> Tensor:
        return torch.randn(rows, width, dtype=torch.float64, generator=generator) / rows**0.5

    weights = {"encoder": random(classes), **{name: random(width) for name in ("query", "key", "mix")}}
    for name, shape in {"embedding": (views, width), "decoder": (views, width)}.items():
        weights[name] = torch.zeros(shape, dtype=torch.float64)
    for name in ("bias", "log_temperature"):
        weights[name] = torch.zeros(views, dtype=torch.float64)
    return {name: tensor.requires_grad_() for name, tensor in weights.items()}


def _fused(tokens: Tensor, logits: Tensor, weights: dict[str, Tensor]) -> Tensor:
    hidden = torch.tanh(tokens @ weights["encoder"] + weights["embedding"][:, None])
    query, key = hidden @ weights["query"], hidden @ weights["key"]
    looks = torch.softmax(torch.einsum("vnd,und->vun", query, key) / key.shape[-1] ** 0.5, dim=1)
    seen = torch.einsum("vun,und->vnd", looks, hidden @ weights["mix"])
    scores = ((hidden + seen) * weights["decoder"][:, None]).sum(-1) + weights["bias"][:, None]
    share = torch.softmax(scores, dim=0) * torch.exp(-weights["log_temperature"])[:, None]
    return (share[..., None] * logits).sum(0)
