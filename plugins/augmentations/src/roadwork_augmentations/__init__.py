"""Label-safe torchvision v2 augmentations for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .automatic import AugMix, RandAugment, TrivialAugment
from .batch import Cutmix, Mixup
from .geometric import (
    CenterCrop,
    HorizontalFlip,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomPerspective,
    RandomResizedCrop,
    RandomRotation,
    Resize,
)
from .photometric import (
    Autocontrast,
    ColorJitter,
    Equalize,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    Jpeg,
    Posterize,
    Sharpness,
)

__all__ = [
    "AugMix",
    "Autocontrast",
    "CenterCrop",
    "ColorJitter",
    "Cutmix",
    "Equalize",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "HorizontalFlip",
    "Jpeg",
    "Mixup",
    "Posterize",
    "RandAugment",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomPerspective",
    "RandomResizedCrop",
    "RandomRotation",
    "Resize",
    "Sharpness",
    "TrivialAugment",
]

_COMPONENTS: tuple[type, ...] = (
    AugMix,
    Autocontrast,
    CenterCrop,
    ColorJitter,
    Cutmix,
    Equalize,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    HorizontalFlip,
    Jpeg,
    Mixup,
    Posterize,
    RandAugment,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomPerspective,
    RandomResizedCrop,
    RandomRotation,
    Resize,
    Sharpness,
    TrivialAugment,
)


@hookimpl
def roadwork_components() -> list[type]:
    return list(_COMPONENTS)
