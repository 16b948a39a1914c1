"""Test-time augmentation for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .components import Choose, FiveCrop, Flip, Grid, Multiscale, Multiview, NoTta

__all__ = ["Choose", "FiveCrop", "Flip", "Grid", "Multiscale", "Multiview", "NoTta"]


@hookimpl
def roadwork_components() -> list[type]:
    return [Choose, FiveCrop, Flip, Grid, Multiscale, Multiview, NoTta]
