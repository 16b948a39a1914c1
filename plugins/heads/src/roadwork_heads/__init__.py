"""Classification heads for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .components import Linear, Mlp

__all__ = ["Linear", "Mlp"]


@hookimpl
def roadwork_components() -> list[type]:
    return [Linear, Mlp]
