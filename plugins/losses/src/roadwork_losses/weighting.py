"""Factors on the loss of each class: given, or from the class counts of the train split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from roadwork_core.errors import DataError, UsageError
from roadwork_core.kinds import LossContext

ClassWeights = tuple[float, ...] | Literal["balanced"] | None


def check_weights(class_weights: ClassWeights) -> None:
    """Raises ValueError for weights under which nothing would be learnt."""
    if isinstance(class_weights, tuple) and not any(class_weights):
        raise ValueError("class_weights are all zero: nothing would be learnt")


def weights_of(class_weights: ClassWeights, ctx: LossContext) -> tuple[float, ...] | None:
    """One factor per class, n / (C n_c) where "balanced"; None where all are 1.

    Raises UsageError for a wrong number of them, DataError for a class without samples that is to be balanced.
    """
    if class_weights == "balanced":
        counts = present_counts(ctx)
        return tuple(sum(counts) / (len(counts) * count) for count in counts)
    if class_weights is not None and len(class_weights) != ctx.num_classes:
        raise UsageError(
            f"class_weights has {len(class_weights)} values for {ctx.num_classes} classes",
            hint='give one per class, or "balanced"',
        )
    return class_weights


def effective_weights(counts: Sequence[int], beta: float) -> tuple[float, ...]:
    """(1 - beta) / (1 - beta^n_c), scaled to sum to the number of classes (arXiv 1901.05555, equation 4).

    `beta` 0 gives every class 1; towards 1 they become inversely proportional to the counts.
    """
    if beta == 0:
        return (1.0,) * len(counts)
    raw = [1.0 / -math.expm1(count * math.log(beta)) for count in counts]
    return tuple(len(raw) * weight / sum(raw) for weight in raw)


def present_counts(ctx: LossContext) -> list[int]:
    """Class counts of the train split. Raises DataError where a class has none."""
    counts = [int(count) for count in ctx.class_counts]
    if 0 in counts:
        raise DataError(
            f"class {counts.index(0)} has no sample in the train split, so it cannot be balanced",
            hint="use a loss without weights from the counts, or change the split",
        )
    return counts
