"""Augmentations that change colours and sharpness and leave everything in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from roadwork_core import component, option
from roadwork_core.kinds import AugmentationContext

from .ranges import ordered

if TYPE_CHECKING:
    from torch import Tensor

Transform = Callable[["Tensor"], "Tensor"]

_P_HELP = "chance that a picture is changed"


@component("augmentation", "color_jitter")
class ColorJitter:
    """Brightness, contrast, saturation and hue changed in random order, each by a factor near 1."""

    brightness: float = option(default=0.2, minimum=0, help="factor uniform in [1 - b, 1 + b], not below 0")
    contrast: float = option(default=0.2, minimum=0, help="factor uniform in [1 - c, 1 + c], not below 0")
    saturation: float = option(default=0.2, minimum=0, help="factor uniform in [1 - s, 1 + s], not below 0")
    hue: float = option(default=0.02, minimum=0, maximum=0.5, help="shift uniform in [-h, h] of the colour circle")
    p: float = option(default=1.0, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        jitter = v2.ColorJitter(self.brightness, self.contrast, self.saturation, self.hue)
        return v2.RandomApply([jitter], p=self.p)


@component("augmentation", "grayscale")
class Grayscale:
    """All colour taken out; the picture keeps three channels."""

    p: float = option(default=0.1, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomGrayscale(self.p)


@component("augmentation", "autocontrast")
class Autocontrast:
    """Each channel stretched from black to white."""

    p: float = option(default=0.2, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomAutocontrast(self.p)


@component("augmentation", "equalize")
class Equalize:
    """Each channel's histogram made flat."""

    p: float = option(default=0.1, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomEqualize(self.p)


@component("augmentation", "posterize")
class Posterize:
    """Fewer levels per channel."""

    bits: int = option(default=4, minimum=1, maximum=8, help="bits that each channel keeps")
    p: float = option(default=0.1, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomPosterize(self.bits, p=self.p)


@component("augmentation", "solarize")
class Solarize:
    """Values from a threshold on turned to their opposite."""

    threshold: int = option(default=128, minimum=0, maximum=255, help="least grey level that is turned")
    p: float = option(default=0.1, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomSolarize(self.threshold, p=self.p)


@component("augmentation", "invert")
class Invert:
    """Every value turned to its opposite, as in a negative."""

    p: float = option(default=0.05, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomInvert(self.p)


@component("augmentation", "channel_permutation")
class ChannelPermutation:
    """Red, green and blue exchanged at random: only where colours say nothing of the class."""

    p: float = option(default=0.1, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomApply([v2.RandomChannelPermutation()], p=self.p)


@component("augmentation", "photometric_distort")
class PhotometricDistort:
    """Brightness, contrast, saturation, hue and order of channels, each changed or not by itself (Liu et al., 2016)."""

    brightness: tuple[float, float] = option(default=(0.875, 1.125), minimum=0, help="least and largest factor")
    contrast: tuple[float, float] = option(default=(0.5, 1.5), minimum=0, help="least and largest factor")
    saturation: tuple[float, float] = option(default=(0.5, 1.5), minimum=0, help="least and largest factor")
    hue: tuple[float, float] = option(
        default=(-0.05, 0.05), minimum=-0.5, maximum=0.5, help="least and largest shift, in turns of the colour circle"
    )
    p: float = option(default=0.5, minimum=0, maximum=1, help="chance of each of the changes")

    def __attrs_post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue"):
            ordered(name, getattr(self, name))

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomPhotometricDistort(self.brightness, self.contrast, self.saturation, self.hue, p=self.p)


@component("augmentation", "sharpness")
class Sharpness:
    """Sharpened or smoothed."""

    factor: float = option(default=2.0, minimum=0, maximum=10, help="0 smooths, 1 changes nothing, 2 sharpens")
    p: float = option(default=0.2, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomAdjustSharpness(self.factor, p=self.p)


@component("augmentation", "gaussian_blur")
class GaussianBlur:
    """Blur with a random width."""

    kernel_size: int = option(default=9, minimum=3, maximum=99, help="side of the filter in pixels, odd")
    sigma: tuple[float, float] = option(default=(0.1, 2.0), above=0, help="least and largest deviation in pixels")
    p: float = option(default=0.2, minimum=0, maximum=1, help=_P_HELP)

    def __attrs_post_init__(self) -> None:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")
        ordered("sigma", self.sigma)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        blur = v2.GaussianBlur(self.kernel_size, sigma=self.sigma)
        return v2.RandomApply([blur], p=self.p)


@component("augmentation", "gaussian_noise")
class GaussianNoise:
    """Independent normal noise on every value."""

    sigma: float = option(default=10.0, minimum=0, maximum=255, help="standard deviation in grey levels of 255")
    p: float = option(default=0.2, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        from .noise import Noise

        return v2.RandomApply([Noise(self.sigma)], p=self.p)


@component("augmentation", "jpeg")
class Jpeg:
    """Written as a JPEG of random quality and read again."""

    quality: tuple[int, int] = option(default=(40, 95), minimum=1, maximum=100, help="least and largest quality")
    p: float = option(default=0.3, minimum=0, maximum=1, help=_P_HELP)

    def __attrs_post_init__(self) -> None:
        ordered("quality", self.quality)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        from .compression import RandomCompression

        return v2.RandomApply([RandomCompression(self.quality)], p=self.p)
