"""Adds an environment for every pair of plugins to those that tox.ini lists."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from tox.plugin import impl

PLUGINS = sorted(path.parent.name for path in Path(__file__).parent.glob("plugins/*/pyproject.toml"))


@impl
def tox_extend_envs() -> Iterable[str]:
    """`pair-<one>-<other>`: what is installed comes from the factors of the name."""
    return tuple(f"pair-{one}-{other}" for one, other in combinations(PLUGINS, 2))
