"""Test-time augmentation for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .components import Flip, Multiview, NoTta

__all__ = ["Flip", "Multiview", "NoTta"]


@hookimpl
def roadwork_components() -> list[type]:
    return [Flip, Multiview, NoTta]
