"""Cross-entropy and focal loss as one formula over class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ClassificationLoss(nn.Module):
    """Per-sample loss sum_c t_c w_c (1 - p_c)^gamma (-log p_c), where p is the softmax of the logits.

    `t` is the target distribution after label smoothing; for a class index and gamma 0 this is cross-entropy,
    for gamma above 0 the focal loss (arXiv 1708.02002, equation 5). Everything is computed in float32.
    """

    weights: Tensor | None

    def __init__(
        self,
        num_classes: int,
        *,
        weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        gamma: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.gamma = gamma
        made = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.register_buffer("weights", made, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits, float (N, C), and class indices int64 (N,) or probabilities float (N, C), to float32 (N,)."""
        with torch.autocast(logits.device.type, enabled=False):
            log_p = torch.log_softmax(logits.float(), dim=-1)
            share = self._distribution(target).to(log_p.device)
            if self.weights is not None:
                share = share * self.weights.to(log_p.device)
            if self.gamma > 0:
                # Below the smallest normal number the power has an infinite slope for gamma under 1.
                missing = (-torch.expm1(log_p)).clamp_min(torch.finfo(torch.float32).tiny)
                share = share * missing.pow(self.gamma)
            return -(share * log_p).sum(dim=-1)

    def _distribution(self, target: Tensor) -> Tensor:
        if target.is_floating_point():
            share = target.float()
        else:
            share = nn.functional.one_hot(target, self.num_classes).float()
        if self.label_smoothing > 0:
            share = share * (1.0 - self.label_smoothing) + self.label_smoothing / self.num_classes
        return share
