"""The transform itself. Random numbers come from torch's global generator, which is seeded for each sample."""

from __future__ import annotations

import torch
from torch import Tensor


class Brightness:
    """Picture, uint8 (3, H, W), to the same."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, image: Tensor) -> Tensor:
        factor = 1.0 + self.strength * (2.0 * torch.rand(()) - 1.0)
        return (image.float() * factor).round().clamp(0, 255).to(torch.uint8)
