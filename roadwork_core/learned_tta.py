"""Test-time augmentation whose fusion is fitted before it is used: what it is given and must make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

from .kinds import Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .kinds import Tta


@frozen(kw_only=True)
class ViewScores:
    """One split's logits of every view, float64 (V, n, C) in the order of `view_ids`.

    `labels` int64 (n,); `groups` int64 (n,), the same number for samples of one group.
    """

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


@frozen(kw_only=True)
class TtaFitContext:
    """`splits` holds what `fits_on` names, by the model as it will be served; `positive` is a class index."""

    splits: Mapping[str, ViewScores]
    positive: int
    seed: int
    report: Report


class LearnedTta(Protocol):
    """What a `kinds.Tta` has besides, when its fusion learns. A bundle carries the state; unfitted it is refused."""

    #: What it must still be fitted on: "train" or "val_select", each with how many samples at most (None: all). Empty
    #: when it is fitted, and for a Tta that learns nothing (which may leave the attribute out).
    fits_on: Mapping[str, int | None]

    def fit(self, ctx: TtaFitContext) -> Mapping[str, Any]:
        """The fitted state, a JSON value that `restore` takes; floats survive exactly."""
        ...

    def restore(self, state: Mapping[str, Any]) -> Tta:
        """The fitted Tta; its views may be fewer. Raises ValueError or KeyError for a state that is not its own."""
        ...

    def summary(self) -> Mapping[str, Any]:
        """JSON value for people, of the fitted Tta: `text`, and where there is one `table` of {columns, rows}."""
        ...
