"""Random numbers that depend on (seed, epoch, sample) alone: the order of an epoch, and each sample's own stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def random_keys(seed: int, epoch: int, samples: NDArray[np.integer]) -> NDArray[np.uint64]:
    """One 64-bit number per sample, uint64 (n,), the same on every machine and with every version of numpy.

    SplitMix64's finaliser (Steele et al., Fast splittable pseudorandom number generators, 2014), chained over the
    parts.
    """
    state = np.zeros(len(samples), dtype=np.uint64)
    parts: list[np.uint64 | NDArray[np.uint64]] = [np.uint64(seed), np.uint64(epoch), samples.astype(np.uint64)]
    with np.errstate(over="ignore"):
        for part in parts:
            state = _mix((state ^ part) + _GOLDEN)
    return state


def sample_seed(seed: int, epoch: int, sample: int, occurrence: int = 0) -> int:
    """63 bits for a generator that one sample draws from in one epoch, at its occurrence number 0, 1, ... there."""
    return int(random_keys(seed, epoch, np.array([sample + (occurrence << 40)]))[0]) >> 1


def epoch_order(n: int, *, seed: int, epoch: int) -> list[int]:
    """The numbers 0 to n - 1, each once, in the order in which `epoch` visits them."""
    order: list[int] = np.argsort(random_keys(seed, epoch, np.arange(n)), kind="stable").tolist()
    return order


def batches(
    n: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, world: int = 1, shuffle: bool = True
) -> list[list[int]]:
    """The batches of one epoch that process `rank` of `world` takes; over all processes each sample occurs once.

    `batch_size` counts over all processes. Every process gets the same number of batches and none is empty: a last
    batch with fewer than `world` samples is joined to the one before. Raises ValueError for fewer than `world` samples.
    """
    if n < world:
        raise ValueError(f"{n} samples cannot be divided among {world} processes")
    if batch_size < world:
        raise ValueError(f"a batch of {batch_size} cannot be divided among {world} processes")
    order = epoch_order(n, seed=seed, epoch=epoch) if shuffle else list(range(n))
    starts = list(range(0, n, batch_size))
    if len(starts) > 1 and n - starts[-1] < world:
        starts.pop()
    ends = [*starts[1:], n]
    return [order[start:end][rank::world] for start, end in zip(starts, ends, strict=True)]


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
