"""Logits of the rows of a sample table, with the pictures decoded by worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..data.loading import RawImages, make_loader, worker_count
from ..data.order import sample_seed
from ..errors import NumericalError, RoadworkError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..console import Console
    from ..data.sample import Row
    from ..inference import Scorer

#: Pictures that are decoded together; the scorer itself bounds what goes through the model at once.
CHUNK = 16

T = TypeVar("T", bound=np.generic)
Distortion = Callable[[Tensor], Tensor]


def score_rows(
    scorer: Scorer,
    rows: Sequence[Row],
    *,
    classes: int,
    name: str,
    console: Console,
    max_pixels: int,
    workers: int | None = None,
    distortion: Distortion | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Logits, float64 (n, C), of the rows' pictures, each distorted first where a `distortion` is given.

    A distortion draws from torch's global generator, seeded for each picture by (seed, row.index). Raises DataError
    for a picture that can no longer be read, NumericalError for a logit that is not finite.
    """

    def score(images: list[Tensor], at: int) -> NDArray[np.float64]:
        if distortion is not None:
            images = [
                _distorted(image, distortion, sample_seed(seed, 0, row.index))
                for image, row in zip(images, rows[at : at + len(images)], strict=True)
            ]
        return scorer.logits(images)

    logits = np.concatenate(
        [np.empty((0, classes)), *_in_chunks(score, scorer, rows, name, console, max_pixels, workers)]
    )
    refuse_non_finite(np.isfinite(logits).all(axis=1), rows, name)
    return logits


def score_views(
    scorer: Scorer,
    rows: Sequence[Row],
    *,
    classes: int,
    name: str,
    console: Console,
    max_pixels: int,
    workers: int | None = None,
) -> NDArray[np.float64]:
    """Logits of every view, float64 (V, n, C), of the rows' pictures, not fused. Raises as `score_rows` does."""

    def score(images: list[Tensor], at: int) -> NDArray[np.float64]:
        return scorer.view_logits(images)

    empty = np.empty((len(scorer.tta.view_ids), 0, classes))
    parts = _in_chunks(score, scorer, rows, name, console, max_pixels, workers)
    logits = np.concatenate([empty, *parts], axis=1)
    refuse_non_finite(np.isfinite(logits).all(axis=(0, 2)), rows, name)
    return logits


def features_of(
    scorer: Scorer, rows: Sequence[Row], *, name: str, console: Console, max_pixels: int, workers: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """Features of the identity view, float32 (n, D), of the rows' pictures, in order, in parts of up to CHUNK.

    Raises DataError for a picture that can no longer be read, RoadworkError for a model that has no features.
    """

    def score(images: list[Tensor], at: int) -> NDArray[np.float32]:
        features = scorer.scored(images).features
        if features is None:
            raise RoadworkError("the model has no features apart from its logits")
        return features

    yield from _in_chunks(score, scorer, rows, name, console, max_pixels, workers)


def _in_chunks(
    score: Callable[[list[Tensor], int], NDArray[T]],
    scorer: Scorer,
    rows: Sequence[Row],
    name: str,
    console: Console,
    max_pixels: int,
    workers: int | None,
) -> Iterator[NDArray[T]]:
    """What `score` makes of the pictures of each chunk, and the number of its first row."""
    chunks = console.progress(
        _pictures(scorer, rows, max_pixels, workers), total=-(-len(rows) // CHUNK), label=f"score {name}"
    )
    done = 0
    for images in chunks:
        yield score(images, done)
        done += len(images)


def refuse_non_finite(finite: NDArray[np.bool_], rows: Sequence[Row], name: str) -> None:
    """Raises NumericalError unless all of `finite`, bool (n,), hold."""
    if len(bad := np.flatnonzero(~finite)):
        raise NumericalError(
            f"the logits of {len(bad)} of {len(rows)} samples of {name} are not finite", path=rows[bad[0]].path
        )


def _distorted(image: Tensor, distortion: Distortion, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return distortion(image)


def _pictures(scorer: Scorer, rows: Sequence[Row], max_pixels: int, workers: int | None) -> Iterator[list[Tensor]]:
    data = RawImages(rows, min_side=scorer.min_side, max_pixels=max_pixels)
    chunks = [range(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK)]
    for images, _ in make_loader(data, chunks, workers=worker_count(workers)):
        yield images
