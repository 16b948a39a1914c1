"""Which samples belong together: the dataset's groups, joined where their pictures are near-duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from .perceptual import CORRELATION, candidates, correlations

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Pairs whose thumbnails are compared at once (8 KiB each).
_CHUNK = 8192


@frozen
class Pair:
    """Two samples of different groups whose pictures look alike; `bits` their hashes differ in."""

    first: int
    second: int
    bits: int
    correlation: float


class Clusters:
    """A partition of n samples that only grows coarser. `labels`: int64 (n,), equal within a cluster."""

    def __init__(self, labels: NDArray[np.int64]) -> None:
        self._start = labels
        self._parent = np.arange(int(labels.max()) + 1 if len(labels) else 0)
        self.labels = labels.copy()

    def join(self, first: Iterable[int], second: Iterable[int]) -> list[bool]:
        """Makes each pair share a cluster; says of each whether that was new."""
        parent, news = self._parent, []
        for a, b in zip(first, second, strict=True):
            low, high = sorted((self._root(int(self._start[a])), self._root(int(self._start[b]))))
            parent[high] = low
            news.append(low != high)
        if any(news):
            while (shorter := parent[parent]).tobytes() != parent.tobytes():
                parent = shorter
            self._parent = parent
            self.labels = parent[self._start]
        return news

    def _root(self, label: int) -> int:
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = int(parent[label])
        return label


def join_near_duplicates(
    clusters: Clusters,
    *,
    digests: Sequence[str],
    hashes: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
    distance: int,
    correlation: float = CORRELATION,
) -> list[Pair]:
    """Joins clusters that share a file's bytes (`digests`), or pictures that look alike; returns why.

    The pairs returned are enough to explain every join, not all that exist: once two clusters are one, further pairs
    between them are not looked at, so long sequences of alike frames cost little. `hashes` uint64 (n,), `thumbnails`
    uint8 (n, 32, 32). Pictures look alike when their hashes differ in at most `distance` bits and their thumbnails
    correlate by at least `correlation`.
    """
    found = _join_same_bytes(clusters, digests)
    for first, second in candidates(hashes, distance):
        apart = clusters.labels[first] != clusters.labels[second]
        first, second = first[apart], second[apart]
        for start in range(0, len(first), _CHUNK):
            i, j = first[start : start + _CHUNK], second[start : start + _CHUNK]
            likeness = correlations(thumbnails[i], thumbnails[j])
            alike = likeness >= correlation
            i, j, likeness = i[alike], j[alike], likeness[alike]
            for new, a, b, value in zip(clusters.join(i, j), i.tolist(), j.tolist(), likeness.tolist(), strict=True):
                if new:
                    bits = int(np.bitwise_count(hashes[a] ^ hashes[b]))
                    found.append(Pair(min(a, b), max(a, b), bits, round(value, 4)))
    return found


def _join_same_bytes(clusters: Clusters, digests: Sequence[str]) -> list[Pair]:
    seen: dict[str, int] = {}
    pairs = [(seen.setdefault(digest, number), number) for number, digest in enumerate(digests)]
    pairs = [(a, b) for a, b in pairs if a != b]
    news = clusters.join([a for a, _ in pairs], [b for _, b in pairs])
    return [Pair(a, b, 0, 1.0) for new, (a, b) in zip(news, pairs, strict=True) if new]
