"""Networks on top of features that self-supervised objectives train and then drop."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def expander(feature_dim: int, width: int, layers: int) -> nn.Sequential:
    """Linear layers with batch norm and ReLU between them, the last one bare: (N, feature_dim) to (N, width)."""
    parts: list[nn.Module] = []
    before = feature_dim
    for _ in range(layers - 1):
        parts += [nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        before = width
    parts.append(nn.Linear(before, width, bias=False))
    return nn.Sequential(*parts)


class PrototypeHead(nn.Module):
    """Three layers to a bottleneck of unit length, then its cosine with every prototype: (N, D) to (N, K)."""

    def __init__(self, feature_dim: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(feature_dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for module in self.layers:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, features: Tensor, *, hold_prototypes: bool = False) -> Tensor:
        """float32 logits; with `hold_prototypes` the last layer gets no gradient."""
        vectors = self.layers(features)
        with torch.autocast(vectors.device.type, enabled=False):
            directions = self.prototypes.detach() if hold_prototypes else self.prototypes
            unit = nn.functional.normalize(directions.float(), dim=1)
            return nn.functional.normalize(vectors.float(), dim=1) @ unit.T
