"""The optimizer Lion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LionOptimizer(torch.optim.Optimizer):
    """Every weight moves by the learning rate, in the direction of the sign of the averaged gradient.

    c = b1 m + (1 - b1) g;  w <- w - lr (sign(c) + decay w);  m <- b2 m + (1 - b2) g
    (Chen et al., 2023, arXiv 2302.06675, algorithm 2). Its state is one tensor per weight, half of AdamW's.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], *, lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what `closure`, where given, does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._move(group, weights)
        return loss

    def _move(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        first, second = group["betas"]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        means = [self._mean(weight) for weight in weights]
        direction = torch._foreach_lerp(means, gradients, 1.0 - first)
        torch._foreach_sign_(direction)
        torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, direction, alpha=-group["lr"])
        torch._foreach_lerp_(means, gradients, 1.0 - second)

    def _mean(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["exp_avg"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
        mean: Tensor = state["exp_avg"]
        return mean
