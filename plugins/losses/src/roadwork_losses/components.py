"""The options of the losses; torch waits in `classification`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from roadwork_core import component, option
from roadwork_core.errors import DataError, UsageError
from roadwork_core.kinds import LossContext

if TYPE_CHECKING:
    from .classification import ClassificationLoss


@component("loss", "cross_entropy")
class CrossEntropy:
    """Softmax cross-entropy: per-sample losses, float32 (N,), of class indices or class probabilities."""

    soft_targets: ClassVar[bool] = True

    label_smoothing: float = option(
        default=0.0, minimum=0, below=1, help="part of the target that is spread evenly over all classes"
    )
    class_weights: tuple[float, ...] | None = option(
        default=None, minimum=0, min_length=2, help="factor on the loss of each class, in class order"
    )
    balanced: bool = option(default=False, help="weight classes by n / (C * n_c) of the train split")

    def __attrs_post_init__(self) -> None:
        _check_weights(self.class_weights, self.balanced)

    def build(self, ctx: LossContext) -> ClassificationLoss:
        from .classification import ClassificationLoss

        weights = _class_weights(self.class_weights, self.balanced, ctx)
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
    class_weights: tuple[float, ...] | None = option(
        default=None, minimum=0, min_length=2, help="alpha of each class, in class order, for any number of classes"
    )
    balanced: bool = option(default=False, help="weight classes by n / (C * n_c) of the train split")
    label_smoothing: float = option(
        default=0.0, minimum=0, below=1, help="part of the target that is spread evenly over all classes"
    )

    def __attrs_post_init__(self) -> None:
        _check_weights(self.class_weights, self.balanced)
        if self.alpha is not None and (self.class_weights is not None or self.balanced):
            raise ValueError("alpha excludes class_weights and balanced: all three weight the classes")

    def build(self, ctx: LossContext) -> ClassificationLoss:
        from .classification import ClassificationLoss

        if self.alpha is not None and ctx.num_classes != 2:
            raise UsageError(
                f"focal: alpha is for two classes, and there are {ctx.num_classes}",
                hint="give class_weights, one per class",
            )
        weights = (
            _class_weights(self.class_weights, self.balanced, ctx)
            if self.alpha is None
            else (1.0 - self.alpha, self.alpha)
        )
        return ClassificationLoss(
            ctx.num_classes, weights=weights, label_smoothing=self.label_smoothing, gamma=self.gamma
        )


def _check_weights(class_weights: tuple[float, ...] | None, balanced: bool) -> None:
    if class_weights is not None and balanced:
        raise ValueError("balanced excludes class_weights: both weight the classes")
    if class_weights is not None and not any(class_weights):
        raise ValueError("class_weights are all zero: nothing would be learnt")


def _class_weights(
    class_weights: tuple[float, ...] | None, balanced: bool, ctx: LossContext
) -> tuple[float, ...] | None:
    if class_weights is not None and len(class_weights) != ctx.num_classes:
        raise UsageError(
            f"class_weights has {len(class_weights)} values for {ctx.num_classes} classes", hint="give one per class"
        )
    if not balanced:
        return class_weights
    counts = [int(count) for count in ctx.class_counts]
    if 0 in counts:
        raise DataError(
            f"class {counts.index(0)} has no sample in the train split, so it cannot be balanced",
            hint="set balanced = false, or change the split",
        )
    return tuple(sum(counts) / (len(counts) * count) for count in counts)
