"""Optimizers and learning-rate schedulers for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .optimizers import AdamW, Sgd
from .schedulers import Constant, Cosine, CosineWarmup, Linear, OneCycle

__all__ = ["AdamW", "Constant", "Cosine", "CosineWarmup", "Linear", "OneCycle", "Sgd"]


@hookimpl
def roadwork_components() -> list[type]:
    return [AdamW, Constant, Cosine, CosineWarmup, Linear, OneCycle, Sgd]
