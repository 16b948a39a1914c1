"""Variance-invariance-covariance regularisation (Bardes, Ponce and LeCun, 2022, arXiv 2105.04906, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from roadwork_core.kinds import ObjectiveContext

from .projection import expander


class VicregObjective(nn.Module):
    """Two views of each picture through backbone and expander."""

    views = 2

    def __init__(
        self,
        ctx: ObjectiveContext,
        *,
        invariance: float,
        variance: float,
        covariance: float,
        width: int,
        layers: int,
    ) -> None:
        super().__init__()
        self._backbone = (ctx.backbone,)  # in a tuple, so that it is no part of this module
        self.weights = (invariance, variance, covariance)
        self.expander = expander(ctx.feature_dim, width, layers)

    def forward(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        features = self._backbone[0](torch.cat([views[0], views[1]]))
        one, two = self.expander(features).chunk(2)
        with torch.autocast(one.device.type, enabled=False):
            terms = vicreg_terms(one.float(), two.float())
        loss = torch.stack([weight * term for weight, term in zip(self.weights, terms, strict=True)]).sum()
        return loss, features[: len(views[0])].detach().float()

    def after_step(self, step: int) -> None:
        """Nothing moves between the steps."""


def vicreg_terms(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(invariance, variance, covariance) of two embeddings, float32 (N, D), N at least 2.

    The mean squared difference; the mean over dimensions of max(0, 1 - deviation), of both; the sum of squared
    covariances off the diagonal over D, of both.
    """
    invariance = nn.functional.mse_loss(one, two)
    variance = _spread(one) + _spread(two)
    return invariance, variance, _redundancy(one) + _redundancy(two)


def _spread(embedding: Tensor) -> Tensor:
    deviation = torch.sqrt(embedding.var(dim=0) + 1e-4)
    return torch.relu(1.0 - deviation).mean()


def _redundancy(embedding: Tensor) -> Tensor:
    number, width = embedding.shape
    centred = embedding - embedding.mean(dim=0)
    covariance = centred.T @ centred / (number - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / width
