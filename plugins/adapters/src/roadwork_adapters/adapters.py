"""The options of the adapters; torch and peft wait in the modules beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from roadwork_core import component, option, section
from roadwork_core.kinds import AdapterContext

if TYPE_CHECKING:
    from .low_rank import Tuned
    from .normalised import Normalised
    from .selection import Selected

Role = Literal["query", "key", "value", "output", "mlp", "conv", "query_value", "attention", "all_linear"]

_NORMS_HELP = "all norm layers train too"


@component("adapter", "full")
class Full:
    """Every weight of the backbone trains."""

    freeze_norms: bool = option(
        default=False,
        help="norm layers keep their weights and running statistics (small data, or norms folded into the weights)",
    )

    def build(self, ctx: AdapterContext) -> Selected:
        from .selection import train_all

        return train_all(ctx.backbone, norms=not self.freeze_norms)


@component("adapter", "frozen")
class Frozen:
    """Nothing of the backbone trains: a probe of its features."""

    def build(self, ctx: AdapterContext) -> Selected:
        from .selection import train_none

        return train_none(ctx.backbone)


@component("adapter", "last_blocks")
class LastBlocks:
    """The last blocks or stages train, the rest is frozen."""

    n: int = option(default=1, minimum=1, help="how many of the last blocks train")
    train_norms: bool = option(default=False, help=_NORMS_HELP)

    def build(self, ctx: AdapterContext) -> Selected:
        from .selection import train_last_blocks

        return train_last_blocks(ctx.backbone, self.n, self.train_norms)


@component("adapter", "bitfit")
class BitFit:
    """Only biases train, those of norm layers among them (Ben Zaken et al., 2021, arXiv 2106.10199)."""

    train_norms: bool = option(default=False, help="the weights of norm layers train too")

    def build(self, ctx: AdapterContext) -> Selected:
        from .selection import train_biases

        return train_biases(ctx.backbone, self.train_norms)


@component("adapter", "ia3")
class Ia3:
    """Learned factors on keys, values and what enters the second layer of each feed-forward part.

    Liu et al., 2022, arXiv 2205.05638; the factors start at 1. A fused projection is scaled whole, its queries too;
    a network that has none of these is scaled in the outputs of its convolutions.
    """

    train_norms: bool = option(default=False, help=_NORMS_HELP)

    def build(self, ctx: AdapterContext) -> Tuned:
        from .scaling import adapt

        return adapt(ctx, train_norms=self.train_norms)


@section
class LowRankOptions:
    """What every adapter with an update of low rank can be told."""

    rank: int = option(default=16, minimum=1, help="rank of the update")
    alpha: float | None = option(
        default=None, above=0, help="the update is scaled by alpha / rank (default: alpha = rank)"
    )
    dropout: float = option(
        default=0.0, minimum=0, below=1, help="chance that an input of the update is dropped in training"
    )
    targets: tuple[Role, ...] | None = option(
        default=None,
        min_length=1,
        help="layers by what they do in a block; the model's own names are looked up (default: attention, or mlp in a"
        " network without attention, or conv in one without either)",
    )
    unfreeze_blocks: int = option(
        default=0, minimum=0, help="last blocks that train whole, without an update beside them (ExPLoRA: 1)"
    )
    train_norms: bool = option(default=False, help=_NORMS_HELP)


@section
class TauOptions(LowRankOptions):
    """And what those with a learned term in the normaliser can be told beside it."""

    tau: float = option(
        default=0.1, above=0, help="start of the learned term that is added to the norms; near 0 it is DoRA"
    )


@component("adapter", "lora")
class Lora(LowRankOptions):
    """Low-rank updates of layers, W + (alpha / rank) B A (Hu et al., 2021, arXiv 2106.09685)."""

    def build(self, ctx: AdapterContext) -> Tuned:
        from .low_rank import adapt

        return adapt(ctx, self, magnitude=False)


@component("adapter", "dora")
class Dora(LowRankOptions):
    """Low-rank updates of direction with a magnitude per output, m (W + s B A) / ||W + s B A||_row.

    Liu et al., 2024, arXiv 2402.09353; s = alpha / rank, and m starts at the norms of W, so training starts from W.
    As in that paper (4.3) and in peft, the norm is a constant in the backward pass.
    """

    def build(self, ctx: AdapterContext) -> Tuned:
        from .low_rank import adapt

        return adapt(ctx, self, magnitude=True)


@component("adapter", "dora_tau")
class DoraTau(TauOptions):
    """DoRA with a learned term in its normaliser, m (W + s B A) / (||W + s B A||_row + tau).

    The first half of DoRAN (arXiv 2510.04331): tau is one number per layer, above 0, and keeps the gradient of a
    direction with a small norm finite. m starts at the norms plus tau, so training starts from W. The gradient flows
    through the norm too.
    """

    def build(self, ctx: AdapterContext) -> Normalised:
        from .normalised import adapt

        return adapt(ctx, self, hidden=None)


@component("adapter", "doran")
class Doran(TauOptions):
    """DoRA with a learned term in its normaliser, and small networks that generate A and B (arXiv 2510.04331).

    m (W + s B A) / (||W + s B A||_row + tau) with A = V_A tanh(U_A) and B = V_B tanh(U_B): the first layers U_A
    (hidden, in) and U_B (hidden, rank) are shared by the projections of one attention (query and value, in the
    paper), the second layers V_A (rank, hidden) and V_B (out, hidden) are each projection's own. V_B starts at zero
    and m at the norms plus tau, so training starts from W. The activation and the widths are this project's choice.
    """

    hidden: int | None = option(
        default=None, minimum=1, help="width of the networks that generate A and B (default: the rank)"
    )

    def build(self, ctx: AdapterContext) -> Normalised:
        from .normalised import adapt

        return adapt(ctx, self, hidden=self.rank if self.hidden is None else self.hidden)
