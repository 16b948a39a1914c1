"""Matthews' correlation coefficient of a batch as a loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Keeps the slope finite where a batch, or its answers, are all of one class.
_SMALL = 1e-6


class SoftMccLoss(nn.Module):
    """1 - MCC of the batch's confusion matrix, in which probabilities count in place of decisions: a scalar.

    For any number of classes, (c - p.t) / sqrt((1 - p.p) (1 - t.t)), with c the mean probability of the true class,
    p and t the mean prediction and the frequency of each class (Gorodkin, 2004; as a loss arXiv 2010.13454). A batch
    of one class has no correlation: it costs 1 and pulls nowhere. `cross_entropy` adds that part of the mean
    cross-entropy, which pulls there as well, and where every answer is confidently wrong.
    """

    def __init__(self, num_classes: int, *, cross_entropy: float = 0.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.cross_entropy = cross_entropy

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits, float (N, C), and class indices int64 (N,), to a float32 scalar."""
        with torch.autocast(logits.device.type, enabled=False):
            log_p = torch.log_softmax(logits.float(), dim=-1)
            truth = nn.functional.one_hot(target, self.num_classes).to(log_p)
            p = log_p.exp()
            mean_p, mean_t = p.mean(dim=0), truth.mean(dim=0)
            covariance = (p * truth).sum(dim=-1).mean() - mean_p @ mean_t
            spread_p, spread_t = 1.0 - mean_p.square().sum(), 1.0 - mean_t.square().sum()
            # Rounding can take a spread of zero below it.
            mcc = covariance / ((spread_p * spread_t).clamp_min(0.0) + _SMALL).sqrt()
            loss: Tensor = 1.0 - mcc
            if self.cross_entropy > 0:
                loss = loss - self.cross_entropy * (log_p * truth).sum(dim=-1).mean()
            return loss
