"""Which errors of one type to train on: large loss, near to other errors, far from one another; numpy alone.

Distances are between features of length one, so that they follow the angle. Nothing holds an n x n matrix: memory is
O(n) beside blocks of `BLOCK` rows, so features may be a memory map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows of features that are held at once.
BLOCK = 2048


@frozen(kw_only=True, eq=False)
class Chosen:
    """`picked` int64 (k,), places of the errors to train on, best first; `suspects` int64 (s,), those whose label is
    doubted, by falling loss; `similarity` and `agreement` float64 (p,) of the `pool` int64 (p,), places of the errors
    that were looked at, by falling loss."""

    picked: NDArray[np.int64]
    suspects: NDArray[np.int64]
    pool: NDArray[np.int64]
    similarity: NDArray[np.float64]
    agreement: NDArray[np.float64]


def choose(
    features: NDArray[np.float32],
    losses: NDArray[np.float64],
    *,
    others: NDArray[np.float32],
    alike: NDArray[np.float32] | None = None,
    cap: int,
    pool: int,
    neighbours: int = 10,
    agreement: float = 0.2,
) -> Chosen:
    """Chooses at most `cap` of n errors of one type (all of one true label).

    `features` (n, d), `losses` (n,), `others` (m, d): features of samples with another true label, `alike` (k, d): of
    other samples with the same one. The `pool` errors of the largest loss are looked at. Of each the `neighbours`
    nearest among all errors (not itself), `alike` and `others` are found; where less than the share `agreement` of them
    has its label, the label is doubted. The rest are picked one by one: the first by its priority, then always that
    with the largest product of priority and distance to the nearest one picked (greedy k-centre, Gonzalez 1985,
    weighted). Priority is the loss times the mean similarity to the nearest errors of this type, so that errors which
    come in numbers go before odd ones. Same input, same choice.
    """
    order = np.argsort(-losses, kind="stable")[:pool].astype(np.int64)
    if not len(order):
        none = np.empty(0)
        return Chosen(picked=order, suspects=order, pool=order, similarity=none, agreement=none)
    queries = normalised(features[order])
    within = nearest(queries, features, neighbours, itself=order)
    against = nearest(queries, others, neighbours)
    similarity = (np.where(np.isfinite(within), within, 0.0)).mean(axis=1).clip(0, 1) if within.size else _zeros(order)
    same = within if alike is None else np.concatenate([within, nearest(queries, alike, neighbours)], axis=1)
    agree = _agreement(same, against, neighbours)
    doubted = agree < agreement
    trusted = np.flatnonzero(~doubted)
    priority = losses[order] * (0.05 + similarity)
    picked = trusted[farthest_points(queries[trusted], priority[trusted], cap)]
    return Chosen(picked=order[picked], suspects=order[doubted], pool=order, similarity=similarity, agreement=agree)


def farthest_points(features: NDArray[np.float32], priority: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Places of at most `count` rows, in the order of picking; features (n, d) of length one, O(n) memory, O(nk) time.

    Rows that are equal to one picked before are left out.
    """
    if not len(features) or count < 1:
        return np.empty(0, dtype=np.int64)
    picked = [int(np.argmax(priority))]
    distance = np.full(len(features), np.inf, dtype=np.float32)
    while True:
        np.minimum(distance, 1.0 - features @ features[picked[-1]], out=distance)
        distance[picked[-1]] = 0.0
        # Rounding leaves equal rows a little apart.
        gain: NDArray[np.float64] = np.where(distance > 1e-6, distance, 0.0) * priority
        following = int(np.argmax(gain))
        if len(picked) == count or gain[following] <= 0:
            return np.array(picked, dtype=np.int64)
        picked.append(following)


def nearest(
    queries: NDArray[np.float32],
    among: NDArray[np.float32],
    count: int,
    *,
    itself: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Cosines with the `count` nearest rows of `among` (m, d), float64 (q, count), falling; -inf where m is too small.

    `queries` (q, d) have length one, `itself` int64 (q,) is each one's own place in `among`, which does not count.
    """
    best = np.full((len(queries), count), -np.inf)
    for start in range(0, len(among), BLOCK):
        block = normalised(among[start : start + BLOCK])
        for first in range(0, len(queries), BLOCK):
            rows = slice(first, first + BLOCK)
            cosines = (queries[rows] @ block.T).astype(np.float64)
            if itself is not None:
                inside = np.flatnonzero((itself[rows] >= start) & (itself[rows] < start + len(block)))
                cosines[inside, itself[rows][inside] - start] = -np.inf
            if cosines.shape[1] > count:
                cosines = np.partition(cosines, cosines.shape[1] - count, axis=1)[:, -count:]
            best[rows] = np.sort(np.concatenate([best[rows], cosines], axis=1), axis=1)[:, : -count - 1 : -1]
    return best


def normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one, float32 (n, d); a row of zeros stays."""
    rows = np.asarray(features, dtype=np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    result: NDArray[np.float32] = (rows / np.where(length > 0, length, 1)).astype(np.float32)
    return result


def _agreement(within: NDArray[np.float64], against: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Share of the nearest `count` among both that are of the first kind, float64 (q,); 1 where there are none."""
    both = np.concatenate([within, against], axis=1)
    same = np.arange(both.shape[1]) < within.shape[1]
    places = np.argsort(-both, axis=1, kind="stable")[:, :count]
    there = np.isfinite(np.take_along_axis(both, places, axis=1))
    known = there.sum(axis=1)
    result: NDArray[np.float64] = np.where(known > 0, (same[places] & there).sum(axis=1) / np.maximum(known, 1), 1.0)
    return result


def _zeros(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.zeros(len(rows))
