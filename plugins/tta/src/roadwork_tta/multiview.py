"""Views of one picture as pure functions of it, and the fusion of their logits."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from roadwork_core.kinds import TtaContext

from .fusing import make_fusing
from .tiling import Crops

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from roadwork_core.learned_tta import TtaFitContext

    from .components import FusionOptions


@frozen
class Whole:
    """A view of the whole picture: the input's (height, width), mirrored or not."""

    size: tuple[int, int]
    flip: bool


def wholes(ctx: TtaContext, scales: Sequence[float], *, flip: bool) -> Sequence[Whole]:
    """The whole picture at the model's own size and at each scale of it, snapped to the patch, and mirrored.

    Small inputs may snap two scales to one size: each size stands once.
    """
    sizes = dict.fromkeys([ctx.image_size, *(_snapped(scale, ctx) for scale in scales)])
    return [Whole(size, mirrored) for size in sizes for mirrored in ((False, True) if flip else (False,))]


def _snapped(scale: float, ctx: TtaContext) -> tuple[int, int]:
    multiple = ctx.size_multiple
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in ctx.image_size)
    return height, width


class MultiviewTta:
    """Whole-picture views, the first being the identity, then crops at the model's own size."""

    def __init__(
        self, ctx: TtaContext, whole: Sequence[Whole], options: FusionOptions, crops: Crops | None = None
    ) -> None:
        self._to_input = ctx.to_input
        self._image_size = ctx.image_size
        self._whole = tuple(whole)
        self._crops = crops
        names = crops.names if crops else ()
        self.view_ids: Sequence[str] = (*(self._name(view) for view in self._whole), *names)
        #: What makes each view, in the order of `view_ids`: equal keys of two augmentations are equal views.
        self.view_keys: Sequence[Hashable] = (*self._whole, *((crops, name) for name in names))
        sides = [max(view.size) for view in self._whole]
        if crops:
            # A tile is this part of the picture's side, and should not be enlarged to the model's size.
            sides.append(ceil(max(ctx.image_size) / crops.share))
        self.min_side = max(sides)
        self._fusing = make_fusing(options, self.view_ids)

    def views(self, image: Tensor) -> Sequence[Tensor]:
        """Picture, uint8 (3, H, W) of any size, to one uint8 (3, h, w) per name in `view_ids`."""
        resized: dict[tuple[int, int], Tensor] = {}
        made: list[Tensor] = []
        for view in self._whole:
            if view.size not in resized:
                resized[view.size] = self._to_input(image, view.size)
            made.append(resized[view.size].flip(-1) if view.flip else resized[view.size])
        if self._crops:
            frame = (image.shape[-2], image.shape[-1])
            for top, left, height, width in self._crops.boxes(frame, self._image_size):
                made.append(self._tile(image[:, top : top + height, left : left + width]))
        return made

    def fuse(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits per view, float64 (V, n, C), to float64 (n, C); one view is handed on unchanged.

        Raises RoadworkError for a fusion that learns and was not fitted.
        """
        return self._fusing.fuse(logits)

    @property
    def fits_on(self) -> Mapping[str, int | None]:
        """What the fusion is still to be fitted on: a split, with how many samples at most."""
        return self._fusing.fits_on

    def fit(self, ctx: TtaFitContext) -> Mapping[str, Any]:
        """The state of the fusion, a JSON value."""
        return self._fusing.fit(ctx)

    def restore(self, state: Mapping[str, Any]) -> MultiviewTta:
        """The same with its fusion fitted. Raises KeyError or ValueError for a state of other views."""
        fitted = copy.copy(self)
        fitted._fusing = self._fusing.restore(state)
        return fitted

    def summary(self) -> Mapping[str, Any]:
        """The fusion in words, and what it learned as a table."""
        return self._fusing.summary()

    def _tile(self, tile: Tensor) -> Tensor:
        height, width = self._image_size
        scales = tile.shape[-2] / height, tile.shape[-1] / width
        if abs(scales[0] - scales[1]) * max(height, width) > 1.0:
            from torchvision.transforms.v2 import functional

            # The tile was cut to a panorama's frame: stretched it is seen whole, cropped it would not be.
            tile = functional.resize(tile, [height, width], antialias=True)
        return self._to_input(tile, self._image_size)

    def _name(self, view: Whole) -> str:
        name = "identity" if view.size == self._image_size else f"size_{view.size[0]}x{view.size[1]}"
        if not view.flip:
            return name
        return "flip" if name == "identity" else f"{name}_flip"
