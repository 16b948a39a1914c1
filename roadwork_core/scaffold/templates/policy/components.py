"""The options of the policy; numpy is imported when it is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from roadwork_core import component, option
from roadwork_core.kinds import PolicyContext, PolicyRestoreContext


@component("policy", "example")
class Example:
    """Answers with the likeliest class where it is sure enough, and abstains elsewhere."""

    mode: ClassVar[str] = "fast"

    coverage: float = option(default=0.9, above=0, maximum=1, help="part of the calibration samples to answer")

    def build(self, ctx: PolicyContext) -> Any:
        from .policies import Confident

        return Confident.fit(ctx.logits, ctx.positive, self.coverage)

    def restore(self, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> Any:
        from .policies import Confident

        return Confident(state["confidence"], ctx.positive)

    def requires(self) -> Sequence[str]:
        return ()
