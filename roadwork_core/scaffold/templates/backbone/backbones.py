"""The backbone itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from roadwork_core.data.preprocessing import Preprocessing


class ConvNet(nn.Module):
    """Normalised images, float (N, 3, H, W), to features, float (N, feature_dim)."""

    def __init__(self, width: int, stages: int, image_size: int) -> None:
        super().__init__()
        widths = [3, *(width * 2**stage for stage in range(stages))]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(1, after), nn.GELU())
            for before, after in pairwise(widths)
        )
        self.feature_dim = widths[-1]
        self.preprocessing = Preprocessing(
            size=(image_size, image_size), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        )
        #: What `build` needs to make this module again, without weights.
        self.architecture: Mapping[str, Any] = {"width": width, "stages": stages, "image_size": image_size}

    def forward(self, pixel_values: Tensor) -> Tensor:
        for stage in self.stages:
            pixel_values = stage(pixel_values)
        return pixel_values.mean(dim=(2, 3))

    def blocks(self) -> Sequence[nn.Module]:
        return list(self.stages)
