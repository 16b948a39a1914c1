"""Overlapping crops that cover a frame."""

from __future__ import annotations

from math import ceil

from attrs import frozen

Box = tuple[int, int, int, int]


@frozen(kw_only=True)
class Crops:
    """`per_side` x `per_side` crops that share the part `overlap` of their side, and one more in the centre."""

    per_side: int
    overlap: float
    centre: bool = False

    @property
    def share(self) -> float:
        """The part of the frame that a crop takes along one axis, so that the crops reach from end to end."""
        return tile_share(self.per_side, self.overlap)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each of `boxes`."""
        grid = tuple(f"tile_{row}_{column}" for row in range(self.per_side) for column in range(self.per_side))
        return (*grid, "centre") if self.centre else grid

    def boxes(self, frame: tuple[int, int], shape: tuple[int, int]) -> list[Box]:
        """Boxes as of `tile_boxes`, and the one in the centre."""
        made = tile_boxes(frame, shape, self.per_side, self.overlap)
        if self.centre:
            _, _, tall, wide = made[0]
            made.append(((frame[0] - tall) // 2, (frame[1] - wide) // 2, tall, wide))
        return made


def tile_share(tiles: int, overlap: float) -> float:
    """The part of the frame that a tile takes along one axis, so that the tiles reach from end to end."""
    return 1.0 / (tiles - (tiles - 1) * overlap)


def tile_boxes(frame: tuple[int, int], shape: tuple[int, int], tiles: int, overlap: float) -> list[Box]:
    """`tiles` x `tiles` boxes (top, left, height, width) in pixels, row by row, that cover the frame wholly.

    `frame` is the picture's and `shape` the model input's (height, width). Boxes have the input's proportions, so
    neighbours share the part `overlap` of their side along one axis and at least that along the other; only where
    such a box would be larger than the frame (a panorama) is it cut to the frame.
    """
    share = tile_share(tiles, overlap)
    scale = max(share * side / needed for side, needed in zip(frame, shape, strict=True))
    tall, wide = (min(side, ceil(scale * needed)) for side, needed in zip(frame, shape, strict=True))
    tops = _starts(frame[0] - tall, tiles)
    lefts = _starts(frame[1] - wide, tiles)
    return [(top, left, tall, wide) for top in tops for left in lefts]


def _starts(free: int, tiles: int) -> list[int]:
    return [round(index * free / (tiles - 1)) for index in range(tiles)]
