"""What every metric asks of its arrays, checked in one place."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roadwork_core.errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

LARGEST_SCORE = 1e300


class InvalidScores(DataError):
    """Scores, labels or groups that no metric can be computed from: exit code 1."""


def finite_floats(values: ArrayLike, what: str) -> Floats:
    """`values` as float64 of any shape; raises `InvalidScores` unless all are finite (below 1e300)."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidScores(f"{what} are not numbers: {error}") from error
    bad = ~(np.abs(array) < LARGEST_SCORE)
    if bad.any():
        index = np.argwhere(bad)[0].tolist()
        where = index[0] if len(index) == 1 else tuple(index)
        raise InvalidScores(
            f"{what} must be finite: {int(bad.sum())} of {array.size} are not, the first at index {where}",
            hint="a non-finite score usually comes from an overflow in half precision",
        )
    return array


def scores_1d(values: ArrayLike, what: str = "scores") -> Floats:
    """`values` as a finite float64 vector of at least one element."""
    array = finite_floats(values, what)
    if array.ndim != 1:
        raise InvalidScores(f"{what} must be one-dimensional, not of shape {array.shape}")
    if array.size == 0:
        raise InvalidScores(f"there are no {what}", hint="give at least one sample")
    return array


def binary_labels(labels: ArrayLike, n: int, what: str = "labels") -> Booleans:
    """`labels` as booleans of shape (n,); they must be 0/1 or booleans."""
    array = np.asarray(labels)
    if array.shape != (n,):
        raise InvalidScores(f"{what} must have shape ({n},), not {array.shape}")
    if array.dtype == np.bool_:
        return array
    if not np.isin(array, (0, 1)).all():
        raise InvalidScores(f"{what} must be 0 or 1, not {sorted(set(array.tolist()) - {0, 1})[:5]}")
    return array.astype(np.bool_)


def class_labels(labels: ArrayLike, n: int, classes: int) -> Integers:
    """`labels` as int64 of shape (n,), each in [0, classes)."""
    array = np.asarray(labels)
    if array.shape != (n,):
        raise InvalidScores(f"labels must have shape ({n},), not {array.shape}")
    whole = array.astype(np.int64)
    if not np.array_equal(whole, array) or ((whole < 0) | (whole >= classes)).any():
        raise InvalidScores(f"labels must be whole numbers from 0 to {classes - 1}")
    return whole


def group_codes(groups: Sequence[Hashable] | NDArray[np.generic] | None, n: int) -> Integers:
    """Codes 0..G-1 (n,), in order of the sorted group names; without groups each sample is its own."""
    if groups is None:
        return np.arange(n, dtype=np.int64)
    array = np.asarray(groups)
    if array.shape != (n,):
        raise InvalidScores(f"groups must have shape ({n},), not {array.shape}")
    if array.dtype == object:
        array = np.asarray([str(group) for group in array.tolist()])
    return np.unique(array, return_inverse=True)[1].astype(np.int64).reshape(n)


def weighted_mean(values: Floats, weights: ArrayLike | None) -> float:
    """Mean of `values` (n,), each counted `weights` (n,) times; without weights the plain mean."""
    return float(values.mean() if weights is None else np.average(values, weights=np.asarray(weights, np.float64)))
