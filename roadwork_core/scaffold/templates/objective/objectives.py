"""The objective itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Agreement(nn.Module):
    """Two views, each float (N, 3, H, W), to a loss and features to watch, float (N, D)."""

    views = 2

    def __init__(self, backbone: nn.Module, feature_dim: int, width: int, spread: float) -> None:
        super().__init__()
        # In a tuple the backbone is not a submodule: its weights are not this module's to store.
        self._backbone = (backbone,)
        self.project = nn.Linear(feature_dim, width)
        self.spread = spread

    def forward(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        features = [self._backbone[0](view) for view in views]
        first, second = (self.project(feature).float() for feature in features)
        agreement = (first - second).square().mean()
        deviations = [torch.sqrt(projected.var(dim=0) + 1e-4) for projected in (first, second)]
        spread = sum(torch.relu(1.0 - deviation).mean() for deviation in deviations)
        return agreement + self.spread * spread, features[0].detach()

    def after_step(self, step: int) -> None:
        """Nothing follows the student here."""
