"""Views of one picture as pure functions of it, and the fusion of their logits."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from roadwork_core.kinds import TtaContext

from .fusion import FUSIONS
from .tiling import tile_boxes, tile_share

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@frozen
class Whole:
    """A view of the whole picture: the input's (height, width), mirrored or not."""

    size: tuple[int, int]
    flip: bool


class MultiviewTta:
    """Whole-picture views, then `tiles` x `tiles` tiles row by row at the model's own size."""

    def __init__(
        self,
        ctx: TtaContext,
        *,
        whole: Sequence[Whole],
        tiles: int = 0,
        overlap: float = 0.0,
        fusion: str,
    ) -> None:
        self._to_input = ctx.to_input
        self._image_size = ctx.image_size
        self._whole = tuple(whole)
        self._tiles = tiles
        self._overlap = overlap
        self._fuse = FUSIONS[fusion]
        grid = [f"tile_{row}_{column}" for row in range(tiles) for column in range(tiles)]
        self.view_ids: Sequence[str] = (*(self._name(view) for view in self._whole), *grid)
        sides = [max(view.size) for view in self._whole]
        if tiles:
            # A tile is this part of the picture's side, and should not be enlarged to the model's size.
            sides.append(ceil(max(ctx.image_size) / tile_share(tiles, overlap)))
        self.min_side = max(sides)

    def views(self, image: Tensor) -> Sequence[Tensor]:
        """Picture, uint8 (3, H, W) of any size, to one uint8 (3, h, w) per name in `view_ids`."""
        resized: dict[tuple[int, int], Tensor] = {}
        made: list[Tensor] = []
        for view in self._whole:
            if view.size not in resized:
                resized[view.size] = self._to_input(image, view.size)
            made.append(resized[view.size].flip(-1) if view.flip else resized[view.size])
        frame = (image.shape[-2], image.shape[-1])
        for top, left, height, width in tile_boxes(frame, self._image_size, self._tiles, self._overlap):
            made.append(self._tile(image[:, top : top + height, left : left + width]))
        return made

    def fuse(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits per view, float64 (V, n, C), to float64 (n, C); one view is handed on unchanged."""
        return logits[0] if len(logits) == 1 else self._fuse(logits)

    def _tile(self, tile: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        height, width = self._image_size
        scales = tile.shape[-2] / height, tile.shape[-1] / width
        if abs(scales[0] - scales[1]) * max(height, width) > 1.0:
            # The tile was cut to a panorama's frame: stretched it is seen whole, cropped it would not be.
            tile = functional.resize(tile, [height, width], antialias=True)
        return self._to_input(tile, self._image_size)

    def _name(self, view: Whole) -> str:
        name = "identity" if view.size == self._image_size else f"size_{view.size[0]}x{view.size[1]}"
        if not view.flip:
            return name
        return "flip" if name == "identity" else f"{name}_flip"
