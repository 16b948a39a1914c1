"""Trackers for roadwork runs."""

from __future__ import annotations

from roadwork_core import hookimpl

from .trackers import Jsonl, Tensorboard

__all__ = ["Jsonl", "Tensorboard"]


@hookimpl
def roadwork_components() -> list[type]:
    return [Jsonl, Tensorboard]
