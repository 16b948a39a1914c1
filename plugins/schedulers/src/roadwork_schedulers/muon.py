"""Muon for weight matrices and AdamW for all other weights, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


class MuonWithAdamW(torch.optim.Optimizer):
    """Two of torch's optimizers over one list of groups and one state, so that it is scheduled and saved as one.

    `matrices` and `others` are groups as torch takes them; the former may hold tensors of two dimensions only.
    """

    def __init__(
        self,
        matrices: Sequence[dict[str, Any]],
        others: Sequence[dict[str, Any]],
        *,
        muon: Mapping[str, Any],
        adamw: Mapping[str, Any],
    ) -> None:
        parts: list[torch.optim.Optimizer] = [torch.optim.Muon(matrices, **muon)]
        if others:
            parts.append(torch.optim.AdamW(others, **adamw))
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._parts = parts
        self._share()

    def _share(self) -> None:
        """Lets each part work on its own groups of this optimizer and on its state."""
        start = 0
        for part in self._parts:
            end = start + len(part.param_groups)
            part.param_groups = self.param_groups[start:end]
            part.state = self.state
            start = end

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state that `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; returns what `closure`, where given, does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss
