"""The options of the scheduler; torch is imported when it is built."""

from __future__ import annotations

from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import SchedulerContext


@component("scheduler", "example")
class Example:
    """A polynomial fall to zero, (1 - step / steps) ^ power; it is stepped after every optimizer step."""

    power: float = option(default=1.0, above=0, help="1 is a straight line; more falls sooner")

    def build(self, ctx: SchedulerContext) -> Any:
        from torch.optim.lr_scheduler import PolynomialLR

        return PolynomialLR(ctx.optimizer, total_iters=ctx.total_steps, power=self.power)
