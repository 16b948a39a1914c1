"""Samples gathered: listed by a dataset, each picture looked at once, and what belongs together found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from ..component import component_info
from ..errors import DataError, Origin, Problem
from ..files import digest_json
from ..kinds import DatasetContext
from ..spec import component_options
from .assignment import group_names, refuse_near_duplicates
from .clusters import Clusters, Pair, join_near_duplicates
from .natural import natural_key
from .problems import listed
from .sample import Row, Sample, not_unicode
from .scan import Look, Unreadable, scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..console import Console
    from ..plugins import Plugins
    from ..spec.model import Data


@frozen
class BadImage:
    """A sample whose picture cannot be used, and why."""

    sample: Sample
    reason: str


@frozen(kw_only=True)
class Looked:
    """Samples whose pictures were decoded, the look of each, and those that could not be."""

    samples: Sequence[Sample]
    looks: Sequence[Look]
    bad: Sequence[BadImage]


@frozen(kw_only=True)
class Grouped:
    """Final `labels` int64 (n,) and `names` of the groups, the names `before` look-alikes joined them, and those."""

    labels: NDArray[np.int64]
    names: Sequence[str]
    before: Sequence[str]
    pairs: Sequence[Pair]


def list_samples(
    component: Any, plugins: Plugins, *, cache_dir: Path, seed: int, console: Console, table: str = "data"
) -> list[Sample]:
    """What the dataset `component`, of that table of the spec, lists. Raises DataError where that is nothing."""
    info = component_info(component)
    key = digest_json([f"{plugins.qualified_name(component)}", component_options(component)])[:16]
    place = cache_dir / "datasets" / f"{info.name}-{key}"
    context = DatasetContext(cache_dir=place, seed=seed, report=console.info_once)
    samples = list(component.build(context))
    if not samples:
        raise DataError(f"the dataset {info.name} lists no samples", hint=f"check the options of [{table}]")
    return samples


def look_at(samples: Sequence[Sample], data: Data, *, cache: Path, console: Console) -> Looked:
    """Decodes every picture once; `cache` is a file that remembers what was seen.

    Raises DataError, one problem per picture, where some cannot be used and data.on_bad_image is "error", or none
    can.
    """
    looked = look_at_all(samples, data, cache=cache, console=console)
    good, bad = looked.samples, looked.bad
    if bad and (data.on_bad_image == "error" or not good):
        skip = 'mend or remove them, or set data.on_bad_image = "skip"'
        raise listed(
            Problem(
                f"{len(bad)} of {len(samples)} images cannot be used",
                hint=skip if good else "check where the dataset looks for its files",
            ),
            [Problem(entry.reason, origin=Origin(str(entry.sample.path))) for entry in bad],
        )
    return looked


def look_at_all(samples: Sequence[Sample], data: Data, *, cache: Path, console: Console) -> Looked:
    """Decodes every picture once, whatever data.on_bad_image says of those that cannot be used."""
    found = scan(
        [sample.path for sample in samples], max_pixels=data.max_pixels, threads=data.workers or _threads(), cache=cache
    )
    good: list[Sample] = []
    looks: list[Look] = []
    bad: list[BadImage] = []
    for sample, result in zip(
        samples, console.progress(found, total=len(samples), label="reading pictures"), strict=True
    ):
        if isinstance(result, Unreadable):
            bad.append(BadImage(sample, result.reason))
        elif field := not_unicode(sample):
            bad.append(BadImage(sample, f"its {field} is not valid Unicode"))
        else:
            good.append(sample)
            looks.append(result)
    return Looked(samples=good, looks=looks, bad=bad)


def group(looked: Looked, data: Data) -> Grouped:
    """Which samples may not be torn apart: those of one group of the data, and near-duplicates."""
    samples = looked.samples
    digests = [look.sha256 for look in looked.looks]
    before = group_names(samples, digests, data.splits.group_by)
    number = {name: place for place, name in enumerate(sorted(set(before)))}
    clusters = Clusters(np.array([number[name] for name in before], dtype=np.int64))
    pairs: list[Pair] = []
    if data.near_duplicates != "ignore":
        pairs = join_near_duplicates(
            clusters,
            digests=digests,
            hashes=np.array([look.phash for look in looked.looks], dtype=np.uint64),
            thumbnails=np.stack([look.thumbnail for look in looked.looks]),
            distance=data.near_duplicate_distance,
        )
        if data.near_duplicates == "error":
            refuse_near_duplicates(samples, pairs)
    held: dict[int, set[str]] = defaultdict(set)
    for label, name in zip(clusters.labels.tolist(), before, strict=True):
        held[label].add(name)
    final = {label: min(names, key=natural_key) for label, names in held.items()}
    names = [final[label] for label in clusters.labels.tolist()]
    return Grouped(labels=clusters.labels, names=names, before=before, pairs=pairs)


def rows_of(looked: Looked, targets: NDArray[np.int64], groups: Sequence[str], splits: Sequence[str]) -> list[Row]:
    """The rows of the sample table: class indices `targets` int64 (n,), final `groups` and `splits`, one each."""
    return [
        Row(
            index=index,
            path=str(sample.path.absolute()),
            label=sample.label,
            target=int(target),
            split=split,
            group=name,
            sha256=look.sha256,
            phash=f"{look.phash:016x}",
            width=look.width,
            height=look.height,
            source=sample.source,
            licence=sample.licence,
            tags=dict(sample.tags),
            gps=sample.gps,
        )
        for index, (sample, look, target, name, split) in enumerate(
            zip(looked.samples, looked.looks, targets, groups, splits, strict=True)
        )
    ]


def _threads() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
