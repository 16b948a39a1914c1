"""Pictures on disk as the loop's batches: train augmented, val_select as it would be scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from roadwork_core.data.loading import BatchSchedule, ImageDataset, make_loader
from roadwork_core.data.sampling import SamplerName, drawn

if TYPE_CHECKING:
    from roadwork_core.data.preprocessing import Preprocessing
    from roadwork_core.data.sample import Row


class PictureFeed:
    """The two splits that training may see, decoded by worker processes that live as long as this object."""

    def __init__(
        self,
        train: Sequence[Row],
        val_select: Sequence[Row],
        preprocessing: Preprocessing,
        augmentations: Sequence[Callable[[Tensor], Tensor]],
        *,
        seed: int,
        batch_size: int,
        workers: int,
        max_pixels: int,
        pin_memory: bool,
        sampler: SamplerName = "shuffle",
    ) -> None:
        self.size = len(train)
        self._rows = train
        self._sampler = sampler
        self._seed = seed
        self._batch_size = batch_size
        self._held_out = len(val_select)
        self._train_batches, self._held_out_batches = BatchSchedule(), BatchSchedule()
        self._train = make_loader(
            ImageDataset(train, preprocessing, augmentations, seed=seed, max_pixels=max_pixels),
            self._train_batches,
            workers=workers,
            pin_memory=pin_memory,
        )
        self._val_select = make_loader(
            ImageDataset(val_select, preprocessing, max_pixels=max_pixels),
            self._held_out_batches,
            workers=workers,
            pin_memory=pin_memory,
        )

    def order(self, epoch: int) -> Sequence[int]:
        """What `epoch` draws of `train`, in its order, as `sampling.drawn` numbers it."""
        return drawn(self._rows, self._sampler, seed=self._seed, epoch=epoch)

    def training(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The given batches of positions, in order."""
        self._train_batches.set(epoch, batches)
        return iter(self._train)

    def validation(self, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every `world`-th picture of `val_select` from number `rank` on."""
        own = range(rank, self._held_out, world)
        share = max(1, self._batch_size // world)
        self._held_out_batches.set(0, [own[start : start + share] for start in range(0, len(own), share)])
        return iter(self._val_select)
