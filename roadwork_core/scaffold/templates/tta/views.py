"""The views themselves and how their logits are fused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadwork_core.kinds import TtaContext


class Brighter:
    """Two views at the model's size."""

    view_ids = ("identity", "brighter")

    def __init__(self, ctx: TtaContext, gain: float, weight: float) -> None:
        self.ctx = ctx
        self.gain = gain
        self.weight = weight
        self.min_side = max(ctx.image_size)

    def views(self, image: Tensor) -> Sequence[Tensor]:
        """Picture, uint8 (3, H, W), to two inputs, uint8 (3, h, w)."""
        plain = self.ctx.to_input(image, self.ctx.image_size)
        return [plain, (plain.float() * self.gain).round().clamp(0, 255).to(torch.uint8)]

    def fuse(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits, float64 (2, n, C), to float64 (n, C)."""
        return (1.0 - self.weight) * logits[0] + self.weight * logits[1]
