"""Augmentations that choose among many operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from roadwork_core import component, option
from roadwork_core.kinds import AugmentationContext

if TYPE_CHECKING:
    from torch import Tensor

Transform = Callable[["Tensor"], "Tensor"]


@component("augmentation", "rand_augment")
class RandAugment:
    """A few random operations of one strength (Cubuk et al., 2019, arXiv 1909.13719)."""

    operations: int = option(default=2, minimum=1, maximum=10, help="operations per picture")
    magnitude: int = option(default=9, minimum=0, maximum=30, help="strength of each, 30 being the strongest")

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.RandAugment(num_ops=self.operations, magnitude=self.magnitude)


@component("augmentation", "auto_augment")
class AutoAugment:
    """Two operations, by a policy that was searched for on a data set (Cubuk et al., 2018, arXiv 1805.09501)."""

    policy: Literal["imagenet", "cifar10", "svhn"] = option(default="imagenet", help="data set of the search")

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.AutoAugment(v2.AutoAugmentPolicy(self.policy))


@component("augmentation", "trivial_augment")
class TrivialAugment:
    """One random operation of random strength, nothing to tune (Mueller and Hutter, 2021, arXiv 2103.10158)."""

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.TrivialAugmentWide()


@component("augmentation", "aug_mix")
class AugMix:
    """Several chains of operations blended with the picture (Hendrycks et al., 2019, arXiv 1912.02781)."""

    severity: int = option(default=3, minimum=1, maximum=10, help="strength of the operations")
    chains: int = option(default=3, minimum=1, maximum=10, help="how many chains are blended")
    depth: int | None = option(
        default=None, minimum=1, maximum=10, help="operations per chain (default: 1 to 3, at random)"
    )
    alpha: float = option(default=1.0, above=0, help="of the Beta and Dirichlet distributions of the weights")

    def build(self, ctx: AugmentationContext) -> Transform:
        from torchvision.transforms import v2

        return v2.AugMix(
            severity=self.severity,
            mixture_width=self.chains,
            chain_depth=-1 if self.depth is None else self.depth,
            alpha=self.alpha,
        )
