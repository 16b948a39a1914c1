"""Pictures written as JPEG and read again."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn


def recompressed(image: Tensor, quality: int) -> Tensor:
    """The picture as a JPEG of this quality gives it back: uint8 (3, H, W) to the same, on the CPU."""
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(file, format="JPEG", quality=quality)
    with Image.open(file) as read:
        return torch.from_numpy(np.array(read.convert("RGB"))).permute(2, 0, 1)


class RandomCompression(nn.Module):
    """A JPEG of a quality that is uniform from the least to the largest."""

    def __init__(self, quality: tuple[int, int]) -> None:
        super().__init__()
        self.quality = quality

    def forward(self, image: Tensor) -> Tensor:
        least, largest = self.quality
        return recompressed(image, int(torch.randint(least, largest + 1, ())))
