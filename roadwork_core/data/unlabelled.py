"""Pictures to adapt to without labels: those that a data set lists, without what is held out to select, fit or test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from ..errors import DataError, Origin, Problem
from ..files import digest_json
from .clusters import Clusters, join_near_duplicates
from .gather import Looked
from .problems import listed
from .sample import Row, Sample, escaped
from .scan import Look

if TYPE_CHECKING:
    from ..spec.model import Data

#: What stands in a row where labelled ones have their label and their split.
UNLABELLED = "unlabelled"
#: And where they have the index of their class.
NO_TARGET = -1


class Why(StrEnum):
    """Why a picture is left out."""

    UNREADABLE = "unreadable"
    HELD_OUT = "held out"
    NEAR_HELD_OUT = "near to a held-out picture"
    GOES_WITH_NEAR = "goes with a picture that is near to a held-out one"
    REPEATED = "repeated"
    IN_TRAIN = "in train"


@frozen(kw_only=True)
class LeftOut:
    """A picture that is not adapted to; `detail` says more, `near` is the labelled picture that it is like."""

    path: str
    why: Why
    detail: str | None = None
    near: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "reason": str(self.why), "detail": self.detail, "near": self.near}


@frozen(kw_only=True)
class Unlabelled:
    """The rows that may be adapted to, in the order of the listing, and the pictures that may not."""

    rows: Sequence[Row]
    left_out: Sequence[LeftOut]

    def to_json(self) -> dict[str, Any]:
        """Counts and a digest of what is adapted to, for the report."""
        counts = Counter(str(entry.why) for entry in self.left_out)
        return {
            "listed": len(self.rows) + len(self.left_out),
            "samples": len(self.rows),
            "left_out": {str(why): counts[why] for why in Why if counts[why]},
            "digest": digest_json([row.sha256 for row in self.rows]),
        }


def without_held_out(
    looked: Looked, labelled: Sequence[Row], looks: Sequence[Look], data: Data, *, with_train: bool
) -> Unlabelled:
    """What of `looked` may be adapted to beside `labelled`, the rows of all splits, whose looks are `looks`.

    A picture is left out where it is one of val_select, val_calib or test, looks like one of them as `prepare` judges
    near-duplicates, or goes with such a picture: by a group of its data, or by a chain of near-duplicates. Of pictures
    with the same bytes one stays, none where train has it and `with_train`. Labels are not read. Raises DataProblems
    where data.near_duplicates is "error" and something held out is among them, DataError where nothing remains.
    """
    held = [(row, look) for row, look in zip(labelled, looks, strict=True) if row.split != "train"]
    reasons = _like_held_out(looked, held, data)
    if reasons and data.near_duplicates == "error":
        raise _refused(reasons)
    seen = {row.sha256: row.path for row in labelled if row.split == "train"} if with_train else {}
    trained = set(seen)
    rows: list[Row] = []
    left_out = [
        LeftOut(path=escaped(str(entry.sample.path)), why=Why.UNREADABLE, detail=entry.reason) for entry in looked.bad
    ]
    for number, (sample, look) in enumerate(zip(looked.samples, looked.looks, strict=True)):
        path = str(sample.path.absolute())
        if number in reasons:
            left_out.append(reasons[number])
        elif look.sha256 in seen:
            why = Why.IN_TRAIN if look.sha256 in trained else Why.REPEATED
            left_out.append(LeftOut(path=path, why=why, near=seen[look.sha256]))
        else:
            seen[look.sha256] = path
            rows.append(_row(len(labelled) + number, sample, look))
    if not rows:
        counts = ", ".join(f"{count} {why}" for why, count in Counter(entry.why for entry in left_out).items())
        raise DataError(
            f"none of the {len(left_out)} pictures of adapt.data can be adapted to: {counts}",
            hint="name other pictures in adapt.data, or leave it out",
        )
    return Unlabelled(rows=rows, left_out=left_out)


def _like_held_out(looked: Looked, held: Sequence[tuple[Row, Look]], data: Data) -> dict[int, LeftOut]:
    """By place in `looked`, why a picture is left out for a held-out one."""
    if not held or not looked.samples:
        return {}
    samples, first = looked.samples, len(held)
    looks = [*(look for _, look in held), *looked.looks]
    digests = [look.sha256 for look in looks]
    # Held-out pictures are one cluster: whatever comes to be joined with it is left out.
    clusters = Clusters(np.array([0] * first + _groups(samples), dtype=np.int64))
    place = {row.sha256: number for number, (row, _) in enumerate(held)}
    same = {number: place[digest] for number, digest in enumerate(digests[first:]) if digest in place}
    clusters.join(same.values(), (first + number for number in same))
    near: dict[int, int] = {}
    if data.near_duplicates != "ignore":
        for pair in join_near_duplicates(
            clusters,
            digests=digests,
            hashes=np.array([look.phash for look in looks], dtype=np.uint64),
            thumbnails=np.stack([look.thumbnail for look in looks]),
            distance=data.near_duplicate_distance,
        ):
            if pair.first < first <= pair.second:
                near[pair.second - first] = pair.first
    found: dict[int, LeftOut] = {}
    for number in np.flatnonzero(clusters.labels[first:] == clusters.labels[0]).tolist():
        like = same.get(number, near.get(number))
        why = Why.HELD_OUT if number in same else Why.NEAR_HELD_OUT if number in near else Why.GOES_WITH_NEAR
        row = None if like is None else held[like][0]
        found[number] = LeftOut(
            path=str(samples[number].path.absolute()),
            why=why,
            detail=row.split if row else None,
            near=row.path if row else None,
        )
    return found


def _groups(samples: Sequence[Sample]) -> list[int]:
    """A number above 0 for each sample, the same within a group of one source."""
    numbers: dict[Any, int] = {}
    return [
        numbers.setdefault((sample.source, sample.group) if sample.group else place, len(numbers) + 1)
        for place, sample in enumerate(samples)
    ]


def _row(index: int, sample: Sample, look: Look) -> Row:
    return Row(
        index=index,
        path=str(sample.path.absolute()),
        label=UNLABELLED,
        target=NO_TARGET,
        split=UNLABELLED,
        group=sample.group or f"sha256:{look.sha256[:16]}",
        sha256=look.sha256,
        phash=f"{look.phash:016x}",
        width=look.width,
        height=look.height,
        source=sample.source,
        licence=sample.licence,
        tags=dict(sample.tags),
        gps=sample.gps,
    )


def _refused(reasons: Mapping[int, LeftOut]) -> DataError:
    count = f"{len(reasons)} picture{'s' if len(reasons) > 1 else ''}"
    return listed(
        Problem(
            f"adapt.data holds what is held out, or near to it ({count})",
            hint='remove them, or set data.near_duplicates = "group" to leave them out',
        ),
        [
            Problem(
                f"{entry.why}{f': {entry.near} in {entry.detail}' if entry.near else ''}", origin=Origin(entry.path)
            )
            for entry in reasons.values()
        ],
    )
