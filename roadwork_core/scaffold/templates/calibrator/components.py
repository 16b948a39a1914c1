"""The options of the calibrator; numpy is imported when it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import CalibratorContext


@component("calibrator", "example")
class Example:
    """Divides the logits by the temperature of a grid that gives the labels the highest likelihood."""

    steps: int = option(default=100, minimum=2, help="temperatures tried between 1/20 and 20")

    def build(self, ctx: CalibratorContext) -> Any:
        from .calibrators import Temperature

        return Temperature.fit(ctx.logits, ctx.labels, self.steps)

    def restore(self, state: Mapping[str, Any]) -> Any:
        from .calibrators import Temperature

        return Temperature(state["temperature"])
