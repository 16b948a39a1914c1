"""Classification heads for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .components import AttentionPool, DoraLinear, Linear, Mlp

__all__ = ["AttentionPool", "DoraLinear", "Linear", "Mlp"]


@hookimpl
def roadwork_components() -> list[type]:
    return [AttentionPool, DoraLinear, Linear, Mlp]
