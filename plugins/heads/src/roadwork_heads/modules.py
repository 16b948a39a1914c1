"""The head modules: features, float (N, D), to logits, float (N, C)."""

from __future__ import annotations

from collections.abc import Sequence

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


def _output_layer(feature_dim: int, num_classes: int, class_counts: NDArray[np.int64] | None) -> nn.Linear:
    """Weights start small, so that the bias alone decides at first: zero, or the log of the class frequencies."""
    layer = nn.Linear(feature_dim, num_classes)
    nn.init.trunc_normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    if class_counts is not None:
        # One count more per class keeps a class that the train split lacks finite.
        shares = (class_counts + 1.0) / (class_counts.sum() + len(class_counts))
        with torch.no_grad():
            layer.bias.copy_(torch.from_numpy(np.log(shares)).float())
    return layer
