"""The loss itself."""

import torch
from torch import nn


class FocalLoss(nn.Module):
    """Logits, float32 (N, 2), and targets, int64 (N,), to losses, float32 (N,)."""

    def __init__(self, gamma, alpha):
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits, target):
        log_p = torch.log_softmax(logits, dim=-1).gather(1, target[:, None])[:, 0]
        loss = -((1 - log_p.exp()).clamp_min(1e-12) ** self.gamma) * log_p
        if self.alpha is None:
            return loss
        return torch.where(target == 1, self.alpha, 1 - self.alpha) * loss
