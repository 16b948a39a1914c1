"""Trackers for roadwork runs, and leaderboards."""

from __future__ import annotations

from roadwork_core import hookimpl

from .boards import File, Http, Metagraph
from .trackers import Jsonl, Mlflow, Tensorboard, Wandb

__all__ = ["File", "Http", "Jsonl", "Metagraph", "Mlflow", "Tensorboard", "Wandb"]


@hookimpl
def roadwork_components() -> list[type]:
    return [Jsonl, Mlflow, Tensorboard, Wandb, Http, File, Metagraph]
