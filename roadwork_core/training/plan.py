"""Which samples each optimizer step of an epoch sees, and how they divide into forward passes and processes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from attrs import frozen


@frozen
class MicroBatch:
    """One forward pass of one process. `counted` is false where a sample only stands in for an empty share."""

    indices: tuple[int, ...]
    counted: bool = True


@frozen
class Window:
    """One optimizer step: this process's forward passes, and the number of samples in it over all processes."""

    batches: tuple[MicroBatch, ...]
    samples: int


def epoch_windows(
    order: Sequence[int], batch_size: int, accumulate: int, *, rank: int = 0, world: int = 1
) -> list[Window]:
    """The optimizer steps of an epoch that visits each sample of `order` once.

    `batch_size` counts over all processes, each of which takes every `world`-th sample of a batch. A step accumulates
    `accumulate` batches, the last one what is left. A last batch too short for two samples per process takes some from
    the one before, since a BatchNorm cannot train on one.
    """
    cuts = _cuts(len(order), batch_size, 2 * world)
    batches = [tuple(order[start:end]) for start, end in pairwise(cuts)]
    windows = []
    for start in range(0, len(batches), accumulate):
        chunk = batches[start : start + accumulate]
        shares = tuple(_share(batch, rank, world) for batch in chunk)
        windows.append(Window(shares, sum(map(len, chunk))))
    return windows


def steps_per_epoch(samples: int, batch_size: int, accumulate: int) -> int:
    """Optimizer steps that `epoch_windows` makes of this many samples."""
    batches = -(-samples // batch_size)
    return -(-batches // accumulate)


def _cuts(samples: int, batch_size: int, least: int) -> list[int]:
    cuts = [*range(0, samples, batch_size), samples]
    missing = least - (cuts[-1] - cuts[-2])
    if len(cuts) > 2 and missing > 0 and batch_size - missing >= least:
        cuts[-2] -= missing
    return cuts


def _share(batch: tuple[int, ...], rank: int, world: int) -> MicroBatch:
    share = batch[rank::world]
    return MicroBatch(share) if share else MicroBatch(batch[:1], counted=False)
