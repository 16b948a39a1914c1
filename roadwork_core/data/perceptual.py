"""What a picture looks like, in 64 bits and in a thumbnail: how near-duplicates are found and confirmed.

The hash: the picture in grey (ITU-R 601 luma), averaged over the cells of a 32 x 32 grid, through an orthonormal
two-dimensional DCT-II; of its coefficients the 64 of lowest frequency without the constant one (ordered by u + v, then
by u); a bit is set where the coefficient is above their median. The first coefficient is the highest bit. It is the
perceptual hash of Zauner, Implementation and benchmarking of perceptual image hash functions (2010), with the
constant term left out, which says nothing but that pictures are bright.

The hash nominates, the thumbnail decides: pictures of one kind (all signs, all streets ahead) often share low
frequencies, so two pictures count as near-duplicates only where their 32 x 32 grey grids also correlate.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Cells of the thumbnail along a side.
SIDE = 32
#: Bits of the hash.
BITS = 64
#: Correlation of thumbnails above which pictures whose hashes are near are near-duplicates.
CORRELATION = 0.95
#: Grey levels of standard deviation below which a thumbnail shows nothing to compare.
FLAT = 2.0
#: With more differing bits allowed than this, no band of a hash is selective, and all pairs are compared.
_BANDED_DISTANCE = 12


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB, uint8 (H, W, 3), to grey cell means, uint8 (32, 32)."""
    from PIL import Image

    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))


def perceptual_hash(grid: NDArray[np.uint8]) -> int:
    """The 64-bit hash of a thumbnail, uint8 (32, 32)."""
    basis = _dct_basis()
    coefficients = (basis @ grid.astype(np.float64) @ basis.T)[_low_frequencies()]
    bits = coefficients > np.median(coefficients)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def correlations(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Correlation of each pair of thumbnails, two times uint8 (n, 32, 32), to float32 (n,).

    A thumbnail without contrast correlates with nothing: 0.
    """
    result: NDArray[np.float32] = np.einsum("nd,nd->n", _standardised(first), _standardised(second))
    return result


def candidates(hashes: NDArray[np.uint64], distance: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs i, j of places in `hashes`, uint64 (n,), that differ in at most `distance` bits, in portions.

    Every such pair comes at least once. Hashes within a distance d agree wholly in one of d + 1 bands (Manku et al.,
    Detecting near-duplicates for web crawling, 2007), so only those that share a band are compared; memory is O(n).
    """
    for keys in _bands(hashes, distance):
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        places = np.arange(len(order) - 1)
        # Offset 1 compares neighbours within each run of one key, offset 2 those two apart, until no run is longer.
        for offset in range(1, len(order)):
            places = places[: np.searchsorted(places, len(order) - offset)]
            places = places[ordered[places] == ordered[places + offset]]
            if not len(places):
                break
            first, second = order[places], order[places + offset]
            near = np.bitwise_count(hashes[first] ^ hashes[second]) <= distance
            if near.any():
                yield first[near], second[near]


def _bands(hashes: NDArray[np.uint64], distance: int) -> Iterator[NDArray[np.uint64]]:
    count = distance + 1 if distance <= _BANDED_DISTANCE else 1
    if count == 1 and distance > 0:
        yield np.zeros_like(hashes)
        return
    edges = [round(BITS * band / count) for band in range(count + 1)]
    for low, high in pairwise(edges):
        mask = (1 << (high - low)) - 1
        yield (hashes >> np.uint64(low)) & np.uint64(mask)


def _standardised(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Zero mean and unit length, float32 (n, 1024); all zero for one without contrast."""
    features = thumbnails.reshape(len(thumbnails), SIDE * SIDE).astype(np.float32)
    features -= features.mean(axis=1, keepdims=True)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    flat = length < FLAT * SIDE
    features /= np.where(flat, 1, length)
    features[flat[:, 0]] = 0
    return features


@cache
def _dct_basis() -> NDArray[np.float64]:
    frequency = np.arange(SIDE)[:, None]
    place = np.arange(SIDE)[None, :]
    basis = np.cos(np.pi * (2 * place + 1) * frequency / (2 * SIDE)) * np.sqrt(2 / SIDE)
    basis[0] /= np.sqrt(2)
    result: NDArray[np.float64] = basis
    return result


@cache
def _low_frequencies() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    places = sorted(((u, v) for u in range(SIDE) for v in range(SIDE)), key=lambda place: (sum(place), place[0]))
    chosen = np.array(places[1 : BITS + 1])
    return chosen[:, 0], chosen[:, 1]
