"""Division of grouped, labelled samples into splits: stratified, seeded, and stable when data are added."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def divide(
    groups: Sequence[str], targets: NDArray[np.int64], fractions: Mapping[str, float], *, seed: int
) -> list[str]:
    """The split of each sample: groups stay whole, and each class is divided in the given proportions.

    `targets`: int64 (n,), class indices. `fractions` (of any sum) are taken in their order; a split with fraction 0
    gets nothing. The result is a function of which samples each group holds, of `fractions` and `seed`, not of the
    samples' order.

    Classes are divided from the rarest on, each together with the groups in which it is the rarest class, against what
    the splits still lack of it. Groups that weigh much against the smallest split go first, largest first, to the split
    that lacks most. The others are laid in line by a seeded hash of their name and the line is cut in proportion, so
    that new groups move only those next to a cut. What a class missed, the next makes up for. Where a class has enough
    groups, every split gets at least one.
    """
    names = [name for name, fraction in fractions.items() if fraction > 0]
    shares = np.array([fractions[name] for name in names], dtype=np.float64)
    shares /= shares.sum()
    labels = sorted(set(groups))
    number = {label: place for place, label in enumerate(labels)}
    places = np.array([number[group] for group in groups], dtype=np.int64)
    classes, columns = np.unique(targets, return_inverse=True)
    counts = np.zeros((len(labels), len(classes)), dtype=np.int64)
    np.add.at(counts, (places, columns), 1)
    keys = np.array([_key(seed, label) for label in labels], dtype=np.uint64)

    totals = counts.sum(axis=0)
    rank = np.argsort(totals, kind="stable")
    rarest = rank[np.argmax(counts[:, rank] > 0, axis=1)]
    given = np.zeros((len(names), len(classes)), dtype=np.int64)
    choice = np.zeros(len(labels), dtype=np.int64)
    carry = np.zeros(len(names))
    for column in rank:
        members = np.flatnonzero(rarest == column)
        lacking = shares * totals[column] - given[:, column]
        choice[members] = _fill(lacking + carry, counts[members, column], keys[members], given[:, column] > 0)
        np.add.at(given, choice[members], counts[members])
        carry += shares * totals[column] - given[:, column]
    return [names[split] for split in choice[places]]


def _fill(
    quota: NDArray[np.float64], sizes: NDArray[np.int64], keys: NDArray[np.uint64], has: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The split of each group of `sizes`, given what each split lacks and whether it `has` any of the class."""
    quota = quota.copy()
    choice = np.zeros(len(sizes), dtype=np.int64)
    positive = quota[quota > 0]
    heavy = sizes > (positive.min() / 2 if len(positive) else 0)
    for group in sorted(np.flatnonzero(heavy), key=lambda group: (-sizes[group], keys[group])):
        choice[group] = np.argmax(quota)
        quota[choice[group]] -= sizes[group]
    light = np.flatnonzero(~heavy)
    light = light[np.argsort(keys[light], kind="stable")]
    if len(light):
        ends = np.cumsum(_pour(quota, float(sizes[light].sum())))
        middles = np.cumsum(sizes[light]) - sizes[light] / 2
        choice[light] = np.searchsorted(ends[:-1], middles, side="right")
        np.subtract.at(quota, choice[light], sizes[light])
    _cover(choice, quota, sizes, keys, has)
    return choice


def _pour(quota: NDArray[np.float64], amount: float) -> NDArray[np.float64]:
    """`amount` divided so that the splits that lack most are brought down to one level."""
    ordered = np.sort(quota)[::-1]
    levels = (np.cumsum(ordered) - amount) / np.arange(1, len(ordered) + 1)
    level = levels[np.flatnonzero(ordered >= levels)[-1]]
    return np.maximum(quota - level, 0)


def _cover(
    choice: NDArray[np.int64],
    quota: NDArray[np.float64],
    sizes: NDArray[np.int64],
    keys: NDArray[np.uint64],
    has: NDArray[np.bool_],
) -> None:
    """Gives each split without any of the class the smallest group of the split that can best do without one."""
    held = np.bincount(choice, minlength=len(quota))
    for empty in np.flatnonzero((held == 0) & ~has):
        donors = np.flatnonzero(held + has > 1)
        donors = donors[held[donors] > 0]
        if not len(donors):
            return
        donor = donors[np.argmin(quota[donors])]
        moved = min(np.flatnonzero(choice == donor), key=lambda group: (sizes[group], keys[group]))
        choice[moved] = empty
        quota[donor] += sizes[moved]
        quota[empty] -= sizes[moved]
        held[donor] -= 1
        held[empty] += 1


def _key(seed: int, group: str) -> int:
    digest = hashlib.blake2b(group.encode(errors="surrogateescape"), digest_size=8, key=seed.to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big")
