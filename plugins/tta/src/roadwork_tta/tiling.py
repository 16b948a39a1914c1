"""Overlapping tiles that cover a frame."""

from __future__ import annotations

from math import ceil

Box = tuple[int, int, int, int]


def tile_share(tiles: int, overlap: float) -> float:
    """The part of the frame that a tile takes along one axis, so that the tiles reach from end to end."""
    return 1.0 / (tiles - (tiles - 1) * overlap)


def tile_boxes(frame: tuple[int, int], shape: tuple[int, int], tiles: int, overlap: float) -> list[Box]:
    """`tiles` x `tiles` boxes (top, left, height, width) in pixels, row by row, that cover the frame wholly.

    `frame` is the picture's and `shape` the model input's (height, width). Boxes have the input's proportions, so
    neighbours share the part `overlap` of their side along one axis and at least that along the other; only where
    such a box would be larger than the frame (a panorama) is it cut to the frame.
    """
    if tiles == 0:
        return []
    share = tile_share(tiles, overlap)
    scale = max(share * side / needed for side, needed in zip(frame, shape, strict=True))
    tall, wide = (min(side, ceil(scale * needed)) for side, needed in zip(frame, shape, strict=True))
    tops = _starts(frame[0] - tall, tiles)
    lefts = _starts(frame[1] - wide, tiles)
    return [(top, left, tall, wide) for top in tops for left in lefts]


def _starts(free: int, tiles: int) -> list[int]:
    return [round(index * free / (tiles - 1)) for index in range(tiles)]
