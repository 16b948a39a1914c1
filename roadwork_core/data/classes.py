"""The classes of a data set: their order, the positive one, and the index of each sample's label."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from ..errors import DataError, Problem, SpecError
from .sample import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..spec.model import Data

#: The positive class where the data have one of this name and the spec does not say.
ROADWORK = "roadwork"


@frozen
class Classes:
    """`labels` in order of their index, and the index of the positive one."""

    labels: tuple[str, ...]
    positive: int

    def targets(self, samples: Sequence[Sample]) -> NDArray[np.int64]:
        """Class index of each sample, int64 (n,)."""
        index = {label: number for number, label in enumerate(self.labels)}
        return np.array([index[sample.label] for sample in samples], dtype=np.int64)


def find_classes(samples: Sequence[Sample], data: Data) -> Classes:
    """The classes that the spec names, or else those that the samples have, sorted.

    Raises DataError for a single class, a label that the spec does not name or a named class without samples, and
    SpecError for a positive class that is none of them.
    """
    counts = Counter(sample.label for sample in samples)
    has = ", ".join(f'"{label}" ({count})' for label, count in sorted(counts.items()))
    labels = data.classes or tuple(sorted(counts))
    if strange := sorted(set(counts) - set(labels)):
        example = next(sample for sample in samples if sample.label == strange[0])
        near = difflib.get_close_matches(strange[0], labels, n=1)
        raise DataError(
            f'the label "{strange[0]}" ({counts[strange[0]]} samples) is not one of data.classes',
            path=example.path,
            hint=f'did you mean "{near[0]}"?' if near else f"data.classes: {', '.join(labels)}",
        )
    if len(counts) == 1:
        raise DataError(
            f"all {len(samples)} samples are of one class, {has}", hint="a classifier needs samples of at least two"
        )
    if absent := [label for label in labels if label not in counts]:
        raise DataError(
            f'no sample has the label "{absent[0]}" of data.classes', hint=f"labels: {has}; mend the one or the other"
        )
    if data.positive is not None and data.positive not in labels:
        near = difflib.get_close_matches(data.positive, labels, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"classes: {', '.join(labels)}"
        raise SpecError([Problem(f'no class is called "{data.positive}"', key="data.positive", hint=hint)])
    positive = data.positive or (ROADWORK if ROADWORK in labels else labels[-1])
    return Classes(labels, labels.index(positive))
