"""Parameter-efficient adapters and self-supervised objectives for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .adapters import Dora, Frozen, Full, LastBlocks, Lora
from .objectives import Dino, SimSiam, Vicreg

__all__ = ["Dino", "Dora", "Frozen", "Full", "LastBlocks", "Lora", "SimSiam", "Vicreg"]


@hookimpl
def roadwork_components() -> list[type]:
    return [Dino, Dora, Frozen, Full, LastBlocks, Lora, SimSiam, Vicreg]
