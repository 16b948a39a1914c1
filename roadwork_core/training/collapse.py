"""How far features are spread and what they tell apart: what falls when self-supervised training collapses."""

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


def knn_balanced_accuracy(features: Tensor, labels: Tensor, neighbours: int = 10) -> float | None:
    """Mean recall over classes of a vote of each sample's nearest others by cosine, itself left out.

    `features` float (N, D), `labels` int64 (N,). None where there are fewer than two classes, or a class has only one
    sample. A tie goes to the class of the nearer neighbours.
    """
    classes, counts = torch.unique(labels, return_counts=True)
    if len(classes) < 2 or int(counts.min()) < 2:
        return None
    number = min(neighbours, len(features) - 1)
    unit = nn.functional.normalize(features.double(), dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-2.0)
    nearest = similarity.argsort(dim=1, descending=True, stable=True)[:, :number]
    votes = (labels[nearest].unsqueeze(2) == classes).double()
    # Far below one vote in all, and more for a nearer neighbour.
    weight = 1.0 + 1e-6 * torch.arange(number, 0, -1, dtype=torch.float64)
    guesses = classes[(votes * weight[None, :, None]).sum(dim=1).argmax(dim=1)]
    recalls = [float((guesses[labels == each] == each).double().mean()) for each in classes]
    return sum(recalls) / len(recalls)
