"""The head modules: features, float (N, D), to logits, float (N, C); one makes its features of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class LinearHead(nn.Module):
    """(Layer norm, dropout,) linear."""

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        *,
        dropout: float = 0.0,
        norm: bool = False,
        zero_init: bool = False,
        class_counts: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = _output_layer(feature_dim, num_classes, class_counts)
        if zero_init:
            nn.init.zeros_(self.linear.weight)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(self.norm(features)))
        return logits


class MlpHead(nn.Module):
    """(Layer norm,) then linear, GELU and dropout for each hidden width, then linear."""

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        *,
        hidden: Sequence[int],
        dropout: float,
        norm: bool,
        class_counts: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim) if norm else nn.Identity()
        layers: list[nn.Module] = []
        width = feature_dim
        for wide in hidden:
            layers += [nn.Linear(width, wide), nn.GELU(), nn.Dropout(dropout)]
            width = wide
        self.hidden = nn.Sequential(*layers)
        self.linear = _output_layer(width, num_classes, class_counts)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.hidden(self.norm(features)))
        return logits


class AttentionPoolHead(nn.Module):
    """(Layer norm,) tokens pooled by attention to a learned question, then linear.

    The MAP head of arXiv 2106.04560: h = Attention(question, tokens, tokens), h + MLP(LayerNorm(h)). The question is
    learned as it is, not through a projection, which would say the same with more weights.
    """

    reads_tokens: ClassVar[bool] = True

    def __init__(
        self,
        token_dim: int,
        num_classes: int,
        *,
        heads: int,
        mlp_ratio: int,
        norm: bool,
        dropout: float,
        class_counts: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(token_dim) if norm else nn.Identity()
        self.question = nn.Parameter(torch.empty(heads, token_dim // heads))
        nn.init.trunc_normal_(self.question, std=0.02)
        self.key_value = _projection(token_dim, 2 * token_dim)
        self.output = _projection(token_dim, token_dim)
        self.mlp: nn.Sequential | None = None
        if mlp_ratio:
            wide = mlp_ratio * token_dim
            self.mlp = nn.Sequential(
                nn.LayerNorm(token_dim), _projection(token_dim, wide), nn.GELU(), _projection(wide, token_dim)
            )
        self.dropout = nn.Dropout(dropout)
        self.linear = _output_layer(token_dim, num_classes, class_counts)

    def forward(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits

    def pool(self, tokens: Tensor) -> Tensor:
        """Tokens, float (N, T, D), in any order, to one vector for each sample, float (N, D)."""
        both = self.key_value(self.norm(tokens)).unflatten(2, (2, self.heads, -1))
        keys, values = both[:, :, 0], both[:, :, 1]
        scores = (keys * self.question).sum(dim=3) * self.question.shape[1] ** -0.5
        mixed = (scores.softmax(dim=1)[..., None] * values).sum(dim=1)
        pooled: Tensor = self.output(mixed.flatten(1))
        return pooled if self.mlp is None else pooled + self.mlp(pooled)


class DoraLinearHead(nn.Module):
    """(Layer norm, dropout,) linear, each class's weights a direction of length 1 times a magnitude of their own.

    z_c = m_c (v_c / |v_c|) x + b_c: the decomposition that DoRA trains (arXiv 2402.09353, equation 2), on a layer that
    has no pretrained weights.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        *,
        dropout: float,
        norm: bool,
        zero_init: bool,
        class_counts: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        start = _output_layer(feature_dim, num_classes, class_counts)
        self.direction = nn.Parameter(start.weight.detach().clone())
        lengths = start.weight.detach().norm(dim=1)
        self.magnitude = nn.Parameter(torch.zeros_like(lengths) if zero_init else lengths)
        self.bias = start.bias

    def forward(self, features: Tensor) -> Tensor:
        # The length of each direction is for float32, also where the product is not.
        weight = self.magnitude[:, None] * nn.functional.normalize(self.direction.float(), dim=1)
        return nn.functional.linear(self.dropout(self.norm(features)), weight, self.bias)


def _projection(before: int, after: int) -> nn.Linear:
    layer = nn.Linear(before, after)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _output_layer(feature_dim: int, num_classes: int, class_counts: NDArray[np.int64] | None) -> nn.Linear:
    """Weights start small, so that the bias alone decides at first: zero, or the log of the class frequencies."""
    layer = nn.Linear(feature_dim, num_classes)
    nn.init.trunc_normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    if class_counts is not None:
        # One count more per class keeps a class that the train split lacks finite.
        counts = class_counts if class_counts.min() > 0 else class_counts + 1
        with torch.no_grad():
            layer.bias.copy_(torch.from_numpy(np.log(counts / counts.sum())).float())
    return layer
