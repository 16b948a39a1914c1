"""Losses that are a blend of per-class costs: each class costs something, and the target says in which parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_TINY = torch.finfo(torch.float32).tiny


class BlendedLoss(nn.Module, ABC):
    """Per-sample loss sum_c t_c w_c cost_c(logits), t being the target distribution after label smoothing.

    It is linear in the target, so that the loss of a blend of targets is the blend of their losses, which is what
    mixup and CutMix need. Everything is computed in float32.
    """

    weights: Tensor | None

    def __init__(
        self, num_classes: int, *, weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        made = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.register_buffer("weights", made, persistent=False)

    @abstractmethod
    def costs(self, logits: Tensor) -> Tensor:
        """What each class would cost if it were the true one: float32 (N, C) to float32 (N, C)."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits, float (N, C), and class indices int64 (N,) or probabilities float (N, C), to float32 (N,)."""
        with torch.autocast(logits.device.type, enabled=False):
            costs = self.costs(logits.float())
            share = self._distribution(target).to(costs.device)
            if self.weights is not None:
                share = share * self.weights.to(costs.device)
            return (share * costs).sum(dim=-1)

    def _distribution(self, target: Tensor) -> Tensor:
        if target.is_floating_point():
            share = target.float()
        else:
            share = nn.functional.one_hot(target, self.num_classes).float()
        if self.label_smoothing > 0:
            share = share * (1.0 - self.label_smoothing) + self.label_smoothing / self.num_classes
        return share


class ClassificationLoss(BlendedLoss):
    """(1 - p_c)^gamma (-log p_c), where p is the softmax of the logits.

    Gamma 0 is cross-entropy, above 0 the focal loss (arXiv 1708.02002, equation 5). `epsilon` adds
    epsilon (1 - p_c)^(gamma + 1), the first term of the polynomial losses (arXiv 2204.12511, equation 6).
    """

    def __init__(
        self,
        num_classes: int,
        *,
        weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        gamma: float = 0.0,
        epsilon: float = 0.0,
    ) -> None:
        super().__init__(num_classes, weights=weights, label_smoothing=label_smoothing)
        self.gamma = gamma
        self.epsilon = epsilon

    def costs(self, logits: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, dim=-1)
        if self.gamma == 0 and self.epsilon == 0:
            return -log_p
        missing = -torch.expm1(log_p)
        costs = focused(-log_p, missing, self.gamma)
        if self.epsilon:
            costs = costs + self.epsilon * focused(missing, missing, self.gamma)
        return costs


class AsymmetricLoss(BlendedLoss):
    """Focal loss with a gamma of its own for the positive class, and a margin on the others.

    Of the other classes a probability counts as min(p + clip, 1), so that samples that are right by that much cost
    nothing (arXiv 2009.14119, equations 5 to 7, with the sigmoid of the margin between two classes as softmax).
    """

    def __init__(
        self,
        num_classes: int,
        *,
        positive: int,
        gamma_positive: float,
        gamma_negative: float,
        clip: float,
        weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(num_classes, weights=weights, label_smoothing=label_smoothing)
        self.positive = positive
        self.gamma_positive = gamma_positive
        self.gamma_negative = gamma_negative
        self.clip = clip

    def costs(self, logits: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, dim=-1)
        missing = -torch.expm1(log_p)
        if self.clip > 0:
            raised = (log_p.exp() + self.clip).clamp(max=1.0)
            negative = focused(-raised.log(), 1.0 - raised, self.gamma_negative)
        else:
            negative = focused(-log_p, missing, self.gamma_negative)
        positive = focused(-log_p, missing, self.gamma_positive)
        is_positive = torch.arange(self.num_classes, device=logits.device) == self.positive
        return torch.where(is_positive, positive, negative)


class MarginLoss(BlendedLoss):
    """Cross-entropy in which each class, where it is the true one, has its logit lowered by its margin first.

    `margins` are in units of the logits; all are multiplied by `scale` then (arXiv 1906.07413, equation 13). `weights`
    count from the epoch on that begins at the part `deferred` of the training (algorithm 1 there).
    """

    margins: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        margins: Sequence[float],
        scale: float,
        weights: Sequence[float] | None = None,
        deferred: float = 0.0,
    ) -> None:
        super().__init__(num_classes, weights=None if deferred else weights)
        self.scale = scale
        self._deferred = deferred
        self._later = weights
        self.register_buffer("margins", torch.tensor(margins, dtype=torch.float32), persistent=False)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Puts the weights on where it is time, and takes them off before."""
        if self._deferred and self._later is not None:
            self.weights = torch.tensor(self._later) if epoch >= self._deferred * epochs else None

    def costs(self, logits: Tensor) -> Tensor:
        # (N, C, C): in row c the logits as they are where c is the true class.
        lowered = logits.unsqueeze(-2) - torch.diag(self.margins.to(logits.device))
        return -torch.log_softmax(self.scale * lowered, dim=-1).diagonal(dim1=-2, dim2=-1)


def focused(costs: Tensor, missing: Tensor, gamma: float) -> Tensor:
    """missing^gamma costs, `missing` being 1 - p, with a finite slope at certainty for any gamma."""
    if gamma == 0:
        return costs
    # Below the smallest normal number the power has an infinite slope for gamma under 1.
    return missing.clamp_min(_TINY).pow(gamma) * costs
