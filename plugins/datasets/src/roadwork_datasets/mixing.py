"""What of several data sets makes a mix: no picture twice, groups joined where sets overlap, parts of a wanted size."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import attrs
from attrs import define, field

from roadwork_core.data.sample import Sample
from roadwork_core.files import sha256_file

from .scenes import frame_of, sequence_of


@define
class Mix:
    """Data sets in order of preference. `copies` counts what was left out, `disputed` what of it had another label."""

    sources: list[tuple[str, list[Sample]]] = field(factory=list)
    copies: int = 0
    disputed: int = 0

    def add(self, name: str, samples: Iterable[Sample]) -> None:
        self.sources.append((name, list(samples)))

    def without_copies(self) -> list[list[Sample]]:
        """The samples of each source that no earlier sample equals in bytes or frame, with groups that hold across
        sources."""
        self.copies = self.disputed = 0
        digests = _digests([sample.path for _, samples in self.sources for sample in samples])
        joined = _Joined()
        first: dict[Hashable, Sample] = {}
        kept: list[list[tuple[Sample, Hashable]]] = []
        for name, samples in self.sources:
            kept.append([])
            for place, sample in enumerate(samples):
                ties = _ties(name, sample)
                keys = _keys(sample, digests)
                earlier = next((first[key] for key in keys if key in first), None)
                node: Hashable = ties[0] if ties else ("alone", name, place)
                joined.root(node)
                for other in [*ties[1:], *(("picture", key) for key in keys)]:
                    joined.join(node, other)
                for key in keys:
                    first.setdefault(key, earlier or sample)
                if earlier is None:
                    kept[-1].append((sample, node))
                else:
                    self.copies += 1
                    self.disputed += earlier.label != sample.label
        names = joined.names()
        return [[attrs.evolve(sample, group=names.get(joined.root(node))) for sample, node in part] for part in kept]


def fitting(available: Sequence[int], shares: Sequence[float]) -> list[int]:
    """The sizes of the largest mix in which source i has shares[i] / sum(shares) of all, and none more than it has.

    Every source that has a sample gives at least one.
    """
    total = min(count * sum(shares) / share for count, share in zip(available, shares, strict=True))
    return [
        min(count, max(min(1, count), round(total * share / sum(shares))))
        for count, share in zip(available, shares, strict=True)
    ]


def thinned(samples: Sequence[Sample], size: int | None, seed: int) -> list[Sample]:
    """At most `size` of the samples, in their order: each class in proportion, spread over its groups by turns."""
    if size is None or len(samples) <= size:
        return list(samples)
    classes: dict[str, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        classes[sample.label].append(place)
    quotas = _largest_remainder({label: len(places) for label, places in classes.items()}, size)
    chosen: set[int] = set()
    for label, places in classes.items():
        chosen.update(_by_turns(samples, places, seed)[: quotas[label]])
    return [samples[place] for place in sorted(chosen)]


def _by_turns(samples: Sequence[Sample], places: Sequence[int], seed: int) -> list[int]:
    """Places with the first of each group before the second of any; groups and their members in a seeded order."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place in places:
        groups[samples[place].group or f"\0{place}"].append(place)
    turns = []
    for name, members in groups.items():
        ordered = sorted(members, key=lambda place: (_draw(seed, str(place)), place))
        turns += [(turn, _draw(seed, name), place) for turn, place in enumerate(ordered)]
    return [place for _, _, place in sorted(turns)]


def _largest_remainder(counts: dict[str, int], size: int) -> dict[str, int]:
    """`size` divided in proportion to the counts, no class that could have one left without."""
    total = sum(counts.values())
    quotas = {label: count * size // total for label, count in counts.items()}
    rest = sorted(counts, key=lambda label: (-(counts[label] * size % total), label))
    for label in rest[: size - sum(quotas.values())]:
        quotas[label] += 1
    for label in sorted(label for label, quota in quotas.items() if not quota):
        largest = max(quotas, key=lambda other: (quotas[other], other))
        if quotas[largest] > 1:
            quotas[largest] -= 1
            quotas[label] = 1
    return quotas


def _draw(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{text}".encode(errors="surrogateescape"), digest_size=8).digest()


def _ties(name: str, sample: Sample) -> list[Hashable]:
    """What a sample shares with those it may not be torn from: its set's own group, and its drive in any set."""
    ties: list[Hashable] = []
    if sample.group:
        ties.append(("group", name, sample.group))
    if sequence := sequence_of(sample.tags):
        ties.append(("drive", sequence))
    return ties


def _keys(sample: Sample, digests: dict[Path, str]) -> list[Hashable]:
    keys: list[Hashable] = []
    if sample.path in digests:
        keys.append(("bytes", digests[sample.path]))
    if frame := frame_of(sample.tags):
        keys.append(("frame", frame))
    return keys


def _digests(paths: Sequence[Path]) -> dict[Path, str]:
    """sha256 of the files that may have an equal: those of one size with another. Others, and those that cannot be
    read, are left out; the latter are for whoever reads the pictures to name."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            sizes[path.stat().st_size].append(path)
        except OSError:
            continue
    found: dict[Path, str] = {}
    for alike in sizes.values():
        for path in set(alike) if len(alike) > 1 else ():
            try:
                found[path] = sha256_file(path)
            except OSError:
                continue
    return found


@define
class _Joined:
    """Disjoint sets of ties."""

    parents: dict[Hashable, Hashable] = field(factory=dict)

    def root(self, node: Hashable) -> Hashable:
        self.parents.setdefault(node, node)
        while self.parents[node] != node:
            self.parents[node] = self.parents[self.parents[node]]
            node = self.parents[node]
        return node

    def join(self, one: Hashable, other: Hashable) -> None:
        self.parents[self.root(one)] = self.root(other)

    def names(self) -> dict[Hashable, str]:
        """The name of each set that holds a drive or a group: the smallest, drives before groups."""
        found: dict[Hashable, str] = {}
        for node in sorted((n for n in self.parents if _is_named(n)), key=lambda n: (n[0] != "drive", n[1:])):  # type: ignore[index]
            found.setdefault(self.root(node), ":".join(node[1:]))  # type: ignore[index]
        return found


def _is_named(node: Hashable) -> bool:
    return isinstance(node, tuple) and node[0] in ("group", "drive")
