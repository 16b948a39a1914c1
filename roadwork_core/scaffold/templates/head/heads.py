"""The head itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CosineHead(nn.Module):
    """Features, float (N, D), to logits, float (N, C)."""

    def __init__(self, feature_dim: int, num_classes: int, scale: float) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(num_classes, feature_dim))
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        directions = nn.functional.normalize(self.directions, dim=-1)
        return self.scale * nn.functional.linear(nn.functional.normalize(features, dim=-1), directions)
