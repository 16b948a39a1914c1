"""Classification losses for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .components import CrossEntropy, Focal

__all__ = ["CrossEntropy", "Focal"]


@hookimpl
def roadwork_components() -> list[type]:
    return [CrossEntropy, Focal]
