"""What `roadwork_core.data.preprocessing` does to a picture, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadwork_core.data.preprocessing import Preprocessing

from .resampling import resize

#: As in `Preprocessing.to_input`: longer pictures are cropped before they are resized.
_LONG = 8


class Picture(np.ndarray[Any, np.dtype[np.uint8]]):
    """An array that test-time augmentations may take for a tensor: slices, `shape` and `flip`."""

    def flip(self, *axes: int) -> Picture:
        """The same pixels in the opposite order along the axes."""
        flipped: Picture = np.flip(self, axes)
        return flipped


def picture(pixels: NDArray[np.uint8]) -> Picture:
    """A decoded picture, uint8 (H, W, 3), as uint8 (3, H, W)."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).view(Picture)


def to_input(preprocessing: Preprocessing, image: Picture, size: tuple[int, int] | None = None) -> Picture:
    """Picture, uint8 (3, H, W), to uint8 (3, h, w) at `size` (the model's own by default)."""
    height, width = size or preprocessing.size
    old_height, old_width = image.shape[-2:]
    how = preprocessing.interpolation
    if preprocessing.fit == "stretch":
        return resize(image, (height, width), how).view(Picture)
    if max(old_height * width, old_width * height) > _LONG * min(old_height * width, old_width * height):
        image = _centre(
            image,
            max(1, min(old_height, round(old_width * height / width))),
            max(1, min(old_width, round(old_height * width / height))),
        )
        old_height, old_width = image.shape[-2:]
    scale = max(height / old_height, width / old_width)
    covering = max(height, round(old_height * scale)), max(width, round(old_width * scale))
    return _centre(resize(image, covering, how).view(Picture), height, width)


def normalise(preprocessing: Preprocessing, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Inputs, uint8 (N, 3, h, w), to float32 (N, 3, h, w) as the backbone expects them."""
    mean = np.asarray(preprocessing.mean, dtype=np.float32).reshape(1, 3, 1, 1) * np.float32(255)
    std = np.asarray(preprocessing.std, dtype=np.float32).reshape(1, 3, 1, 1) * np.float32(255)
    result: NDArray[np.float32] = (images.astype(np.float32) - mean) / std
    return result


def _centre(image: Picture, height: int, width: int) -> Picture:
    top, left = round((image.shape[-2] - height) / 2), round((image.shape[-1] - width) / 2)
    cut: Picture = image[:, top : top + height, left : left + width].view(Picture)
    return cut
