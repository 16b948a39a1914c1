"""Contact sheets: pictures of a split as they are, and beside each what training makes of it, epoch by epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import frozen
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import DataError
from .assignment import assign_splits, check_coverage
from .classes import find_classes
from .gather import group, list_samples, look_at, rows_of
from .loading import ImageDataset, load_raw
from .order import epoch_order, sample_seed
from .preprocessing import Preprocessing
from .sample import Row

if TYPE_CHECKING:
    from ..console import Console
    from ..plugins import Plugins
    from ..spec import Spec

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

#: Shorter side of a tile in pixels, at least and at most; inputs are enlarged by whole numbers.
LEAST_TILE, LARGEST_TILE = 144, 240
GAP, MARGIN, LINE = 8, 20, 20
INK, MUTED, PAPER, EMPTY = "#1c2024", "#697177", "#ffffff", "#eef0f2"
#: A class's colour, by its index.
COLOURS = ("#1d63d1", "#d9500f", "#2b8a3e", "#8f3fb0", "#b8860b", "#0b7285")


@frozen(kw_only=True)
class View:
    """What training sees of a picture once: uint8 (3, h, w), and the share of each class in its target."""

    image: Tensor
    target: Mapping[str, float]


@frozen(kw_only=True)
class Strip:
    """One row of a sheet: a picture, uint8 (3, H, W), and its views."""

    row: Row
    original: Tensor
    views: Sequence[View]


def rows_of_split(
    spec: Spec, plugins: Plugins, split: str, *, cache_dir: Path, console: Console
) -> tuple[list[Row], tuple[str, ...]]:
    """The rows that the stage prepare would put into a split, and the classes in order.

    Raises DataError where the data cannot be used as the spec says, or the split is empty.
    """
    data = spec.data
    listed = list_samples(data.component, plugins, cache_dir=cache_dir, seed=spec.seed, console=console)
    find_classes(listed, data)
    looked = look_at(listed, data, cache=cache_dir / "looks.sqlite", console=console)
    classes = find_classes(looked.samples, data)
    targets = classes.targets(looked.samples)
    grouped = group(looked, data)
    assignment = assign_splits(
        looked.samples, targets, grouped.labels, grouped.names, data.splits, grouped.pairs, seed=spec.seed
    )
    check_coverage(assignment.splits, targets, grouped.names, classes.labels, assignment.own)
    rows = [row for row in rows_of(looked, targets, grouped.names, assignment.splits) if row.split == split]
    if not rows:
        raise DataError(f"the split {split} has no samples", hint=f"raise data.splits.{split}, or show another split")
    return rows, tuple(classes.labels)


def chosen(rows: Sequence[Row], count: int, *, seed: int) -> list[Row]:
    """At most `count` rows, the classes in turn, in the order in which the first epoch would visit them."""
    by_class: dict[int, list[Row]] = defaultdict(list)
    for position in epoch_order(len(rows), seed=seed, epoch=0):
        by_class[rows[position].target].append(rows[position])
    in_turn = zip_longest(*(by_class[target] for target in sorted(by_class)))
    return [row for turn in in_turn for row in turn if row is not None][:count]


def make_strips(
    rows: Sequence[Row],
    preprocessing: Preprocessing,
    augmentations: Sequence[Callable[[Tensor], Tensor]],
    mixes: Sequence[Mix],
    *,
    classes: Sequence[str],
    views: int,
    seed: int,
    max_pixels: int,
) -> list[Strip]:
    """The pictures with `views` views each: view v is the one that epoch v of a training from this seed sees.

    `mixes` are the batch augmentations; the pictures of one epoch are mixed among themselves, so that a mixture here
    is like those of training, and not one of them.
    """
    dataset = ImageDataset(rows, preprocessing, augmentations, seed=seed, max_pixels=max_pixels)
    epochs = [_epoch(dataset, epoch, mixes, classes, sample_seed(seed, epoch, 0)) for epoch in range(views)]
    height, width = preprocessing.size
    originals = (load_raw(row, min_side=max(height, width, LARGEST_TILE), max_pixels=max_pixels) for row in rows)
    return [
        Strip(row=row, original=original, views=[epoch[position] for epoch in epochs])
        for position, (row, original) in enumerate(zip(rows, originals, strict=True))
    ]


def _epoch(dataset: ImageDataset, epoch: int, mixes: Sequence[Mix], classes: Sequence[str], seed: int) -> list[View]:
    items = [dataset[(epoch, position)] for position in range(len(dataset))]
    images = torch.stack([image for image, _ in items]).float()
    targets = torch.nn.functional.one_hot(torch.tensor([target for _, target in items]), len(classes)).float()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for mix in mixes:
            images, targets = mix(images, targets)
    shown = images.round().clamp(0, 255).to(torch.uint8)
    return [
        View(image=image, target={name: share for name, share in zip(classes, shares, strict=True) if share > 0})
        for image, shares in zip(shown, targets.tolist(), strict=True)
    ]


def contact_sheet(
    strips: Sequence[Strip], *, title: str, lines: Sequence[str], classes: Sequence[str], augmented: bool = True
) -> Image.Image:
    """The strips below each other, under a title and `lines` of text; columns are the original and the epochs.

    Where nothing is augmented there is one view, the model's input.
    """
    tile = _tile_size(strips[0].views[0].image.shape[-2:])
    wide = _original_width(strips, tile)
    columns = len(strips[0].views)
    top = MARGIN + 30 + LINE * len(lines) + 14
    pitch = tile[1] + LINE + GAP
    width = 2 * MARGIN + wide + GAP + columns * (tile[0] + GAP) - GAP
    sheet = Image.new("RGB", (width, top + LINE + len(strips) * pitch + MARGIN - GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, (MARGIN, MARGIN), title, 20, INK, width - 2 * MARGIN)
    for number, line in enumerate(lines):
        _write(pen, (MARGIN, MARGIN + 30 + LINE * number), line, 13, MUTED, width - 2 * MARGIN)
    lefts = [MARGIN, *(MARGIN + wide + GAP + column * (tile[0] + GAP) for column in range(columns))]
    heads = [f"epoch {epoch + 1}" for epoch in range(columns)] if augmented else ["input"]
    for left, name in zip(lefts, ["original", *heads], strict=True):
        _write(pen, (left, top), name, 13, MUTED, tile[0])
    for number, strip in enumerate(strips):
        y = top + LINE + number * pitch
        _paste_whole(sheet, strip.original, (MARGIN, y, wide, tile[1]))
        _caption(pen, (MARGIN, y + tile[1] + 2), {strip.row.label: 1.0}, classes, wide, Path(strip.row.path).name)
        for left, view in zip(lefts[1:], strip.views, strict=True):
            sheet.paste(_resized(view.image, tile), (left, y))
            if len(view.target) > 1:
                _caption(pen, (left, y + tile[1] + 2), view.target, classes, tile[0])
    return sheet


def _tile_size(size: Sequence[int]) -> tuple[int, int]:
    height, width = size
    if min(height, width) < LEAST_TILE:
        factor: float = -(-LEAST_TILE // min(height, width))
    else:
        factor = min(1.0, LARGEST_TILE / min(height, width))
    return round(width * factor), round(height * factor)


def _original_width(strips: Sequence[Strip], tile: tuple[int, int]) -> int:
    ratios = [strip.original.shape[2] / strip.original.shape[1] for strip in strips]
    return round(tile[1] * float(np.clip(np.median(ratios), 0.75, 1.8)))


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def _resized(image: Tensor, size: tuple[int, int]) -> Image.Image:
    # Enlarged pixels stay visible as what they are.
    larger = size[0] >= image.shape[2]
    return _picture(image).resize(size, Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS)


def _paste_whole(sheet: Image.Image, image: Tensor, box: tuple[int, int, int, int]) -> None:
    """The whole picture in the middle of a box (left, top, width, height)."""
    left, top, width, height = box
    scale = min(width / image.shape[2], height / image.shape[1])
    size = max(1, round(image.shape[2] * scale)), max(1, round(image.shape[1] * scale))
    sheet.paste(EMPTY, (left, top, left + width, top + height))
    small = _picture(image).resize(size, Image.Resampling.LANCZOS)
    sheet.paste(small, (left + (width - size[0]) // 2, top + (height - size[1]) // 2))


def _caption(
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    target: Mapping[str, float],
    classes: Sequence[str],
    width: int,
    note: str = "",
) -> None:
    left, top = place
    end = left + width
    for rank, (name, share) in enumerate(sorted(target.items(), key=lambda item: -item[1])):
        # The colour says which class the smaller shares are of.
        text = name if len(target) == 1 else f"{share:.2f}" if rank else f"{share:.2f} {name}"
        left = _write(pen, (left, top), text, 12, COLOURS[classes.index(name) % len(COLOURS)], end - left) + GAP
    if note:
        _write(pen, (left, top), note, 12, MUTED, end - left)


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: str, width: int) -> int:
    """Writes what fits into `width`, an ellipsis after what does not; returns where it ends."""
    font: Any = ImageFont.load_default(size)
    shown = text
    while shown and pen.textlength(shown, font=font) > width:
        shown = shown.removesuffix("...")[:-1].rstrip() + "..." if len(shown) > 4 else ""
    pen.text(place, shown, fill=colour, font=font)
    return place[0] + round(pen.textlength(shown, font=font))
