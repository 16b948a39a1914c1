"""The options of the heads; torch waits in `modules`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from roadwork_core import component, option
from roadwork_core.errors import UsageError
from roadwork_core.kinds import HeadContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .modules import AttentionPoolHead, DoraLinearHead, LinearHead, MlpHead

InitBias = Literal["zero", "prior"]

_BIAS_HELP = "where the bias starts: at zero, or at the log frequency of each class in train, so that the first answers"
_BIAS_HELP += " are the classes' frequencies"


@component("head", "linear")
class Linear:
    """One linear layer from features to logits."""

    dropout: float = option(default=0.0, minimum=0, below=1, help="chance that a feature is dropped in training")
    norm: bool = option(default=False, help="layer norm of the features first (for features of very unequal scale)")
    zero_init: bool = option(default=False, help="weights start at zero, so that all pictures start with one answer")
    init_bias: InitBias = option(default="zero", help=_BIAS_HELP)

    def build(self, ctx: HeadContext) -> LinearHead:
        from .modules import LinearHead

        return LinearHead(
            ctx.feature_dim,
            ctx.num_classes,
            dropout=self.dropout,
            norm=self.norm,
            zero_init=self.zero_init,
            class_counts=_counts(self.init_bias, ctx),
        )


@component("head", "mlp")
class Mlp:
    """Hidden layers with GELU, then one linear layer to logits."""

    hidden: tuple[int, ...] = option(default=(256,), minimum=1, min_length=1, help="width of each hidden layer")
    dropout: float = option(default=0.1, minimum=0, below=1, help="chance that an activation is dropped in training")
    norm: bool = option(default=True, help="layer norm of the features first")
    init_bias: InitBias = option(default="zero", help=_BIAS_HELP)

    def build(self, ctx: HeadContext) -> MlpHead:
        from .modules import MlpHead

        return MlpHead(
            ctx.feature_dim,
            ctx.num_classes,
            hidden=self.hidden,
            dropout=self.dropout,
            norm=self.norm,
            class_counts=_counts(self.init_bias, ctx),
        )


@component("head", "dora_linear")
class DoraLinear:
    """One linear layer in DoRA's form: the weights of a class are a direction times a magnitude of its own.

    Liu et al., 2024, arXiv 2402.09353 (weight normalisation, arXiv 1602.07868): how sure a class may be is learnt apart
    from what it looks for.
    """

    dropout: float = option(default=0.0, minimum=0, below=1, help="chance that a feature is dropped in training")
    norm: bool = option(default=False, help="layer norm of the features first (for features of very unequal scale)")
    zero_init: bool = option(default=False, help="magnitudes start at zero, so that all pictures start with one answer")
    init_bias: InitBias = option(default="zero", help=_BIAS_HELP)

    def build(self, ctx: HeadContext) -> DoraLinearHead:
        from .modules import DoraLinearHead

        return DoraLinearHead(
            ctx.feature_dim,
            ctx.num_classes,
            dropout=self.dropout,
            norm=self.norm,
            zero_init=self.zero_init,
            class_counts=_counts(self.init_bias, ctx),
        )


@component("head", "attention_pool")
class AttentionPool:
    """Tokens pooled by attention to learned questions, then one linear layer (Zhai et al., 2022, arXiv 2106.04560).

    Tokens are the equal parts of a pooled vector (class token and mean of the patches, several layers), or what a
    backbone gives that does not pool.
    """

    parts: int = option(
        default=2, minimum=1, maximum=64, help="vectors that the features are made of; 1 if the backbone gives tokens"
    )
    heads: int = option(default=4, minimum=1, maximum=64, help="questions; they must divide a token's width")
    dropout: float = option(default=0.0, minimum=0, below=1, help="chance that a pooled value is dropped in training")
    init_bias: InitBias = option(default="zero", help=_BIAS_HELP)

    def build(self, ctx: HeadContext) -> AttentionPoolHead:
        from .modules import AttentionPoolHead

        if ctx.feature_dim % (self.parts * self.heads):
            raise UsageError(
                f"attention_pool: {ctx.feature_dim} features cannot be divided into {self.parts} parts of"
                f" {self.heads} heads",
                hint="change head.parts or head.heads",
            )
        return AttentionPoolHead(
            ctx.feature_dim,
            ctx.num_classes,
            parts=self.parts,
            heads=self.heads,
            dropout=self.dropout,
            class_counts=_counts(self.init_bias, ctx),
        )


def _counts(init_bias: InitBias, ctx: HeadContext) -> NDArray[np.int64] | None:
    return ctx.class_counts if init_bias == "prior" else None
