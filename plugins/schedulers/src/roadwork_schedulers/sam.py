"""Sharpness-aware minimisation around any optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class SharpnessAware(torch.optim.Optimizer):
    """Steps of `base` with the gradient found `rho` uphill of the weights (Foret et al., 2021, arXiv 2010.01412).

    Between the gradient and the step the training calls `ascend`, computes the gradient of the same samples once more,
    and calls `descend`. Without that a step is `base`'s own. Groups and state are `base`'s, and so is what is saved.
    """

    def __init__(self, base: torch.optim.Optimizer, rho: float) -> None:
        super().__init__(base.param_groups, {})
        self._base = base
        self._rho = rho
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._share()

    def _share(self) -> None:
        self.param_groups = self._base.param_groups
        self.state = self._base.state

    @torch.no_grad()
    def ascend(self) -> None:
        """Moves the weights by `rho` along the whole gradient scaled to length one; a scale of the loss drops out."""
        weights = [weight for group in self.param_groups for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        self._kept = [(weight, weight.detach().clone()) for weight in weights]
        gradients = [weight.grad for weight in weights]
        norm = torch.nn.utils.get_total_norm(gradients)
        # All gradients are zero at a stationary point, where there is no uphill.
        scale = self._rho / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        torch._foreach_add_(weights, torch._foreach_mul(gradients, scale))

    @torch.no_grad()
    def descend(self) -> None:
        """Puts the weights back, to the bit."""
        for weight, before in self._kept:
            weight.copy_(before)
        self._kept = []

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the base."""
        return self._base.step(closure)

    def state_dict(self) -> dict[str, Any]:
        """The base's."""
        return self._base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state that `state_dict` gave."""
        self._base.load_state_dict(state_dict)
        self._share()
