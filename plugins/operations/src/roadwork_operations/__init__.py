"""Trackers for roadwork runs, and leaderboards."""

from __future__ import annotations

from roadwork_core import hookimpl

from .boards import File, Http, Metagraph
from .trackers import Jsonl, Tensorboard

__all__ = ["File", "Http", "Jsonl", "Metagraph", "Tensorboard"]


@hookimpl
def roadwork_components() -> list[type]:
    return [Jsonl, Tensorboard, Http, File, Metagraph]
