"""Resamples of many margins as counts in cells: their cuts cost what the cells cost, not what the samples do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from roadwork_core.metrics.inputs import Booleans, Floats, Integers
from roadwork_core.metrics.intervals import resampled_weights

#: More samples than this are put into cells.
MANY = 20_000
#: Cells of about equally many samples. The best cut of a resample varies as n^(-1/3) of the margins' spread, which at
#: n = 10^6 is about forty cells, so that the cells' width does not show.
CELLS = 4096


def resampled_counts(
    margins: Floats, positive: Booleans, codes: Integers, resamples: int, rng: np.random.Generator
) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Per resample by group: margins (m,), how many positives (m,) and how many negatives (m,) were drawn there.

    `margins` (n,) descend; `positive` and group `codes` are theirs. Up to `MANY` samples every one stands for
    itself; beyond that each cell stands at the mean of its margins, equal margins always in the same cell.
    """
    n = margins.size
    if n <= MANY:
        for weights in resampled_weights(codes, resamples, rng):
            yield margins, weights * positive, weights * ~positive
        return
    centres, cells = _cells(margins)
    places = 2 * cells + positive
    groups = int(codes.max()) + 1
    if groups == n:
        # Samples are drawn one by one, so that the counts of all places together are one multinomial.
        frequency = np.bincount(places, minlength=2 * centres.size) / n
        tables: Iterator[Floats] = (rng.multinomial(n, frequency).astype(np.float64) for _ in range(resamples))
    else:
        tables = (
            np.bincount(places, weights=weights, minlength=2 * centres.size).astype(np.float64)
            for weights in resampled_weights(codes, resamples, rng)
        )
    for table in tables:
        yield centres, table[1::2], table[::2]


def _cells(margins: Floats) -> tuple[Floats, Integers]:
    """The mean margin (m,) of each cell and the cell (n,) of each margin."""
    n = margins.size
    first = np.flatnonzero(np.append(True, margins[1:] != margins[:-1]))
    rank = np.repeat(first, np.diff(np.append(first, n)))
    cells = np.unique(rank * CELLS // n, return_inverse=True)[1]
    return np.bincount(cells, weights=margins) / np.bincount(cells), cells
