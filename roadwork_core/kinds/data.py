"""Data sets and augmentations: what each is given and must make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from attrs import frozen

from .kind import Report, silent

if TYPE_CHECKING:
    from ..data.sample import Sample


@frozen(kw_only=True)
class DatasetContext:
    """`cache_dir` keeps what a dataset makes or fetches (owned by this dataset and these options alone)."""

    cache_dir: Path
    seed: int
    report: Report = silent


class DatasetComponent(Protocol):
    """`build` lists the samples, in a stable order, without decoding images."""

    def build(self, ctx: DatasetContext) -> Sequence[Sample]: ...


@frozen(kw_only=True)
class AugmentationContext:
    """`image_size` is (height, width) in pixels of the model's input."""

    image_size: tuple[int, int]
    num_classes: int


class AugmentationComponent(Protocol):
    """A sample augmentation makes `f(image)`, uint8 (3, H, W) to uint8 (3, h, w).

    A batch augmentation (`batch = True`) makes `f(images, targets)`: float (N, 3, h, w) and class probabilities
    float (N, C) to the same. Both draw random numbers from torch's global generator only, which the core seeds by
    (seed, epoch, sample index) or (seed, step).
    """

    batch: ClassVar[bool] = False

    def build(self, ctx: AugmentationContext) -> Callable[..., Any]: ...
