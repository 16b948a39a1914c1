"""The options of the heads; torch waits in `modules`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roadwork_core import component, option
from roadwork_core.kinds import HeadContext

if TYPE_CHECKING:
    from .modules import LinearHead, MlpHead


@component("head", "linear")
class Linear:
    """One linear layer from features to logits."""

    dropout: float = option(default=0.0, minimum=0, below=1, help="chance that a feature is dropped in training")
    norm: bool = option(default=False, help="layer norm of the features first (for features of very unequal scale)")
    zero_init: bool = option(default=False, help="weights start at zero, so that all pictures start with one answer")
    prior_bias: bool = option(default=False, help="the bias starts at the log frequency of each class in train")

    def build(self, ctx: HeadContext) -> LinearHead:
        from .modules import LinearHead

        counts = ctx.class_counts if self.prior_bias else None
        return LinearHead(
            ctx.feature_dim,
            ctx.num_classes,
            dropout=self.dropout,
            norm=self.norm,
            zero_init=self.zero_init,
            class_counts=counts,
        )


@component("head", "mlp")
class Mlp:
    """Hidden layers with GELU, then one linear layer to logits."""

    hidden: tuple[int, ...] = option(default=(256,), minimum=1, min_length=1, help="width of each hidden layer")
    dropout: float = option(default=0.1, minimum=0, below=1, help="chance that an activation is dropped in training")
    norm: bool = option(default=True, help="layer norm of the features first")
    prior_bias: bool = option(default=False, help="the bias starts at the log frequency of each class in train")

    def build(self, ctx: HeadContext) -> MlpHead:
        from .modules import MlpHead

        counts = ctx.class_counts if self.prior_bias else None
        return MlpHead(
            ctx.feature_dim,
            ctx.num_classes,
            hidden=self.hidden,
            dropout=self.dropout,
            norm=self.norm,
            class_counts=counts,
        )
