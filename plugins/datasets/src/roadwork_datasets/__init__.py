"""Datasets for roadwork: image folders, manifests and rendered street scenes."""

from __future__ import annotations

from collections.abc import Sequence

from roadwork_core import hookimpl

from .image_folder import ImageFolder
from .manifest import Manifest
from .synthetic_roadwork import SyntheticRoadwork

__all__ = ["ImageFolder", "Manifest", "SyntheticRoadwork"]


@hookimpl
def roadwork_components() -> Sequence[type]:
    return [ImageFolder, Manifest, SyntheticRoadwork]
