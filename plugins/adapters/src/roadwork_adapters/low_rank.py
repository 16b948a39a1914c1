"""LoRA and DoRA on the linear layers of a backbone, by peft."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from attrs import frozen
from peft import LoraConfig, LoraModel
from torch import nn

from roadwork_core.errors import UsageError

from .roles import ATTENTION_ROLES, ROLES, linear_roles
from .selection import blocks_of, unfreeze_last_blocks, unfreeze_norms


@frozen
class LowRank:
    """A backbone with low-rank updates beside some of its linear layers."""

    module: nn.Module
    targets: Sequence[str]
    _tuner: LoraModel

    def merge(self) -> nn.Module:
        """Folds the updates into the layers and takes them out; afterwards there is nothing left to merge."""
        return cast(nn.Module, self._tuner.merge_and_unload())


def adapt(
    backbone: nn.Module,
    *,
    seed: int,
    rank: int,
    alpha: float | None,
    dropout: float,
    roles: Sequence[str] | None,
    unfreeze_blocks: int,
    train_norms: bool,
    magnitude: bool,
) -> LowRank:
    """Freezes the backbone and puts updates beside the layers that play `roles`; `magnitude` makes them DoRA.

    Raises UsageError where a role is played by no layer, or by layers that the network does not call.
    """
    names = target_names(backbone, roles, unfreeze_blocks)
    _check_called(backbone, names)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules="|".join(map(re.escape, names)),
        use_dora=magnitude,
        bias="none",
    )
    with _seeded(seed, backbone):
        tuner = LoraModel(backbone, config, "default")
    trained = [*names, *unfreeze_last_blocks(backbone, unfreeze_blocks)]
    if train_norms:
        trained += unfreeze_norms(backbone)
    return LowRank(backbone, tuple(trained), tuner)


def target_names(backbone: nn.Module, roles: Sequence[str] | None, unfreeze_blocks: int) -> list[str]:
    """Names of the linear layers that play `roles`, outside the last blocks that train whole.

    Raises UsageError where a role is played by none, naming what there is.
    """
    whole = [f"{name}." for name, _ in blocks_of(backbone)[-unfreeze_blocks:]] if unfreeze_blocks else []
    played = {
        name: played
        for name, played in linear_roles(backbone).items()
        if not any(f"{name}.".startswith(block) for block in whole)
    }
    counts = Counter(role for plays in played.values() for role in plays)
    if roles is None:
        roles = [role for role in ATTENTION_ROLES if counts[role]] or ["mlp"]
    if absent := [role for role in roles if not counts[role]]:
        there = ", ".join(f"{role} ({counts[role]})" for role in ROLES if counts[role])
        outside = f" outside the last {unfreeze_blocks}" if unfreeze_blocks else ""
        raise UsageError(
            f"no linear layer of the backbone's blocks{outside} is a {' or a '.join(absent)}",
            hint=f"it has: {there}" if there else 'it has none to adapt; use = "last_blocks" or "full" trains any',
        )
    return [name for name, plays in played.items() if set(plays) & set(roles)]


@torch.no_grad()
def _check_called(backbone: Any, names: Sequence[str]) -> None:
    """Some networks use a layer's weights without calling it; an update beside it would have no effect, silently."""
    called: set[str] = set()
    hooks = [
        backbone.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name)) for name in names
    ]
    training = backbone.training
    parameter = next(backbone.parameters())
    try:
        backbone.eval()
        backbone(torch.zeros(1, 3, *backbone.preprocessing.size, device=parameter.device, dtype=parameter.dtype))
    finally:
        backbone.train(training)
        for hook in hooks:
            hook.remove()
    if silent := [name for name in names if name not in called]:
        raise UsageError(
            f"{len(silent)} of the layers to adapt are not called by this network, such as {silent[0]}",
            hint='give other targets (mlp), or use = "last_blocks"',
        )


@contextmanager
def _seeded(seed: int, backbone: nn.Module) -> Iterator[None]:
    devices = sorted({p.device.index for p in backbone.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
