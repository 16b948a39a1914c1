"""Which samples an epoch draws: each once, or each class or group as often, as a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from .order import epoch_order, random_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .sample import Row

SamplerName = Literal["shuffle", "class_balanced", "group_balanced"]
#: Keeps the shuffles of decks apart from those of epochs.
_DECKS = 0x6465636B


def drawn(rows: Sequence[Row], sampler: SamplerName, *, seed: int, epoch: int) -> list[int]:
    """The draws of one epoch, as many as there are rows, in their order.

    A draw is position + len(rows) * occurrence, where occurrence counts earlier draws of the same row in this epoch
    (so that each is augmented differently): `divmod(draw, len(rows))` gives both back.
    """
    if sampler == "shuffle":
        return epoch_order(len(rows), seed=seed, epoch=epoch)
    names = [row.target for row in rows] if sampler == "class_balanced" else [row.group for row in rows]
    strata = np.unique(np.array(names), return_inverse=True)[1]
    positions = balanced_draws(strata, seed=seed, epoch=epoch)
    return [
        position + len(rows) * time for position, time in zip(positions.tolist(), _occurrences(positions), strict=True)
    ]


def balanced_draws(strata: NDArray[np.int64], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Positions, int64 (n,), of one epoch in which every stratum is drawn as often as any other, give or take one.

    `strata`: int64 (n,), the stratum (0, 1, ...) of each position, none of them empty. Each stratum is a deck that is
    dealt to its end before it is shuffled anew, across epochs: after any number of epochs the positions of a stratum
    have been drawn equally often, give or take one. Where strata do not divide n, those with a draw more take turns.
    """
    n, count = len(strata), int(strata.max()) + 1 if len(strata) else 0
    parts = []
    for stratum in range(count):
        members = np.flatnonzero(strata == stratum)
        start = _dealt(n, count, stratum, epoch)
        end = _dealt(n, count, stratum, epoch + 1)
        decks = range(start // len(members), -(-end // len(members)))
        dealt = [members[np.argsort(random_keys(seed ^ _DECKS, deck, members), kind="stable")] for deck in decks]
        first = start - start // len(members) * len(members)
        parts.append(np.concatenate([*dealt, members[:0]])[first : first + end - start])
    draws = np.concatenate([np.empty(0, dtype=np.int64), *parts])
    return draws[epoch_order(n, seed=seed, epoch=epoch)]


def _dealt(n: int, count: int, stratum: int, epochs: int) -> int:
    """Draws of one of `count` strata in that many epochs of n draws: draw number d goes to stratum d mod count."""
    return (n * epochs - stratum + count - 1) // count


def _occurrences(positions: NDArray[np.int64]) -> list[int]:
    """How often each entry occurred before."""
    seen: dict[int, int] = {}
    times = []
    for position in positions.tolist():
        times.append(seen.get(position, 0))
        seen[position] = times[-1] + 1
    return times
