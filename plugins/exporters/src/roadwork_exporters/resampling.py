"""Antialiased resizing of 8-bit pictures in numpy, in the fixed-point arithmetic of Pillow and torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
#: Reach of each filter in pixels of the coarser grid.
_REACH = {"bilinear": 1.0, "bicubic": 2.0}
#: Weights are whole numbers below this.
_LARGEST = 1 << 15


def resize(image: Pixels, size: tuple[int, int], interpolation: str) -> Pixels:
    """A picture, uint8 (3, H, W), at another (height, width): columns first, then rows, rounded to 8 bits after each.

    `interpolation` is bilinear, bicubic (Keys, 1981, a = -1/2) or nearest. The result is that of torch's antialiased
    resize of 8-bit pictures: bit for bit where torch has its vectorised kernel (x86 with AVX2), otherwise within one
    grey level.
    """
    height, width = size
    if image.shape[-2:] == (height, width):
        return image
    if interpolation == "nearest":
        rows, columns = (_nearest(old, new) for old, new in zip(image.shape[-2:], size, strict=True))
        return np.ascontiguousarray(image[:, rows[:, None], columns])
    if image.shape[-1] != width:
        image = _along_last(image, width, interpolation)
    if image.shape[-2] != height:
        image = _along_last(image.swapaxes(-1, -2), height, interpolation).swapaxes(-1, -2)
    return np.ascontiguousarray(image)


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    scale = np.float32(old) / np.float32(new)
    return np.minimum(np.floor(np.arange(new, dtype=np.float32) * scale).astype(np.int64), old - 1)


def _along_last(image: Pixels, new: int, interpolation: str) -> Pixels:
    starts, weights, bits = _taps(image.shape[-1], new, interpolation)
    total = np.full((*image.shape[:-1], new), 1 << (bits - 1), dtype=np.int32)
    for tap in range(weights.shape[1]):
        # Beyond the last pixel weights are zero, so any pixel does.
        columns = np.minimum(starts + tap, image.shape[-1] - 1)
        total += np.take(image, columns, axis=-1).astype(np.int32) * weights[:, tap]
    return np.clip(total >> bits, 0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _taps(old: int, new: int, interpolation: str) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
    """First pixel (new,), weights (new, taps) in units of 2**-bits, and bits."""
    scale = old / new
    stretch = max(scale, 1.0)
    reach = _REACH[interpolation] * stretch
    centres = scale * (np.arange(new) + 0.5)
    starts = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    ends = np.minimum((centres + reach + 0.5).astype(np.int64), old)
    places = starts[:, None] + np.arange(int((ends - starts).max()))
    weights = _filter((places - centres[:, None] + 0.5) / stretch, interpolation)
    weights[places >= ends[:, None]] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    bits = 0
    while bits < 22 and int(0.5 + weights.max() * (1 << (bits + 1))) < _LARGEST:
        bits += 1
    whole = np.trunc(weights * (1 << bits) + np.where(weights < 0, -0.5, 0.5)).astype(np.int32)
    return starts, whole, bits


def _filter(distance: NDArray[np.float64], interpolation: str) -> NDArray[np.float64]:
    x = np.abs(distance)
    if interpolation == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, inner, np.where(x < 2.0, outer, 0.0))
