"""The options of the test-time augmentation; torch is imported when it is built."""

from __future__ import annotations

from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import TtaContext


@component("tta", "example")
class Example:
    """The picture and a brighter one, fused by a weighted mean of their logits."""

    gain: float = option(default=1.5, above=1, help="how much brighter the second view is")
    weight: float = option(default=0.5, minimum=0, maximum=1, help="weight of the second view")

    def build(self, ctx: TtaContext) -> Any:
        from .views import Brighter

        return Brighter(ctx, self.gain, self.weight)
