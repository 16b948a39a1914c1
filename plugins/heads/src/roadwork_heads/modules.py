"""The head modules: features, float (N, D), to logits, float (N, C)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from roadwork_core.errors import RoadworkError


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
    """Tokens weighted by how well they answer a learned question, then linear.

    One question per attention head, softmax(q k / sqrt(d)) over the tokens, as in the MAP head of arXiv 2106.04560.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        *,
        parts: int,
        heads: int,
        dropout: float,
        class_counts: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__()
        self.parts = parts
        self.heads = heads
        width = feature_dim // parts
        self.norm = nn.LayerNorm(width)
        self.question = nn.Parameter(torch.empty(heads, width // heads))
        nn.init.trunc_normal_(self.question, std=0.02)
        self.key_value = nn.Linear(width, 2 * width)
        nn.init.trunc_normal_(self.key_value.weight, std=width**-0.5)
        nn.init.zeros_(self.key_value.bias)
        self.pooled_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.linear = _output_layer(width, num_classes, class_counts)

    def forward(self, features: Tensor) -> Tensor:
        """Pooled features, float (N, D), or tokens, float (N, T, D), to logits, float (N, C)."""
        tokens = self.norm(self._tokens(features))
        keys, values = self.key_value(tokens).reshape(*tokens.shape[:2], 2, self.heads, -1).unbind(dim=2)
        scores = torch.einsum("nthd,hd->nth", keys, self.question) * self.question.shape[1] ** -0.5
        pooled = torch.einsum("nth,nthd->nhd", scores.softmax(dim=1), values).flatten(1)
        logits: Tensor = self.linear(self.dropout(self.pooled_norm(pooled)))
        return logits

    def _tokens(self, features: Tensor) -> Tensor:
        if features.ndim == 3:
            return features
        if self.parts == 1:
            raise RoadworkError(
                "attention_pool: with parts = 1 the backbone must give tokens, and it gives one pooled vector",
                hint="set head.parts to the number of vectors that it is made of (2 for cls_mean)",
            )
        return features.reshape(len(features), self.parts, -1)


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
