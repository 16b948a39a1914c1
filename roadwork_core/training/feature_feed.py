"""Kept features as the loop's batches, and the rule by which a training may use them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor, nn

from roadwork_core.data.sampling import SamplerName, drawn
from roadwork_core.errors import Problem, SpecError
from roadwork_core.files import sha256_file
from roadwork_core.model import reads_tokens

from .features import FeatureStore, sample_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from roadwork_core.data.sample import Row
    from roadwork_core.model import Classifier
    from roadwork_core.spec.model import Augment, Train

#: The view that the evaluation transform gives.
EVALUATION = "evaluation"
_GIB = 2**30


@frozen
class Obstacle:
    """Why features cannot be kept, and what could be done; `expected` where nobody would have thought otherwise."""

    reason: str
    hint: str
    expected: bool = False


def obstacle(
    train: Train, augment: Sequence[Augment], model: Classifier, *, samples: tuple[int, int]
) -> Obstacle | None:
    """What stands in the way of keeping features in this training, or None. `samples`: of train and of val_select.

    Raises SpecError where the spec insists (feature_cache = "on", or feature_views) and it cannot be.
    """
    mode, views, gib = train.feature_cache, train.feature_views, train.feature_cache_gib
    found = _obstacle(mode, views, gib, augment, model, samples)
    if found and (mode == "on" or views is not None):
        key = "train.feature_views" if views is not None else "train.feature_cache"
        raise SpecError([Problem(f"features cannot be kept: {found.reason}", key=key, hint=found.hint)])
    return found


def _obstacle(
    mode: str, views: int | None, gib: float, augment: Sequence[Augment], model: Classifier, samples: tuple[int, int]
) -> Obstacle | None:
    backbone = model.backbone
    if mode == "off":
        return Obstacle('train.feature_cache is "off"', "leave it out", expected=True)
    if any(parameter.requires_grad for parameter in backbone.parameters()):
        return Obstacle(
            "weights of the backbone train, so its features change", 'use [adapter] use = "frozen"', expected=True
        )
    if reads_tokens(model.head):
        return Obstacle(
            "the head reads tokens, many times what features take", 'use a head that reads features, such as "linear"'
        )
    if any(one.on == "batch" for one in augment):
        return Obstacle("an augmentation mixes the pictures of a batch", 'leave out those with on = "batch"')
    if augment and views is None:
        return Obstacle(
            "augmented pictures differ from epoch to epoch",
            "train.feature_views = 4 keeps four views of each picture, or leave the augmentations out",
        )
    size = (samples[0] * (views or 1) + samples[1]) * int(getattr(backbone, "feature_dim", 0)) * 4
    if size > gib * _GIB:
        return Obstacle(
            f"they may take {size / _GIB:.1f} GiB, more than train.feature_cache_gib = {gib:g}",
            "raise it, or lower train.feature_views",
        )
    return None


class AsKept:
    """In place of the preprocessing: features are what the head takes."""

    def normalise(self, images: Tensor) -> Tensor:
        return images


class HeadAlone(nn.Module):
    """Features, float (N, D), to logits, float32 (N, C): what is left of a classifier to compute."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features)
        return logits.float()


def view_keys(rows: Sequence[Row], view: Any, *, per_row: bool) -> list[bytes]:
    """The sample key of each row in a view; `per_row` where the view depends on the row's number in the table."""
    return [
        sample_key(row.sha256 or sha256_file(Path(row.path)), [view, row.index] if per_row else view) for row in rows
    ]


class FeatureFeed:
    """Features of the two splits that training may see, read from a store that has them all.

    `train_keys` holds the keys of every row once per view. In epoch e a row's view is number e (+ the number of
    earlier draws of it in this epoch) modulo the number of views: for as many epochs as there are views, these are
    the pictures that would have been computed anew.
    """

    def __init__(
        self,
        store: FeatureStore,
        train: Sequence[Row],
        val_select: Sequence[Row],
        *,
        train_keys: Sequence[Sequence[bytes]],
        val_select_keys: Sequence[bytes],
        sampler: SamplerName,
        seed: int,
        batch_size: int,
    ) -> None:
        self.size = len(train)
        self._store = store
        self._rows = train
        self._sampler = sampler
        self._seed = seed
        self._batch_size = batch_size
        self._train = np.stack([store.places(keys) for keys in train_keys])
        self._val_select = store.places(val_select_keys)
        self._targets = _targets(train)
        self._held_out_targets = _targets(val_select)

    def order(self, epoch: int) -> Sequence[int]:
        """What `epoch` draws of `train`, in its order, as `sampling.drawn` numbers it."""
        return drawn(self._rows, self._sampler, seed=self._seed, epoch=epoch)

    def training(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The given batches of draws, in order: features, float (N, D), and class indices, int64 (N,)."""
        for batch in batches:
            occurrences, positions = np.divmod(np.array(batch, dtype=np.int64), self.size)
            views = (epoch + occurrences) % len(self._train)
            yield self._store.gather(self._train[views, positions]), self._targets[torch.from_numpy(positions)]

    def validation(self, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every `world`-th sample of `val_select` from number `rank` on."""
        own = np.arange(rank, len(self._val_select), world)
        share = max(1, self._batch_size // world)
        for start in range(0, len(own), share):
            chunk = own[start : start + share]
            yield self._store.gather(self._val_select[chunk]), self._held_out_targets[torch.from_numpy(chunk)]


def _targets(rows: Sequence[Row]) -> Tensor:
    targets: NDArray[np.int64] = np.array([row.target for row in rows], dtype=np.int64)
    return torch.from_numpy(targets)
