"""Parameter-efficient adapters and self-supervised objectives for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .adapters import Dora, Frozen, Full, LastBlocks, Lora

__all__ = ["Dora", "Frozen", "Full", "LastBlocks", "Lora"]


@hookimpl
def roadwork_components() -> list[type]:
    return [Dora, Frozen, Full, LastBlocks, Lora]
