"""The options of the backbone; torch is imported when it is built."""

from __future__ import annotations

from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import BackboneContext


@component("backbone", "example")
class Example:
    """Strided convolutions and a mean over the picture, trained from scratch."""

    width: int = option(default=16, minimum=1, help="channels of the first stage; each later one has twice as many")
    stages: int = option(default=3, minimum=1, maximum=5, help="number of stages; each halves the resolution")
    image_size: int = option(default=64, minimum=32, help="side of the square input, in pixels")

    def build(self, ctx: BackboneContext) -> Any:
        from .backbones import ConvNet

        # To rebuild it in a bundle, the architecture alone counts; this one has no weights to load.
        made = dict(ctx.architecture or {"width": self.width, "stages": self.stages, "image_size": self.image_size})
        return ConvNet(**made)
