"""The options of the loss; torch is imported when it is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from roadwork_core import component, option
from roadwork_core.kinds import LossContext


@component("loss", "example")
class Example:
    """Cross-entropy with an adjustable first term, CE + epsilon (1 - p_y) (Leng et al., 2022, PolyLoss)."""

    soft_targets: ClassVar[bool] = False

    epsilon: float = option(default=1.0, minimum=-1, help="weight of 1 - p_y beside the cross-entropy")

    def build(self, ctx: LossContext) -> Callable[..., Any]:
        from .losses import PolyLoss

        return PolyLoss(self.epsilon)
