"""The options of the objective; torch is imported when it is built."""

from __future__ import annotations

from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import ObjectiveContext


@component("objective", "example")
class Example:
    """Two views of a picture agree, while each feature keeps a spread over the batch, so that they cannot collapse."""

    spread: float = option(default=1.0, above=0, help="weight of the spread beside the agreement")
    width: int = option(default=64, minimum=2, help="width of the projection that is compared")

    def build(self, ctx: ObjectiveContext) -> Any:
        from .objectives import Agreement

        return Agreement(ctx.backbone, ctx.feature_dim, self.width, self.spread)
