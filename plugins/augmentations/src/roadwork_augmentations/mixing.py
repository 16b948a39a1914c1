"""Mixing of a batch's images, float (N, 3, h, w), and targets, class probabilities float (N, C)."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor


@frozen
class Blend:
    """Mixup: one weight for the batch, partners by a random permutation."""

    alpha: float
    p: float

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if _skipped(self.p):
            return images, targets
        weight = _beta(self.alpha)
        partner = _partners(images)
        return (
            images * weight + images[partner] * (1.0 - weight),
            targets * weight + targets[partner] * (1.0 - weight),
        )


@frozen
class Paste:
    """CutMix: one box for the batch, its centre uniform, cut at the border; targets follow the area that remains."""

    alpha: float
    p: float

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if _skipped(self.p):
            return images, targets
        height, width = images.shape[-2:]
        side = (1.0 - _beta(self.alpha)) ** 0.5
        top, bottom = _span(height, side)
        left, right = _span(width, side)
        partner = _partners(images)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partner][:, :, top:bottom, left:right]
        kept = 1.0 - (bottom - top) * (right - left) / (height * width)
        return mixed, targets * kept + targets[partner] * (1.0 - kept)


def _span(length: int, part: float) -> tuple[int, int]:
    centre = torch.rand(()).item() * length
    half = length * part / 2
    return max(0, round(centre - half)), min(length, round(centre + half))


def _skipped(p: float) -> bool:
    return torch.rand(()).item() >= p


def _beta(alpha: float) -> float:
    return float(torch.distributions.Beta(alpha, alpha).sample())


def _partners(images: Tensor) -> Tensor:
    # Drawn on the CPU whatever the device, so that a run is the same on any.
    return torch.randperm(len(images)).to(images.device)
