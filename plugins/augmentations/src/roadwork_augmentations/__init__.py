"""Label-safe torchvision v2 augmentations for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .automatic import AugMix, AutoAugment, RandAugment, TrivialAugment
from .batch import Cutmix, Mixup
from .geometric import (
    CenterCrop,
    Elastic,
    HorizontalFlip,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomPerspective,
    RandomResize,
    RandomResizedCrop,
    RandomRotation,
    Resize,
    VerticalFlip,
    ZoomOut,
)
from .photometric import (
    Autocontrast,
    ChannelPermutation,
    ColorJitter,
    Equalize,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    Invert,
    Jpeg,
    PhotometricDistort,
    Posterize,
    Sharpness,
    Solarize,
)
from .validator import ValidatorDistortions

__all__ = [
    "AugMix",
    "AutoAugment",
    "Autocontrast",
    "CenterCrop",
    "ChannelPermutation",
    "ColorJitter",
    "Cutmix",
    "Elastic",
    "Equalize",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "HorizontalFlip",
    "Invert",
    "Jpeg",
    "Mixup",
    "Pad",
    "PhotometricDistort",
    "Posterize",
    "RandAugment",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomPerspective",
    "RandomResize",
    "RandomResizedCrop",
    "RandomRotation",
    "Resize",
    "Sharpness",
    "Solarize",
    "TrivialAugment",
    "ValidatorDistortions",
    "VerticalFlip",
    "ZoomOut",
]

_COMPONENTS: tuple[type, ...] = (
    AugMix,
    AutoAugment,
    Autocontrast,
    CenterCrop,
    ChannelPermutation,
    ColorJitter,
    Cutmix,
    Elastic,
    Equalize,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    HorizontalFlip,
    Invert,
    Jpeg,
    Mixup,
    Pad,
    PhotometricDistort,
    Posterize,
    RandAugment,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomPerspective,
    RandomResize,
    RandomResizedCrop,
    RandomRotation,
    Resize,
    Sharpness,
    Solarize,
    TrivialAugment,
    ValidatorDistortions,
    VerticalFlip,
    ZoomOut,
)


@hookimpl
def roadwork_components() -> list[type]:
    return list(_COMPONENTS)
