"""What a learning-rate scheduler promises."""

from __future__ import annotations

import json
import math
import warnings
from typing import TYPE_CHECKING, Any

from ..kinds import Kind, SchedulerContext
from .contract import ComponentContract, refuse, seeded

if TYPE_CHECKING:
    import torch

BASE = 0.1


class SchedulerContract(ComponentContract):
    """A scheduler is stepped after every optimizer step, spans the training, and goes on from its state.

    Set `spans_the_training` to False for one whose options count steps, so that a longer training has another curve.
    """

    kind = Kind.SCHEDULER
    spans_the_training = True
    total_steps = 60

    def exercise(self, component: Any) -> Any:
        return self._curve(component, self.total_steps)

    def test_gives_a_rate_at_every_step(self) -> None:
        for component in self.cases():
            for total in (1, 2, self.total_steps):
                curve = self._curve(component, total)
                if wrong := [rate for rates in curve for rate in rates if not (math.isfinite(rate) and rate >= 0)]:
                    refuse(f"over {total} steps a learning rate is {wrong[0]}")
                if not any(rate > 0 for rates in curve for rate in rates):
                    refuse(f"over {total} steps no learning rate is above 0")

    def test_counts_optimizer_steps(self) -> None:
        """Over twice as many steps the curve has the same shape: it is laid over the steps of the training."""
        if not self.spans_the_training:
            return
        for component in self.cases():
            short = [rates[0] for rates in self._curve(component, self.total_steps)]
            long = [rates[0] for rates in self._curve(component, 2 * self.total_steps)]
            gap = max(abs(one - two) for one, two in zip(short, long[::2], strict=False)) / BASE
            if gap > 0.12:
                refuse(
                    f"over {self.total_steps} and {2 * self.total_steps} steps the curves differ by {gap:.2f} of the"
                    " learning rate: does it count epochs, or a fixed number of steps (spans_the_training = False)?"
                )

    def test_keeps_the_ratio_of_the_groups(self) -> None:
        for component in self.cases():
            for first, second in self._curve(component, self.total_steps):
                if not math.isclose(first, 10 * second, rel_tol=1e-9, abs_tol=1e-12):
                    refuse(f"groups at 1 and 0.1 of the learning rate come to {first:.4g} and {second:.4g}")

    def test_goes_on_from_its_state(self) -> None:
        for component in self.cases():
            whole = self._curve(component, self.total_steps)
            for stop in (1, self.total_steps // 2):
                optimizer, scheduler = self._pair(component, self.total_steps)
                self._run(optimizer, scheduler, stop)
                try:
                    state = json.loads(json.dumps(scheduler.state_dict()))
                except (TypeError, ValueError) as error:
                    refuse(f"its state is no JSON value: {error}")
                resumed_optimizer, resumed = self._pair(component, self.total_steps)
                resumed_optimizer.load_state_dict(optimizer.state_dict())
                resumed.load_state_dict(state)
                if self._run(resumed_optimizer, resumed, self.total_steps - stop) != whole[stop:]:
                    refuse(f"resumed from its state after {stop} steps it gives other learning rates")

    def _curve(self, component: Any, total: int) -> list[list[float]]:
        optimizer, scheduler = seeded(self._pair)(component, total)
        return self._run(optimizer, scheduler, total)

    @staticmethod
    def _pair(component: Any, total: int) -> tuple[torch.optim.Optimizer, Any]:
        import torch

        groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": BASE * scale} for scale in (1.0, 0.1)]
        optimizer = torch.optim.SGD(groups, lr=BASE)
        context = SchedulerContext(optimizer=optimizer, total_steps=total, steps_per_epoch=max(1, total // 6))
        return optimizer, component.build(context)

    @staticmethod
    def _run(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[list[float]]:
        rates = []
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(steps):
                rates.append([float(group["lr"]) for group in optimizer.param_groups])
                optimizer.step()
                scheduler.step()
        return rates
