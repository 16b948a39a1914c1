"""The options of the optimizer; torch is imported when it is built."""

from __future__ import annotations

from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import OptimizerContext


@component("optimizer", "example")
class Example:
    """RMSprop with weight decay on weights only."""

    lr: float = option(default=1e-3, above=0, help="learning rate at its highest, before each group's factor")
    alpha: float = option(default=0.99, minimum=0, below=1, help="decay of the running square")
    weight_decay: float = option(default=0.0, minimum=0, help="decay of weights; never of biases and norms")

    def build(self, ctx: OptimizerContext) -> Any:
        from torch.optim import RMSprop

        return RMSprop(ctx.param_groups(self.lr, self.weight_decay), lr=self.lr, alpha=self.alpha)
