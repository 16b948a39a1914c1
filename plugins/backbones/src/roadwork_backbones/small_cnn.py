"""A small residual convolutional network that trains from scratch on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from roadwork_core.data.preprocessing import Preprocessing

from .imagenet import MEAN, STD
from .tokens import places

Norm = Literal["batch", "group"]


class SmallCnnBackbone(nn.Module):
    """Images, float (N, 3, H, W), to features, float (N, width * 2 ** (stages - 1))."""

    def __init__(self, *, width: int, stages: int, depth: int, image_size: int, norm: Norm) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(stages)]
        self.stages = nn.ModuleList(
            _Stage(before, after, depth, norm) for before, after in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.feature_dim = widths[-1]
        self.preprocessing = Preprocessing(size=(image_size, image_size), mean=MEAN, std=STD)
        self.architecture: dict[str, Any] = {
            "width": width,
            "stages": stages,
            "depth": depth,
            "image_size": image_size,
            "norm": norm,
        }

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self._feature_map(pixel_values).mean(dim=(2, 3))

    @property
    def token_dim(self) -> int:
        return self.feature_dim

    def tokens(self, pixel_values: Tensor) -> Tensor:
        """The places of the last stage, float (N, H' * W', token_dim)."""
        return places(self._feature_map(pixel_values))

    def _feature_map(self, pixel_values: Tensor) -> Tensor:
        features = pixel_values
        for stage in self.stages:
            features = stage(features)
        return features

    def blocks(self) -> Sequence[nn.Module]:
        return list(self.stages)


class _Stage(nn.Module):
    """Halves the resolution, then adds residual convolutions."""

    def __init__(self, before: int, after: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.down = _convolution(before, after, 2, norm)
        self.residual = nn.ModuleList(_convolution(after, after, 1, norm) for _ in range(depth - 1))

    def forward(self, features: Tensor) -> Tensor:
        features = self.down(features)
        for layer in self.residual:
            features = features + layer(features)
        return features


def _convolution(before: int, after: int, stride: int, norm: Norm) -> nn.Sequential:
    normalise = nn.BatchNorm2d(after) if norm == "batch" else nn.GroupNorm(_groups(after), after)
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), normalise, nn.ReLU())


def _groups(channels: int) -> int:
    # Groups of 8 channels where that divides, else of the largest divisor below.
    return channels // next(size for size in range(min(8, channels), 0, -1) if channels % size == 0)
