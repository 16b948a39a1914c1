"""Augmented views of pictures without their labels, for self-supervised objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from roadwork_core.data.loading import ImageDataset, Key, load_raw
from roadwork_core.data.order import sample_seed

if TYPE_CHECKING:
    from roadwork_core.data.preprocessing import Preprocessing
    from roadwork_core.data.sample import Row

#: A crop is a third of the picture's area or more, and should not be enlarged much.
SMALLEST_CROP = 0.35


def view_recipe(size: tuple[int, int]) -> list[nn.Module]:
    """What makes a view, uint8 (3, H, W) to uint8 (3, *size): a crop, its mirror image, colours, grey, blur.

    The recipe of SimCLR (arXiv 2002.05709), its crops less small: what is to be seen in a street may be at its edge.
    """
    from torchvision.transforms import v2

    kernel = max(3, max(size) // 20 * 2 + 1)
    return [
        v2.RandomResizedCrop(list(size), scale=(SMALLEST_CROP, 1.0), antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(kernel, sigma=(0.1, 2.0))], p=0.5),
    ]


class ViewDataset(ImageDataset):
    """Several views of each picture, uint8 (V, 3, h, w); no label leaves it.

    Each view follows from (seed, epoch, row.index, number of the view) alone.
    """

    def __init__(
        self, rows: Sequence[Row], preprocessing: Preprocessing, *, views: int, seed: int, max_pixels: int
    ) -> None:
        super().__init__(
            rows,
            preprocessing,
            cast(Any, view_recipe(preprocessing.size)),
            seed=seed,
            min_side=math.ceil(preprocessing.min_side / math.sqrt(SMALLEST_CROP)),
            max_pixels=max_pixels,
        )
        self.views = views

    def __getitem__(self, key: int | Key) -> tuple[Tensor, int]:
        epoch, position = key if isinstance(key, tuple) else (self.epoch, key)
        row = self.rows[position]
        image = load_raw(row, min_side=self.min_side, max_pixels=self.max_pixels)
        seeds = [sample_seed(self.seed, epoch, row.index * self.views + view) for view in range(self.views)]
        return torch.stack([self._augment(image, seed) for seed in seeds]), 0
