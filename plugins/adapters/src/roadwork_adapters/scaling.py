"""Learned factors on keys, values and hidden features (IA3), by peft."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from peft import IA3Config, IA3Model
from torch import nn

from roadwork_core.errors import UsageError

from .low_rank import Tuned, exactly, show_geometry
from .selection import unfreeze_norms
from .targets import adaptable_layers

if TYPE_CHECKING:
    from roadwork_core.kinds import AdapterContext


def adapt(ctx: AdapterContext, *, train_norms: bool) -> Tuned:
    """Freezes the backbone and scales keys, values and what enters the second layer of each feed-forward part.

    In a network without any of these, the outputs of its convolutions. Raises UsageError where it has none of them.
    """
    backbone = ctx.backbone
    played, _ = adaptable_layers(backbone)
    inner = [name for name, roles in played.items() if "mlp" in roles and _narrows(backbone.get_submodule(name))]
    outer = [name for name, roles in played.items() if {"key", "value"} & set(roles)]
    if not (inner or outer):
        outer = [name for name, roles in played.items() if "conv" in roles]
    if not (inner or outer):
        raise UsageError(
            "the backbone's blocks have no keys, values, feed-forward parts or convolutions to scale",
            hint='use = "last_blocks" or "full" trains any',
        )
    names = [name for name in played if name in {*inner, *outer}]
    config = IA3Config(target_modules=exactly(names), feedforward_modules=exactly(inner) or "(?!)")
    tuner = IA3Model(backbone, config, "default")
    show_geometry(backbone, names)
    found = [*names, *(unfreeze_norms(backbone) if train_norms else ())]
    return Tuned(backbone, tuple(found), tuner)


def _narrows(layer: nn.Module) -> bool:
    """Whether it brings the widened features of a feed-forward part back to the width of the tokens."""
    linear = cast(nn.Linear, layer)
    return linear.in_features > linear.out_features
