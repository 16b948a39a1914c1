"""Backbones for roadwork from transformers, torchvision and timm."""

from __future__ import annotations

from roadwork_core import hookimpl

from .components import SmallCnn, Timm, Torchvision, Transformers

__all__ = ["SmallCnn", "Timm", "Torchvision", "Transformers"]


@hookimpl
def roadwork_components() -> list[type]:
    return [SmallCnn, Timm, Torchvision, Transformers]
