"""Nonconformity scores of every label: how little a label fits a sample, as a function of that sample alone."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from roadwork_core.metrics.inputs import Floats
from roadwork_core.metrics.logits import class_log_odds, softmax

Score: TypeAlias = Literal["lac", "aps", "raps"]


def lac(calibrated: Floats) -> Floats:
    """-log(p_y / (1 - p_y)) of calibrated logits (n, C): 1 - p_y (Sadinle et al., 2019) without its ties."""
    return -class_log_odds(calibrated)


def aps(calibrated: Floats, uniforms: Floats | None) -> Floats:
    """Probability of the labels likelier than y, plus a share of y's own, less 1; shape (n, C), in [-1, 0].

    Romano, Sesia and Candes (2020): the share is 1 - u with u uniform, here `uniforms` (n,), one for all labels of a
    row; without them it is the whole. It is taken from the other side, as minus the probability of the labels less
    likely than y and of u times y's own, so that small probabilities are not rounded away against 1.
    """
    p = softmax(calibrated)
    order = np.argsort(-p, axis=1, kind="stable")
    falling = np.take_along_axis(p, order, axis=1)
    below = np.zeros_like(falling)
    for column in range(falling.shape[1] - 2, -1, -1):
        below[:, column] = below[:, column + 1] + falling[:, column + 1]
    kept = below if uniforms is None else below + uniforms[:, None] * falling
    scores = np.empty_like(p)
    np.put_along_axis(scores, order, -kept, axis=1)
    return scores


def raps(calibrated: Floats, uniforms: Floats | None, penalty: float, k_reg: int) -> Floats:
    """`aps` plus `penalty` for every rank beyond `k_reg` (Angelopoulos et al., 2021), shape (n, C)."""
    order = np.argsort(-softmax(calibrated), axis=1, kind="stable")
    beyond = np.maximum(np.arange(1, calibrated.shape[1] + 1) - k_reg, 0) * penalty
    fines = np.empty(calibrated.shape)
    np.put_along_axis(fines, order, np.broadcast_to(beyond, calibrated.shape), axis=1)
    result: Floats = aps(calibrated, uniforms) + fines
    return result
