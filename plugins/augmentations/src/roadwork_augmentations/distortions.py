"""The distortions that StreetVision's judge applies to a picture before a miner sees it, in four levels."""

from __future__ import annotations

import math

import torch
from attrs import frozen
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from .compression import recompressed

LEVELS = (0, 1, 2, 3)
#: Side of the square, in pixels, and quality of the JPEG that the judge sends.
SIDE, QUALITY = 224, 75
DEGREES = 20.0
LEAST_AREA = 0.2
#: Each distortion has grades of which one is drawn, all as likely; the first changes nothing. Level 2 draws of the
#: first two, level 3 of all, and level 3 alone adds noise and blur.
SATURATION = (1.0, 0.4, 0.3)
DARKENING = (1.0, 0.85, 0.725)
REDUCTION = (1, 2, 3)
#: Deviation of each of Y, Cb and Cr in grey levels: the roots of .001 and .002 of the range.
NOISE = (0.0, 255 * math.sqrt(0.001), 255 * math.sqrt(0.002))
BLUR = (0, 7, 9)
#: R, G and B of a unit of Y, Cb and Cr (ITU-R BT.601, Y from 16 to 235).
_RGB_OF_YCBCR = ((1.164, 0.0, 1.596), (1.164, -0.392, -0.813), (1.164, 2.017, 0.0))


@frozen(kw_only=True)
class Distortion:
    """What is done to one picture. `box` is (top, left, height, width) in pixels; None is the largest square."""

    angle: float = 0.0
    box: tuple[int, int, int, int] | None = None
    saturation: float = 1.0
    darkening: float = 1.0
    reduction: int = 1
    noise: float = 0.0
    blur: int = 0


def distort(image: Tensor, level: int, generator: torch.Generator, *, size: int = SIDE) -> Tensor:
    """A picture as the judge would send it at `level` (0 to 3): uint8 (3, H, W) to uint8 (3, size, size).

    Everything random is drawn from `generator` (on the CPU), so one state of it gives one picture.
    """
    height, width = image.shape[-2:]
    return apply(image, draw(level, height, width, generator), generator, size=size)


def draw(level: int, height: int, width: int, generator: torch.Generator) -> Distortion:
    """The distortion of a picture of this size. Raises ValueError for a level that does not exist."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(map(str, LEVELS))}, got {level!r}")
    if level == 0:
        return Distortion()
    angle = _uniform(-DEGREES, DEGREES, generator)
    box = _box(height, width, generator)
    if level == 1:
        return Distortion(angle=angle, box=box)

    def grade(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    grades = [grade(level) for _ in range(3)]
    rest = [grade(3) for _ in range(2)] if level == 3 else [0, 0]
    return Distortion(
        angle=angle,
        box=box,
        saturation=SATURATION[grades[0]],
        darkening=DARKENING[grades[1]],
        reduction=REDUCTION[grades[2]],
        noise=NOISE[rest[0]],
        blur=BLUR[rest[1]],
    )


def apply(image: Tensor, distortion: Distortion, generator: torch.Generator, *, size: int = SIDE) -> Tensor:
    """Carries a distortion out; only the noise itself is drawn here."""
    if distortion.angle:
        image = functional.rotate(image, distortion.angle, InterpolationMode.NEAREST, fill=[0.0])
    top, left, height, width = distortion.box or _middle(*image.shape[-2:])
    image = functional.resized_crop(image, top, left, height, width, [size, size], antialias=True)
    values = _reduced(_coloured(image.float(), distortion), distortion.reduction)
    if distortion.noise:
        noise = torch.randn((3, size, size), generator=generator) * distortion.noise
        values = (values + torch.einsum("rc,chw->rhw", torch.tensor(_RGB_OF_YCBCR), noise)).clamp(0, 255)
    if distortion.blur:
        values = functional.gaussian_blur(values, [distortion.blur] * 2, [distortion.blur / 6] * 2)
    return recompressed(values.round().clamp(0, 255).to(torch.uint8), QUALITY)


def _coloured(values: Tensor, distortion: Distortion) -> Tensor:
    if distortion.saturation != 1:
        # Scaling Cb and Cr moves each colour towards the grey of its Y.
        grey = torch.einsum("c,chw->hw", torch.tensor((0.299, 0.587, 0.114)), values)
        values = grey + distortion.saturation * (values - grey)
    return values * distortion.darkening


def _reduced(values: Tensor, reduction: int) -> Tensor:
    if reduction == 1:
        return values
    full = list(values.shape[-2:])
    # The judge interpolates between pixels without averaging over those that are left out.
    small = functional.resize(values, [max(1, side // reduction) for side in full], antialias=False)
    return functional.resize(small, full, antialias=False)


def _box(height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """A square of part of the area, anywhere; one that does not fit is drawn again, ten times at most."""
    for _ in range(10):
        side = round(math.sqrt(_uniform(LEAST_AREA, 1.0, generator) * height * width))
        if 0 < side <= min(height, width):
            top = int(torch.randint(height - side + 1, (), generator=generator))
            left = int(torch.randint(width - side + 1, (), generator=generator))
            return top, left, side, side
    return _middle(height, width)


def _middle(height: int, width: int) -> tuple[int, int, int, int]:
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _uniform(least: float, largest: float, generator: torch.Generator) -> float:
    return least + (largest - least) * float(torch.rand((), generator=generator))
