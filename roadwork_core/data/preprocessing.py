"""The evaluation transform as data: what turns a decoded picture into the model's input, the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs
from attrs import frozen

if TYPE_CHECKING:
    from torch import Tensor

Fit = Literal["crop", "stretch"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]
#: Pictures this many times longer than the input's shape are cropped before they are resized.
_LONG = 8


@frozen(kw_only=True)
class Preprocessing:
    """Resize, crop and normalisation of an RGB picture.

    `size` is the input's (height, width) in pixels. `fit` "crop" scales the picture to cover it and crops the
    centre; "stretch" ignores the aspect ratio. Values are x / 255, then (x - mean) / std per channel.
    `size_multiple` is what a size must be a multiple of (a ViT's patch). `min_side` is the shorter side in pixels
    that a picture is decoded to at least (JPEGs are decoded at the smallest sufficient scale).
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bilinear"
    fit: Fit = "crop"
    size_multiple: int = 1
    min_side: int = 0

    def __attrs_post_init__(self) -> None:
        if self.min_side == 0:
            object.__setattr__(self, "min_side", max(self.size))

    def to_input(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Picture, uint8 (3, H, W), to uint8 (3, h, w) at `size` (the model's own by default), antialiased.

        A picture that has the size already is returned as it is.
        """
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional

        height, width = size or self.size
        old_height, old_width = image.shape[-2:]
        mode = InterpolationMode(self.interpolation)
        if height == width == 1:
            # torch's uint8 kernel cannot make one pixel out of planes; laid out as the decoder does, it can.
            image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        if self.fit == "stretch":
            return functional.resize(image, [height, width], interpolation=mode, antialias=True)
        if max(old_height * width, old_width * height) > _LONG * min(old_height * width, old_width * height):
            # Resizing first would make a long strip, of which nearly all is cut away.
            image = functional.center_crop(
                image,
                [
                    max(1, min(old_height, round(old_width * height / width))),
                    max(1, min(old_width, round(old_height * width / height))),
                ],
            )
            old_height, old_width = image.shape[-2:]
        scale = max(height / old_height, width / old_width)
        covering = [max(height, round(old_height * scale)), max(width, round(old_width * scale))]
        resized = functional.resize(image, covering, interpolation=mode, antialias=True)
        return functional.center_crop(resized, [height, width])

    def normalise(self, images: Tensor) -> Tensor:
        """Inputs, uint8 (N, 3, h, w), to float32 (N, 3, h, w) as the backbone expects them."""
        import torch

        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1) * 255.0
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1) * 255.0
        # In place after the one copy: a fresh block of memory for each step of a batch costs more than the arithmetic.
        return images.to(torch.float32, copy=True).sub_(mean).div_(std)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON value; `colour` says the channel order."""
        return {"colour": "RGB", **attrs.asdict(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Preprocessing:
        values = {key: value for key, value in document.items() if key != "colour"}
        for key in ("size", "mean", "std"):
            values[key] = tuple(values[key])
        return cls(**values)
