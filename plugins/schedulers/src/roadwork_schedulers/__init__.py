"""Optimizers and learning-rate schedulers for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .optimizers import Adafactor, AdamW, Lion, Muon, NAdam, RAdam, Sam, Sgd
from .schedulers import Constant, Cosine, CosineWarmup, Linear, OneCycle, Wsd

__all__ = [
    "Adafactor",
    "AdamW",
    "Constant",
    "Cosine",
    "CosineWarmup",
    "Linear",
    "Lion",
    "Muon",
    "NAdam",
    "OneCycle",
    "RAdam",
    "Sam",
    "Sgd",
    "Wsd",
]


@hookimpl
def roadwork_components() -> list[type]:
    return [
        *(Adafactor, AdamW, Lion, Muon, NAdam, RAdam, Sam, Sgd),
        *(Constant, Cosine, CosineWarmup, Linear, OneCycle, Wsd),
    ]
