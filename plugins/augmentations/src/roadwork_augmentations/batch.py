"""Augmentations that mix the pictures of a batch, and their targets with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from roadwork_core import component, option
from roadwork_core.kinds import AugmentationContext

if TYPE_CHECKING:
    from torch import Tensor

Mixing = Callable[["Tensor", "Tensor"], "tuple[Tensor, Tensor]"]


@component("augmentation", "mixup")
class Mixup:
    """Pictures and targets blended in pairs, lambda a + (1 - lambda) b (Zhang et al., 2017, arXiv 1710.09412)."""

    batch: ClassVar[bool] = True

    alpha: float = option(default=0.2, above=0, help="lambda is drawn from Beta(alpha, alpha), once per batch")
    p: float = option(default=1.0, minimum=0, maximum=1, help="chance that a batch is mixed")

    def build(self, ctx: AugmentationContext) -> Mixing:
        from .mixing import Blend

        return Blend(self.alpha, self.p)


@component("augmentation", "cutmix")
class Cutmix:
    """A box of another picture pasted in, targets mixed by its area (Yun et al., 2019, arXiv 1905.04899)."""

    batch: ClassVar[bool] = True

    alpha: float = option(default=1.0, above=0, help="the box leaves a part drawn from Beta(alpha, alpha)")
    p: float = option(default=0.5, minimum=0, maximum=1, help="chance that a batch is mixed")

    def build(self, ctx: AugmentationContext) -> Mixing:
        from .mixing import Paste

        return Paste(self.alpha, self.p)
