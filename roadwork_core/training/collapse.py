"""How far features are spread: what falls when self-supervised training collapses."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the singular values of centred features, float (N, D) (Roy and Vetterli, 2007).

    Between 1 (all on a line) and min(N - 1, D); 0 for features that are all the same.
    """
    exact = features.double()
    centred = exact - exact.mean(dim=0)
    # What is left of features that are all the same is rounding, and rounding has a high rank.
    if float(centred.norm()) <= 1e-5 * float(exact.norm()):
        return 0.0
    values = torch.linalg.svdvals(centred)
    shares = (values / values.sum()).clamp_min(1e-300)
    return math.exp(float(-(shares * shares.log()).sum()))


def feature_std(features: Tensor) -> float:
    """Mean over dimensions of the standard deviation of features scaled to unit length, float (N, D).

    1 / sqrt(D) when directions are spread evenly, 0 when all are the same (the watch of SimSiam, arXiv 2011.10566).
    """
    return float(nn.functional.normalize(features.float(), dim=1).std(dim=0, correction=0).mean())
