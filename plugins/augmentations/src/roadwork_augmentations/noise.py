"""Noise on uint8 pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Noise(nn.Module):
    """Adds normal noise of `sigma` grey levels, rounded and clipped to [0, 255]."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, image: Tensor) -> Tensor:
        noise = torch.randn(image.shape, device=image.device) * self.sigma
        return (image + noise).round_().clamp_(0, 255).to(torch.uint8)
