"""Simple siamese representation learning (Chen and He, 2020, arXiv 2011.10566)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from roadwork_core.kinds import ObjectiveContext

from .projection import expander


class SimSiamObjective(nn.Module):
    """Two views of each picture through backbone and projector, each predicted from the other."""

    views = 2

    def __init__(self, ctx: ObjectiveContext, *, width: int, bottleneck: int) -> None:
        super().__init__()
        self._backbone = (ctx.backbone,)  # in a tuple, so that it is no part of this module
        self.projector = expander(ctx.feature_dim, width, 3)
        self.projector.append(nn.BatchNorm1d(width, affine=False))
        self.predictor = nn.Sequential(
            nn.Linear(width, bottleneck, bias=False),
            nn.BatchNorm1d(bottleneck),
            nn.ReLU(),
            nn.Linear(bottleneck, width),
        )

    def forward(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        # Each view on its own, so that batch norm sees one view at a time, as in the paper.
        features = [self._backbone[0](view) for view in views]
        targets = [self.projector(each) for each in features]
        guesses = [self.predictor(each) for each in targets]
        with torch.autocast(targets[0].device.type, enabled=False):
            loss = simsiam_loss(guesses[0], targets[1]) / 2 + simsiam_loss(guesses[1], targets[0]) / 2
        return loss, features[0].detach().float()

    def after_step(self, step: int) -> None:
        """Nothing moves between the steps."""


def simsiam_loss(guess: Tensor, target: Tensor) -> Tensor:
    """Mean negative cosine of two embeddings, (N, D); no gradient flows into `target`."""
    return -nn.functional.cosine_similarity(guess.float(), target.detach().float(), dim=1).mean()
