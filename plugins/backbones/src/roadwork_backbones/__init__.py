"""Backbones for roadwork from transformers and torchvision."""

from __future__ import annotations

from roadwork_core import hookimpl

from .components import SmallCnn, Torchvision, Transformers

__all__ = ["SmallCnn", "Torchvision", "Transformers"]


@hookimpl
def roadwork_components() -> list[type]:
    return [SmallCnn, Torchvision, Transformers]
