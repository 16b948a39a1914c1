"""Datasets: image folders, manifests, the hub, ROADWork, GTSRB, rendered street scenes, mixes, unlabelled folders."""

from __future__ import annotations

from collections.abc import Sequence

from roadwork_core import hookimpl

from .coco_roadwork import CocoRoadwork
from .gtsrb import Gtsrb
from .huggingface import HuggingFace
from .image_folder import ImageFolder
from .manifest import Manifest
from .mixed import Mixed, MixedSource
from .synthetic_roadwork import SyntheticRoadwork
from .unlabelled_folder import UnlabelledFolder

__all__ = [
    "CocoRoadwork",
    "Gtsrb",
    "HuggingFace",
    "ImageFolder",
    "Manifest",
    "Mixed",
    "MixedSource",
    "SyntheticRoadwork",
    "UnlabelledFolder",
]


@hookimpl
def roadwork_components() -> Sequence[type]:
    return [CocoRoadwork, Gtsrb, HuggingFace, ImageFolder, Manifest, Mixed, SyntheticRoadwork, UnlabelledFolder]
