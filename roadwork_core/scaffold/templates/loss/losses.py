"""The loss itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PolyLoss(nn.Module):
    """Logits, float32 (N, C), and targets, int64 (N,), to losses, float32 (N,)."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits.float(), dim=-1).gather(1, target[:, None])[:, 0]
        return self.epsilon * (1.0 - log_p.exp()) - log_p
