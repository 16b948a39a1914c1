"""Augmentations that move, cut or bend the picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from roadwork_core import component, option
from roadwork_core.kinds import AugmentationContext

from .ranges import ordered

if TYPE_CHECKING:
    from torch import Tensor

Transform = Callable[["Tensor"], "Tensor"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]

_SIZE_HELP = "side of the square in pixels (default: the model's input size)"
_P_HELP = "chance that a picture is changed"
_INTERPOLATION_HELP = "how pixels between pixels are made"
_FILL_HELP = "grey level of what comes in from outside the picture"


@component("augmentation", "resize")
class Resize:
    """Scales the picture to the size, or its shorter side where the proportions stay."""

    size: int | None = option(default=None, minimum=1, maximum=8192, help=_SIZE_HELP)
    keep_ratio: bool = option(default=False, help="scale the shorter side to the size, for a crop to follow")
    interpolation: Interpolation = option(default="bilinear", help=_INTERPOLATION_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import InterpolationMode, v2

        size = list(_size(self.size, ctx))
        mode = InterpolationMode(self.interpolation)
        if self.keep_ratio:
            return v2.Resize(max(size), interpolation=mode, antialias=True)
        return v2.Resize(size, interpolation=mode, antialias=True)


@component("augmentation", "center_crop")
class CenterCrop:
    """The middle of the picture; a smaller picture is padded with black."""

    size: int | None = option(default=None, minimum=1, maximum=8192, help=_SIZE_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.CenterCrop(list(_size(self.size, ctx)))


@component("augmentation", "random_crop")
class RandomCrop:
    """A piece of fixed size from a random place; a smaller picture is padded."""

    size: int | None = option(default=None, minimum=1, maximum=8192, help=_SIZE_HELP)
    padding: int = option(default=0, minimum=0, maximum=4096, help="pixels added on every side before")
    padding_mode: Literal["constant", "edge", "reflect"] = option(
        default="constant", help="black, the pixels at the edge repeated, or the picture mirrored at its edge"
    )

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomCrop(
            list(_size(self.size, ctx)),
            padding=self.padding or None,
            pad_if_needed=True,
            padding_mode=self.padding_mode,
        )


@component("augmentation", "random_resized_crop")
class RandomResizedCrop:
    """A random part of the picture with random proportions, scaled to the size (Szegedy et al., 2015)."""

    size: int | None = option(default=None, minimum=1, maximum=8192, help=_SIZE_HELP)
    scale: tuple[float, float] = option(
        default=(0.35, 1.0), above=0, maximum=1, help="least and largest part of the picture's area"
    )
    ratio: tuple[float, float] = option(
        default=(0.75, 4 / 3), above=0, help="least and largest width over height of the part"
    )
    interpolation: Interpolation = option(default="bilinear", help=_INTERPOLATION_HELP)

    def __attrs_post_init__(self) -> None:
        ordered("scale", self.scale)
        ordered("ratio", self.ratio)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import InterpolationMode, v2

        return v2.RandomResizedCrop(
            list(_size(self.size, ctx)),
            scale=self.scale,
            ratio=self.ratio,
            interpolation=InterpolationMode(self.interpolation),
            antialias=True,
        )


@component("augmentation", "horizontal_flip")
class HorizontalFlip:
    """Left and right exchanged. Text on signs is mirrored too."""

    p: float = option(default=0.5, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomHorizontalFlip(self.p)


@component("augmentation", "vertical_flip")
class VerticalFlip:
    """Top and bottom exchanged: for pictures that have no up and down, such as those from above."""

    p: float = option(default=0.5, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomVerticalFlip(self.p)


@component("augmentation", "pad")
class Pad:
    """A border on every side."""

    padding: int = option(default=16, minimum=0, maximum=4096, help="width of the border in pixels")
    padding_mode: Literal["constant", "edge", "reflect"] = option(
        default="constant", help="one grey level, the pixels at the edge repeated, or the picture mirrored at its edge"
    )
    fill: int = option(default=0, minimum=0, maximum=255, help="grey level of a constant border")

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.Pad(self.padding, fill=self.fill, padding_mode=self.padding_mode)


@component("augmentation", "zoom_out")
class ZoomOut:
    """The picture anywhere on a larger canvas, so that what it shows becomes smaller (Liu et al., 2016)."""

    sides: tuple[float, float] = option(
        default=(1.0, 2.0), minimum=1, maximum=8, help="least and largest side of the canvas, in sides of the picture"
    )
    fill: int = option(default=0, minimum=0, maximum=255, help=_FILL_HELP)
    p: float = option(default=0.5, minimum=0, maximum=1, help=_P_HELP)

    def __attrs_post_init__(self) -> None:
        ordered("sides", self.sides)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomZoomOut(fill=self.fill, side_range=self.sides, p=self.p)


@component("augmentation", "random_resize")
class RandomResize:
    """The shorter side scaled to a random length, for a crop to follow."""

    sides: tuple[int, int] = option(
        default=(224, 384), minimum=1, maximum=8192, help="least and largest length of the shorter side in pixels"
    )
    interpolation: Interpolation = option(default="bilinear", help=_INTERPOLATION_HELP)

    def __attrs_post_init__(self) -> None:
        ordered("sides", self.sides)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import InterpolationMode, v2

        # torch draws from a range that leaves its end out.
        return v2.RandomResize(
            self.sides[0], self.sides[1] + 1, interpolation=InterpolationMode(self.interpolation), antialias=True
        )


@component("augmentation", "elastic")
class Elastic:
    """Pixels moved by a smooth random field (Simard et al., 2003)."""

    alpha: float = option(default=50.0, minimum=0, maximum=10_000, help="strength of the movement, in pixels")
    sigma: float = option(default=5.0, above=0, maximum=100, help="smoothness of the field: its deviation in pixels")
    interpolation: Literal["bilinear", "nearest"] = option(default="bilinear", help=_INTERPOLATION_HELP)
    fill: int = option(default=0, minimum=0, maximum=255, help=_FILL_HELP)
    p: float = option(default=0.5, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import InterpolationMode, v2

        bend = v2.ElasticTransform(
            self.alpha, self.sigma, interpolation=InterpolationMode(self.interpolation), fill=self.fill
        )
        return v2.RandomApply([bend], p=self.p)


@component("augmentation", "random_rotation")
class RandomRotation:
    """A turn by a random angle, uniform in [-degrees, degrees]; the corners are filled."""

    degrees: float = option(default=10.0, minimum=0, maximum=180, help="largest angle")
    interpolation: Literal["bilinear", "nearest"] = option(default="bilinear", help=_INTERPOLATION_HELP)
    fill: int = option(default=0, minimum=0, maximum=255, help=_FILL_HELP)
    p: float = option(default=1.0, minimum=0, maximum=1, help=_P_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import InterpolationMode, v2

        turn = v2.RandomRotation(self.degrees, interpolation=InterpolationMode(self.interpolation), fill=self.fill)
        return v2.RandomApply([turn], p=self.p)


@component("augmentation", "random_affine")
class RandomAffine:
    """A random turn, shift, scaling and shear together."""

    degrees: float = option(default=10.0, minimum=0, maximum=180, help="largest angle")
    translate: tuple[float, float] = option(
        default=(0.1, 0.1), minimum=0, maximum=1, help="largest shift, as parts of width and height"
    )
    scale: tuple[float, float] = option(default=(0.9, 1.1), above=0, help="least and largest scale")
    shear: float = option(default=0.0, minimum=0, below=90, help="largest angle of shear")
    interpolation: Literal["bilinear", "nearest"] = option(default="bilinear", help=_INTERPOLATION_HELP)
    fill: int = option(default=0, minimum=0, maximum=255, help=_FILL_HELP)
    p: float = option(default=1.0, minimum=0, maximum=1, help=_P_HELP)

    def __attrs_post_init__(self) -> None:
        ordered("scale", self.scale)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import InterpolationMode, v2

        move = v2.RandomAffine(
            self.degrees,
            translate=self.translate,
            scale=self.scale,
            shear=self.shear or None,
            interpolation=InterpolationMode(self.interpolation),
            fill=self.fill,
        )
        return v2.RandomApply([move], p=self.p)


@component("augmentation", "random_perspective")
class RandomPerspective:
    """The picture seen from another side: its corners move inwards."""

    distortion: float = option(default=0.3, minimum=0, maximum=1, help="how far corners may move, 1 being the middle")
    p: float = option(default=0.5, minimum=0, maximum=1, help=_P_HELP)
    fill: int = option(default=0, minimum=0, maximum=255, help=_FILL_HELP)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomPerspective(self.distortion, p=self.p, fill=self.fill)


@component("augmentation", "random_erasing")
class RandomErasing:
    """One rectangle painted over (Zhong et al., 2017, arXiv 1708.04896)."""

    p: float = option(default=0.25, minimum=0, maximum=1, help=_P_HELP)
    scale: tuple[float, float] = option(
        default=(0.02, 0.2), above=0, maximum=1, help="least and largest part of the picture's area"
    )
    ratio: tuple[float, float] = option(default=(0.3, 3.3), above=0, help="least and largest height over width")
    fill: int = option(default=0, minimum=0, maximum=255, help="grey level of the rectangle")

    def __attrs_post_init__(self) -> None:
        ordered("scale", self.scale)
        ordered("ratio", self.ratio)

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandomErasing(self.p, scale=self.scale, ratio=self.ratio, value=self.fill)


def _size(size: int | None, ctx: AugmentationContext) -> tuple[int, int]:
    return ctx.image_size if size is None else (size, size)
