"""The options of the losses that weigh samples and classes; torch waits in `classification`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from roadwork_core import component, option
from roadwork_core.errors import UsageError
from roadwork_core.kinds import LossContext

from .weighting import check_weights, effective_weights, present_counts, weights_of

if TYPE_CHECKING:
    from .classification import AsymmetricLoss, ClassificationLoss

_SMOOTHING_HELP = "part of the target that is spread evenly over all classes"
_WEIGHTS_HELP = 'factor on the loss of each class, in class order; "balanced": n / (C * n_c) of the train split'


@component("loss", "cross_entropy")
class CrossEntropy:
    """Softmax cross-entropy: per-sample losses, float32 (N,), of class indices or class probabilities."""

    soft_targets: ClassVar[bool] = True

    label_smoothing: float = option(default=0.0, minimum=0, below=1, help=_SMOOTHING_HELP)
    class_weights: tuple[float, ...] | Literal["balanced"] | None = option(
        default=None, minimum=0, min_length=2, help=_WEIGHTS_HELP
    )

    def __attrs_post_init__(self) -> None:
        check_weights(self.class_weights)

    def build(self, ctx: LossContext) -> ClassificationLoss:
        from .classification import ClassificationLoss

        weights = weights_of(self.class_weights, ctx)
        return ClassificationLoss(ctx.num_classes, weights=weights, label_smoothing=self.label_smoothing)


@component("loss", "focal")
class Focal:
    """Focal loss on the softmax, alpha_y (1 - p_y)^gamma CE (Lin et al., 2017, arXiv 1708.02002).

    It distorts probabilities (a true 0.9 is fitted as 0.69 at gamma 2): calibrate after it.
    """

    soft_targets: ClassVar[bool] = True

    gamma: float = option(default=2.0, minimum=0, help="how strongly easy samples are set aside; 0 is cross-entropy")
    alpha: float | None = option(
        default=None,
        minimum=0,
        maximum=1,
        help="weight of class 1 of two, and 1 - alpha of class 0 (0.25 weights class 1 down)",
    )
    class_weights: tuple[float, ...] | Literal["balanced"] | None = option(
        default=None, minimum=0, min_length=2, help=_WEIGHTS_HELP
    )
    label_smoothing: float = option(default=0.0, minimum=0, below=1, help=_SMOOTHING_HELP)

    def __attrs_post_init__(self) -> None:
        check_weights(self.class_weights)
        if self.alpha is not None and self.class_weights is not None:
            raise ValueError("alpha excludes class_weights: both weight the classes")

    def build(self, ctx: LossContext) -> ClassificationLoss:
        from .classification import ClassificationLoss

        if self.alpha is not None and ctx.num_classes != 2:
            raise UsageError(
                f"focal: alpha is for two classes, and there are {ctx.num_classes}",
                hint="give class_weights, one per class",
            )
        weights = weights_of(self.class_weights, ctx) if self.alpha is None else (1.0 - self.alpha, self.alpha)
        return ClassificationLoss(
            ctx.num_classes, weights=weights, label_smoothing=self.label_smoothing, gamma=self.gamma
        )


@component("loss", "poly")
class Poly:
    """Poly-1: the loss plus epsilon (1 - p_y)^(gamma + 1), its first Taylor term (Leng et al., 2022, arXiv 2204.12511).

    Gamma 0 is the paper's Poly-1 cross-entropy, above 0 its Poly-1 focal loss; epsilon 0 leaves the loss as it was.
    """

    soft_targets: ClassVar[bool] = True

    epsilon: float = option(
        default=1.0, minimum=-1, help="weight of the term; above 0 stresses samples that are not yet sure, below eases"
    )
    gamma: float = option(default=0.0, minimum=0, help="of the focal loss; 0 is cross-entropy")
    class_weights: tuple[float, ...] | Literal["balanced"] | None = option(
        default=None, minimum=0, min_length=2, help=_WEIGHTS_HELP
    )
    label_smoothing: float = option(default=0.0, minimum=0, below=1, help=_SMOOTHING_HELP)

    def __attrs_post_init__(self) -> None:
        check_weights(self.class_weights)

    def build(self, ctx: LossContext) -> ClassificationLoss:
        from .classification import ClassificationLoss

        return ClassificationLoss(
            ctx.num_classes,
            weights=weights_of(self.class_weights, ctx),
            label_smoothing=self.label_smoothing,
            gamma=self.gamma,
            epsilon=self.epsilon,
        )


@component("loss", "class_balanced")
class ClassBalanced:
    """Classes weighted by their effective number of samples, (1 - beta^n) / (1 - beta) (Cui et al., 2019).

    arXiv 1901.05555, on the softmax: cross-entropy, or the focal loss with gamma above 0. The weights sum to the
    number of classes.
    """

    soft_targets: ClassVar[bool] = True

    beta: float = option(
        default=0.999, minimum=0, below=1, help="0 weighs every sample alike; towards 1, every class alike"
    )
    gamma: float = option(default=0.0, minimum=0, help="of the focal loss; 0 is cross-entropy")
    label_smoothing: float = option(default=0.0, minimum=0, below=1, help=_SMOOTHING_HELP)

    def build(self, ctx: LossContext) -> ClassificationLoss:
        from .classification import ClassificationLoss

        return ClassificationLoss(
            ctx.num_classes,
            weights=effective_weights(present_counts(ctx), self.beta),
            label_smoothing=self.label_smoothing,
            gamma=self.gamma,
        )


@component("loss", "asymmetric")
class Asymmetric:
    """Focal loss with its own gamma for the positive class and for the others (Ridnik et al., 2021, arXiv 2009.14119).

    Here on the softmax, where one class of a picture excludes the rest. With equal gammas and no clip it is the focal
    loss. It distorts probabilities: calibrate after it.
    """

    soft_targets: ClassVar[bool] = True

    gamma_positive: float = option(
        default=0.0, minimum=0, help="how strongly easy samples of the positive class are set aside"
    )
    gamma_negative: float = option(default=4.0, minimum=0, help="how strongly easy samples of other classes are")
    clip: float = option(
        default=0.05, minimum=0, below=1, help="a sample of another class costs nothing from p = 1 - clip on"
    )
    class_weights: tuple[float, ...] | Literal["balanced"] | None = option(
        default=None, minimum=0, min_length=2, help=_WEIGHTS_HELP
    )
    label_smoothing: float = option(default=0.0, minimum=0, below=1, help=_SMOOTHING_HELP)

    def __attrs_post_init__(self) -> None:
        check_weights(self.class_weights)

    def build(self, ctx: LossContext) -> AsymmetricLoss:
        from .classification import AsymmetricLoss

        return AsymmetricLoss(
            ctx.num_classes,
            positive=ctx.positive,
            gamma_positive=self.gamma_positive,
            gamma_negative=self.gamma_negative,
            clip=self.clip,
            weights=weights_of(self.class_weights, ctx),
            label_smoothing=self.label_smoothing,
        )
