"""Logits of the rows of a sample table, with the pictures decoded by worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.loading import RawImages, make_loader, worker_count
from ..data.order import sample_seed
from ..errors import NumericalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..console import Console
    from ..data.sample import Row
    from ..inference import Scorer

#: Pictures that are decoded together; the scorer itself bounds what goes through the model at once.
CHUNK = 16

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
    chunks = console.progress(
        _pictures(scorer, rows, max_pixels, workers), total=-(-len(rows) // CHUNK), label=f"score {name}"
    )
    parts = [np.empty((0, classes))]
    done = 0
    for images in chunks:
        if distortion is not None:
            images = [
                _distorted(image, distortion, sample_seed(seed, 0, row.index))
                for image, row in zip(images, rows[done : done + len(images)], strict=True)
            ]
        parts.append(scorer.logits(images))
        done += len(images)
    logits = np.concatenate(parts)
    if len(bad := np.flatnonzero(~np.isfinite(logits).all(axis=1))):
        raise NumericalError(
            f"the logits of {len(bad)} of {len(rows)} samples of {name} are not finite", path=rows[bad[0]].path
        )
    return logits


def _distorted(image: Tensor, distortion: Distortion, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return distortion(image)


def _pictures(scorer: Scorer, rows: Sequence[Row], max_pixels: int, workers: int | None) -> Iterator[list[Tensor]]:
    data = RawImages(rows, min_side=scorer.min_side, max_pixels=max_pixels)
    chunks = [range(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK)]
    for images, _ in make_loader(data, chunks, workers=worker_count(workers)):
        yield images
