"""The judge's distortions as a training profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from roadwork_core import component, option
from roadwork_core.kinds import AugmentationContext

if TYPE_CHECKING:
    from torch import Tensor

Transform = Callable[["Tensor"], "Tensor"]


@component("augmentation", "validator_distortions")
class ValidatorDistortions:
    """What NATIX StreetVision's judge does to a picture before it asks a miner, JPEG at quality 75 at the end.

    Level 0 takes the middle square; 1 turns by up to 20 degrees and takes a square of 20 to 100 % of the area; 2 may
    also take out colour, darken and coarsen; 3 does more of that and may add noise and blur. No picture is mirrored.
    """

    level: Literal["mixed", 0, 1, 2, 3] = option(
        default="mixed", help="how strong; mixed draws one of the four for each picture, as the judge does"
    )
    size: int = option(default=224, minimum=16, maximum=8192, help="side of the square in pixels; the judge sends 224")

    def build(self, ctx: AugmentationContext) -> Transform:
        import torch

        from .distortions import LEVELS, distort

        def transform(image: Tensor) -> Tensor:
            generator = torch.default_generator
            level = int(torch.randint(len(LEVELS), (), generator=generator)) if self.level == "mixed" else self.level
            return distort(image, level, generator, size=self.size)

        return transform
