"""LoRA and DoRA on the layers of a backbone, by peft."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from attrs import frozen
from peft import LoraConfig, LoraModel
from torch import nn

from .selection import unfreeze_last_blocks, unfreeze_norms
from .targets import target_names

if TYPE_CHECKING:
    from peft.tuners.tuners_utils import BaseTuner

    from roadwork_core.kinds import AdapterContext

    from .adapters import LowRankOptions


@frozen
class Tuned:
    """A backbone with what peft put beside some of its layers."""

    module: nn.Module
    targets: Sequence[str]
    _tuner: BaseTuner

    def merge(self) -> nn.Module:
        """Folds the updates into the layers and takes them out; afterwards there is nothing left to merge."""
        return cast(nn.Module, self._tuner.merge_and_unload())


def adapt(ctx: AdapterContext, options: LowRankOptions, *, magnitude: bool) -> Tuned:
    """Freezes the backbone and puts updates beside the layers that play the roles; `magnitude` makes them DoRA.

    Raises UsageError where a role is played by no layer, or by layers that the network does not call.
    """
    names = target_names(ctx.backbone, options.targets, options.unfreeze_blocks)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=cast(int, options.rank if options.alpha is None else options.alpha),
        lora_dropout=options.dropout,
        target_modules=exactly(names),
        use_dora=magnitude,
        bias="none",
    )
    with seeded(ctx.seed, ctx.backbone):
        tuner = LoraModel(ctx.backbone, config, "default")
    show_geometry(ctx.backbone, names)
    return Tuned(ctx.backbone, trained(ctx.backbone, names, options), tuner)


def trained(backbone: nn.Module, names: Sequence[str], options: LowRankOptions) -> tuple[str, ...]:
    """Unfreezes what trains beside the adapted layers, and names all of it."""
    found = [*names, *unfreeze_last_blocks(backbone, options.unfreeze_blocks)]
    if options.train_norms:
        found += unfreeze_norms(backbone)
    return tuple(found)


def exactly(names: Sequence[str]) -> str:
    """The pattern by which peft finds these modules and no others."""
    return "|".join(map(re.escape, names))


def show_geometry(backbone: nn.Module, names: Sequence[str]) -> None:
    """Gives what stands around a convolution its stride and sizes, which some networks read to pad its input."""
    for name in names:
        layer: Any = backbone.get_submodule(name)
        if isinstance(layer.base_layer, nn.Conv2d):
            for attribute in ("stride", "kernel_size", "dilation", "padding", "groups"):
                if not hasattr(layer, attribute):
                    setattr(layer, attribute, getattr(layer.base_layer, attribute))


@contextmanager
def seeded(seed: int, backbone: nn.Module) -> Iterator[None]:
    """Draws from `seed` inside, and leaves the global generators as they were."""
    devices = sorted({p.device.index for p in backbone.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
