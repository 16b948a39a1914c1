"""The options of the heads; torch waits in `modules`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

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
    """The backbone's tokens (patches, or places of its last feature map) pooled by attention to a learned question,
    then one linear layer.

    The MAP head of Zhai et al., 2022, arXiv 2106.04560, as in SigLIP; after Set Transformer, Lee et al., 2019, arXiv
    1810.00825. How the backbone itself would pool plays no part. Features of a frozen backbone are not kept: tokens
    would take many times their room.
    """

    reads_tokens: ClassVar[bool] = True

    heads: int = option(
        default=4, minimum=1, maximum=64, help="parts of a token that are weighted apart; they must divide its width"
    )
    mlp_ratio: int = option(
        default=4, minimum=0, maximum=16, help="width of the hidden layer after pooling in widths of a token; 0: none"
    )
    norm: bool = option(default=True, help="layer norm of the tokens first")
    dropout: float = option(default=0.0, minimum=0, below=1, help="chance that a pooled value is dropped in training")
    init_bias: InitBias = option(default="zero", help=_BIAS_HELP)

    def build(self, ctx: HeadContext) -> AttentionPoolHead:
        from .modules import AttentionPoolHead

        if ctx.token_dim is None:
            raise UsageError("attention_pool: the backbone gives no tokens", hint='use another head, such as "linear"')
        if ctx.token_dim % self.heads:
            raise UsageError(
                f"attention_pool: tokens of width {ctx.token_dim} cannot be divided among {self.heads} heads",
                hint="change head.heads",
            )
        return AttentionPoolHead(
            ctx.token_dim,
            ctx.num_classes,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            norm=self.norm,
            dropout=self.dropout,
            class_counts=_counts(self.init_bias, ctx),
        )


def _counts(init_bias: InitBias, ctx: HeadContext) -> NDArray[np.int64] | None:
    return ctx.class_counts if init_bias == "prior" else None
