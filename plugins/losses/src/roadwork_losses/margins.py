"""The options of the losses that are no weighted cross-entropy: margins per class, and the metric itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from roadwork_core import component, option
from roadwork_core.kinds import LossContext

from .weighting import effective_weights, present_counts

if TYPE_CHECKING:
    from .classification import MarginLoss
    from .correlation import SoftMccLoss


@component("loss", "ldam")
class Ldam:
    """Label-distribution-aware margins: a class of n samples must win by a margin like n^(-1/4) (Cao et al., 2019).

    arXiv 1906.07413. The rarest class has `max_margin`. The paper's scale of 30 is for logits that are cosines; with
    the logits of a plain head 1 leaves their softmax a probability.
    """

    soft_targets: ClassVar[bool] = True

    max_margin: float = option(default=0.5, minimum=0, help="margin of the rarest class, in units of the logits")
    scale: float = option(default=1.0, above=0, help="factor on the logits, after the margin")
    beta: float = option(
        default=0.0, minimum=0, below=1, help="weights classes by their effective number of samples, too; 0 does not"
    )
    deferred: float = option(
        default=0.0,
        minimum=0,
        below=1,
        help="part of the epochs that come before those weights, which so fall on features that the margins have made"
        " (deferred re-weighting; the paper's is 0.8, with beta 0.9999)",
    )

    def __attrs_post_init__(self) -> None:
        if self.deferred and self.beta == 0:
            raise ValueError("deferred defers the weights of beta, which is 0")

    def build(self, ctx: LossContext) -> MarginLoss:
        from .classification import MarginLoss

        counts = present_counts(ctx)
        margins = [self.max_margin * (min(counts) / count) ** 0.25 for count in counts]
        weights = effective_weights(counts, self.beta) if self.beta > 0 else None
        return MarginLoss(ctx.num_classes, margins=margins, scale=self.scale, weights=weights, deferred=self.deferred)


@component("loss", "soft_mcc")
class SoftMcc:
    """1 - MCC of each batch, with probabilities in place of decisions (Abhishek and Hamarneh, 2021, arXiv 2010.13454).

    A batch counts as a whole, so it should be large enough to hold several samples of every class. Mixed labels have
    no place in a confusion matrix: it excludes mixup and cutmix.
    """

    cross_entropy: float = option(
        default=0.0, minimum=0, help="this much of the mean cross-entropy is added, which also pulls where MCC is flat"
    )

    def build(self, ctx: LossContext) -> SoftMccLoss:
        from .correlation import SoftMccLoss

        return SoftMccLoss(ctx.num_classes, cross_entropy=self.cross_entropy)
