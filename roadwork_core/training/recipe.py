"""What the training loop is told by the spec, and what it asks of the pictures that it is given."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from attrs import frozen
from torch import Tensor

from .validation import Batch


class Feed(Protocol):
    """Pictures of the splits, uint8 (N, 3, h, w) (or their features), with class indices int64 (N,), on the CPU."""

    #: Samples that train.
    size: int

    def order(self, epoch: int) -> Sequence[int]:
        """The `size` draws of `epoch` (from 0) in their order; a draw is a number that `training` understands."""
        ...

    def training(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterable[Batch]:
        """The given batches of draws, augmented as `epoch` says, in order."""
        ...

    def validation(self, rank: int, world: int) -> Iterable[Batch]:
        """Every `world`-th picture of val_select from number `rank` on, in order, as it would be scored."""
        ...


class Normaliser(Protocol):
    """Makes a feed's batch the model's input (a Preprocessing does)."""

    def normalise(self, images: Tensor) -> Tensor: ...


@frozen(kw_only=True)
class Recipe:
    """What the loop is told by the spec. `mix` are the batch augmentations, on images and class probabilities."""

    epochs: int
    batch_size: int
    accumulate: int
    clip_norm: float | None
    select_by: str
    patience: int | None
    seed: int
    num_classes: int
    positive: int
    mix: Sequence[Callable[[Tensor, Tensor], Batch]] = ()
    checkpoint_seconds: float = 60.0

    def seed_of(self, *parts: int) -> int:
        """64 bits that depend on the run's seed and on `parts` alone."""
        text = "/".join(map(str, (self.seed, *parts)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
