"""Learning-rate schedulers: a factor in closed form of the optimizer step, so a resumed run is on the same curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from roadwork_core import component, option
from roadwork_core.kinds import SchedulerContext

from . import factors

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler


@component("scheduler", "constant")
class Constant:
    """The same learning rate throughout, after an optional warm-up."""

    warmup_ratio: float = option(default=0.0, minimum=0, below=1, help="part of the steps with rising learning rate")

    def build(self, ctx: SchedulerContext) -> LRScheduler:
        return _scheduler(ctx, factors.Constant(**_warmup(self.warmup_ratio, ctx)))


@component("scheduler", "cosine")
class Cosine:
    """Half a cosine from the learning rate to its least part (Loshchilov and Hutter, 2017, arXiv 1608.03983)."""

    min_lr_ratio: float = option(default=0.0, minimum=0, maximum=1, help="part of the learning rate at the end")

    def build(self, ctx: SchedulerContext) -> LRScheduler:
        return _scheduler(ctx, factors.Cosine(**_warmup(0.0, ctx), least=self.min_lr_ratio))


@component("scheduler", "cosine_warmup")
class CosineWarmup:
    """A linear rise, then half a cosine down to the least part."""

    warmup_ratio: float = option(default=0.1, minimum=0, below=1, help="part of the steps with rising learning rate")
    min_lr_ratio: float = option(default=0.0, minimum=0, maximum=1, help="part of the learning rate at the end")

    def build(self, ctx: SchedulerContext) -> LRScheduler:
        return _scheduler(ctx, factors.Cosine(**_warmup(self.warmup_ratio, ctx), least=self.min_lr_ratio))


@component("scheduler", "linear")
class Linear:
    """A linear rise, then a straight line down to the least part."""

    warmup_ratio: float = option(default=0.0, minimum=0, below=1, help="part of the steps with rising learning rate")
    min_lr_ratio: float = option(default=0.0, minimum=0, maximum=1, help="part of the learning rate at the end")

    def build(self, ctx: SchedulerContext) -> LRScheduler:
        return _scheduler(ctx, factors.Linear(**_warmup(self.warmup_ratio, ctx), least=self.min_lr_ratio))


@component("scheduler", "one_cycle")
class OneCycle:
    """Half a cosine up, then half a cosine down to nearly nothing (Smith and Topin, 2018, arXiv 1708.07120)."""

    peak_ratio: float = option(default=0.3, above=0, below=1, help="part of the steps until the highest rate")
    start_ratio: float = option(default=0.04, above=0, maximum=1, help="part of the learning rate at the start")
    min_lr_ratio: float = option(default=4e-6, minimum=0, maximum=1, help="part of the learning rate at the end")

    def build(self, ctx: SchedulerContext) -> LRScheduler:
        curve = factors.OneCycle(
            **_warmup(self.peak_ratio, ctx),
            start=self.start_ratio,
            least=self.min_lr_ratio,
        )
        return _scheduler(ctx, curve)


@component("scheduler", "wsd")
class Wsd:
    """A rise, then the full rate for most of the training, then a decay (Hu et al., 2024, arXiv 2404.06395).

    The decay along 1 - sqrt(x) is that of Haegele et al., 2024 (arXiv 2405.18392).
    """

    warmup_ratio: float = option(default=0.05, minimum=0, below=1, help="part of the steps with rising learning rate")
    decay_ratio: float = option(default=0.2, above=0, maximum=1, help="part of the steps with falling learning rate")
    decay: Literal["linear", "cosine", "1-sqrt"] = option(default="1-sqrt", help="curve along which it falls")
    min_lr_ratio: float = option(default=0.0, minimum=0, maximum=1, help="part of the learning rate at the end")

    def __attrs_post_init__(self) -> None:
        if self.warmup_ratio + self.decay_ratio > 1:
            raise ValueError("warmup_ratio and decay_ratio must not exceed 1 together")

    def build(self, ctx: SchedulerContext) -> LRScheduler:
        warmup = _warmup(self.warmup_ratio, ctx)
        decay_steps = min(round(self.decay_ratio * ctx.total_steps), ctx.total_steps - warmup["warmup_steps"])
        curve = factors.WarmupStableDecay(**warmup, decay_steps=decay_steps, shape=self.decay, least=self.min_lr_ratio)
        return _scheduler(ctx, curve)


def _warmup(ratio: float, ctx: SchedulerContext) -> dict[str, int]:
    # At least one step is left to train at the full rate.
    return {"warmup_steps": min(round(ratio * ctx.total_steps), ctx.total_steps - 1), "total_steps": ctx.total_steps}


def _scheduler(ctx: SchedulerContext, factor: factors.Factor) -> LRScheduler:
    from torch.optim.lr_scheduler import LambdaLR

    return LambdaLR(ctx.optimizer, [factor] * len(ctx.optimizer.param_groups))
