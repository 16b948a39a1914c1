"""The names of the kinds, and how a component reports."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Kind(StrEnum):
    """What a component is for."""

    DATASET = "dataset"
    AUGMENTATION = "augmentation"
    BACKBONE = "backbone"
    ADAPTER = "adapter"
    HEAD = "head"
    LOSS = "loss"
    OPTIMIZER = "optimizer"
    SCHEDULER = "scheduler"
    OBJECTIVE = "objective"
    CALIBRATOR = "calibrator"
    POLICY = "policy"
    TTA = "tta"
    TRACKER = "tracker"
    EXPORTER = "exporter"
    LEADERBOARD = "leaderboard"


Report = Callable[[str], None]


def silent(_: str) -> None: ...
