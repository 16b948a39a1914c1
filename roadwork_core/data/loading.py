"""Pictures for training and scoring: the same whatever the number of worker processes, and after a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ..errors import DataError, RoadworkError
from .decode import BadImageError, decode
from .order import batches, epoch_order, sample_seed
from .preprocessing import Preprocessing
from .sample import Row
from .table import SplitReader, read_rows
from .workers import START_METHOD, signals_held, worker_count, worker_setup

__all__ = [
    "BatchSchedule",
    "ImageDataset",
    "RawImages",
    "SplitReader",
    "batches",
    "collate",
    "collate_raw",
    "epoch_order",
    "load_raw",
    "make_loader",
    "read_rows",
    "worker_count",
]

#: An epoch and a position in the rows: what a worker needs to know to make one augmented picture.
Key = tuple[int, int]
Augmentation = Callable[[Tensor], Tensor]
MAX_PIXELS = 100_000_000


def load_raw(row: Row, *, min_side: int, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The decoded picture of a row, uint8 (3, H, W), strided like the decoder's (H, W, 3).

    Raises DataError for a file that can no longer be read, though `prepare` could.
    """
    try:
        pixels = decode(Path(row.path), min_side=min_side, max_pixels=max_pixels)
    except BadImageError as error:
        raise DataError(
            f"{error.message}, though it could be read when the data were prepared",
            path=row.path,
            hint="run again: changed files are prepared anew",
        ) from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Inputs of a model with their class index: uint8 (3, h, w), int.

    A picture is decoded at the smallest sufficient scale, augmented, and brought to the input's size. An augmentation
    draws from torch's global CPU generator, which is seeded by (seed, epoch, row.index) for each picture and put back
    after; so a picture depends on nothing else. Without augmentations (None) the epoch does not matter.

    An item is asked for by its position (in the epoch that `set_epoch` set, 0 at first) or by (epoch, position), which
    also reaches worker processes that live longer than an epoch. A position beyond the last row is another occurrence
    of a row in the same epoch, as `sampling.drawn` numbers them.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        preprocessing: Preprocessing,
        augmentations: Sequence[Augmentation] | None = None,
        *,
        seed: int = 0,
        min_side: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.rows = rows
        self.preprocessing = preprocessing
        self.augmentations = tuple(augmentations or ())
        self.seed = seed
        self.epoch = 0
        self.min_side = preprocessing.min_side if min_side is None else min_side
        self.max_pixels = max_pixels

    def set_epoch(self, epoch: int) -> None:
        """The epoch of items that are asked for by position alone; unknown to workers that already run."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | Key) -> tuple[Tensor, int]:
        epoch, draw = key if isinstance(key, tuple) else (self.epoch, key)
        occurrence, position = divmod(draw, len(self.rows))
        row = self.rows[position]
        image = load_raw(row, min_side=self.min_side, max_pixels=self.max_pixels)
        if self.augmentations:
            image = self._augment(image, sample_seed(self.seed, epoch, row.index, occurrence))
        if image.shape[-2:] != self.preprocessing.size:
            image = self.preprocessing.to_input(image)
        return image.contiguous(), row.target

    def _augment(self, image: Tensor, seed: int) -> Tensor:
        # torch.manual_seed would also wake up CUDA, which a forked worker must not touch.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for augmentation in self.augmentations:
                image = augmentation(image)
        return image


class RawImages(Dataset[tuple[Tensor, int]]):
    """Decoded pictures as they are, uint8 (3, H, W) of any size, with their class index: what a Scorer takes."""

    def __init__(self, rows: Sequence[Row], *, min_side: int, max_pixels: int = MAX_PIXELS) -> None:
        self.rows = rows
        self.min_side = min_side
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | Key) -> tuple[Tensor, int]:
        row = self.rows[key[1] if isinstance(key, tuple) else key]
        image = load_raw(row, min_side=self.min_side, max_pixels=self.max_pixels)
        return image.contiguous(), row.target


class BatchSchedule(Sampler[list[Key]]):
    """The batches that the next iteration of a loader gives, set before each epoch."""

    def __init__(self) -> None:
        self._epoch = 0
        self._batches: Sequence[Sequence[int]] = ()

    def set(self, epoch: int, batches: Sequence[Sequence[int]]) -> None:
        """The next iteration gives these batches of positions, augmented as `epoch` says."""
        self._epoch = epoch
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self._epoch
        return iter([[(epoch, position) for position in batch] for batch in self._batches])


def collate(items: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Pictures of one size to uint8 (N, 3, h, w) and int64 (N,)."""
    # In a worker torch's own function stacks right into the memory that it shares with the parent.
    images: Tensor = default_collate([image for image, _ in items])
    return images, torch.tensor([target for _, target in items])


def collate_raw(items: Sequence[tuple[Tensor, int]]) -> tuple[list[Tensor], Tensor]:
    """Pictures of any size to a list of uint8 (3, H, W) and int64 (N,)."""
    return [image for image, _ in items], torch.tensor([target for _, target in items])


class _Told(Dataset[Any]):
    """A dataset that hands over an error of ours as a value: raised in a worker it would arrive as a traceback."""

    def __init__(self, dataset: ImageDataset | RawImages) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: Sequence[Any]) -> list[tuple[Tensor, int]] | RoadworkError:
        try:
            return [self.dataset[key] for key in keys]
        except RoadworkError as error:
            return error


class _Loader(DataLoader[Any]):
    """A loader whose workers cannot be ended by a signal to the group while they start, and that raises their errors
    as they were."""

    def __iter__(self) -> Any:
        with signals_held():
            batches = super().__iter__()
        return _raising(batches)


def _raising(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        if isinstance(batch, RoadworkError):
            raise batch
        yield batch


def _collate(items: Any, *, into: Callable[[Any], Any]) -> Any:
    return items if isinstance(items, RoadworkError) else into(items)


def make_loader(
    dataset: ImageDataset | RawImages,
    schedule: BatchSchedule | Sequence[Sequence[int]],
    *,
    workers: int,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """A loader of the batches in `schedule`, in their order, with worker processes that live as long as it does.

    Give a BatchSchedule to iterate more than once over different batches. Nothing is drawn from torch's global
    generator, and what a batch holds does not depend on `workers`.
    """
    if not isinstance(schedule, BatchSchedule):
        fixed = schedule
        schedule = BatchSchedule()
        schedule.set(0, fixed)
    if workers and START_METHOD == "fork" and isinstance(dataset, ImageDataset):
        # What resizes pictures takes seconds to import: once here, not in every worker.
        import torchvision.transforms.v2.functional  # noqa: F401
    return _Loader(
        _Told(dataset),
        batch_sampler=schedule,
        num_workers=workers,
        collate_fn=partial(_collate, into=collate if isinstance(dataset, ImageDataset) else collate_raw),
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        multiprocessing_context=START_METHOD if workers else None,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=worker_setup() if workers else None,
    )
