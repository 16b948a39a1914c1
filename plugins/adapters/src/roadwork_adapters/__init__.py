"""Parameter-efficient adapters and self-supervised objectives for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .adapters import BitFit, Dora, Doran, DoraTau, Frozen, Full, Ia3, LastBlocks, Lora
from .objectives import Dino, Mae, SimSiam, Vicreg

__all__ = [
    "BitFit",
    "Dino",
    "Dora",
    "DoraTau",
    "Doran",
    "Frozen",
    "Full",
    "Ia3",
    "LastBlocks",
    "Lora",
    "Mae",
    "SimSiam",
    "Vicreg",
]


@hookimpl
def roadwork_components() -> list[type]:
    return [BitFit, Dino, Dora, DoraTau, Doran, Frozen, Full, Ia3, LastBlocks, Lora, Mae, SimSiam, Vicreg]
