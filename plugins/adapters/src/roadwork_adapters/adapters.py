"""The options of the adapters; torch and peft wait in `selection` and `low_rank`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from roadwork_core import component, option
from roadwork_core.kinds import AdapterContext

if TYPE_CHECKING:
    from .low_rank import LowRank
    from .selection import Selected

Role = Literal["query", "key", "value", "output", "mlp"]

_TARGETS_HELP = (
    "linear layers by what they do in a block; the model's own names are looked up"
    " (default: all four of attention, or mlp in a network without attention)"
)
_ALPHA_HELP = "the update is scaled by alpha / rank (default: alpha = rank)"
_DROPOUT_HELP = "chance that an input of the update is dropped in training"
_BLOCKS_HELP = "last blocks that train whole, without an update beside them (ExPLoRA: 1)"
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


@component("adapter", "lora")
class Lora:
    """Low-rank updates of linear layers, W + (alpha / rank) B A (Hu et al., 2021, arXiv 2106.09685)."""

    rank: int = option(default=16, minimum=1, help="rank of the update")
    alpha: float | None = option(default=None, above=0, help=_ALPHA_HELP)
    dropout: float = option(default=0.0, minimum=0, below=1, help=_DROPOUT_HELP)
    targets: tuple[Role, ...] | None = option(default=None, min_length=1, help=_TARGETS_HELP)
    unfreeze_blocks: int = option(default=0, minimum=0, help=_BLOCKS_HELP)
    train_norms: bool = option(default=False, help=_NORMS_HELP)

    def build(self, ctx: AdapterContext) -> LowRank:
        from .low_rank import adapt

        return adapt(
            ctx.backbone,
            seed=ctx.seed,
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            roles=self.targets,
            unfreeze_blocks=self.unfreeze_blocks,
            train_norms=self.train_norms,
            magnitude=False,
        )


@component("adapter", "dora")
class Dora:
    """Low-rank updates of direction with a magnitude per output, m (W + s B A) / ||W + s B A||_row.

    Liu et al., 2024, arXiv 2402.09353; s = alpha / rank, and m starts at the norms of W, so training starts from W.
    """

    rank: int = option(default=16, minimum=1, help="rank of the update")
    alpha: float | None = option(default=None, above=0, help=_ALPHA_HELP)
    dropout: float = option(default=0.0, minimum=0, below=1, help=_DROPOUT_HELP)
    targets: tuple[Role, ...] | None = option(default=None, min_length=1, help=_TARGETS_HELP)
    unfreeze_blocks: int = option(default=0, minimum=0, help=_BLOCKS_HELP)
    train_norms: bool = option(default=False, help=_NORMS_HELP)

    def build(self, ctx: AdapterContext) -> LowRank:
        from .low_rank import adapt

        return adapt(
            ctx.backbone,
            seed=ctx.seed,
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            roles=self.targets,
            unfreeze_blocks=self.unfreeze_blocks,
            train_norms=self.train_norms,
            magnitude=True,
        )
