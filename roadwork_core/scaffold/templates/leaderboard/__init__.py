"""A leaderboard for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .components import Example

__all__ = ["Example"]


@hookimpl
def roadwork_components() -> list[type]:
    return [Example]
