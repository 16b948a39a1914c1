"""Which layers of a backbone an adapter stands beside: roles resolved to names, or refused with what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from roadwork_core.errors import UsageError

from .roles import ATTENTION_ROLES, GROUPS, QUERY_VALUE, ROLES, layer_roles
from .selection import blocks_of

Roles = Mapping[str, tuple[str, ...]]


def target_names(backbone: nn.Module, wanted: Sequence[str] | None, unfreeze_blocks: int = 0) -> list[str]:
    """Names of the layers that play the `wanted` roles, outside the last blocks that train whole.

    None stands for attention where there is one, else mlp, else conv. Raises UsageError where a role is played by
    none, or only by layers whose weights are used without a call, naming the roles that there are.
    """
    played, fused = adaptable_layers(backbone, unfreeze_blocks)
    counts = _counts(played)
    if wanted is None:
        order = (ATTENTION_ROLES, ("mlp",), ("conv",))
        roles = next((chosen for group in order if (chosen := [role for role in group if counts[role]])), [])
        absent = [] if roles else ["query", "mlp", "conv"]
    else:
        roles, absent = _resolved(wanted, counts)
    if absent:
        raise _refusal(absent, counts, fused, unfreeze_blocks)
    return [name for name, plays in played.items() if set(plays) & set(roles)]


def adaptable_layers(backbone: nn.Module, unfreeze_blocks: int = 0) -> tuple[Roles, Roles]:
    """Layers with a role that the network calls, and those whose weights it uses without a call; each by name."""
    whole = [f"{name}." for name, _ in blocks_of(backbone)[-unfreeze_blocks:]] if unfreeze_blocks else []
    played = {
        name: roles
        for name, roles in layer_roles(backbone).items()
        if not any(f"{name}.".startswith(block) for block in whole)
    }
    called = _called(backbone, list(played))
    return (
        {name: roles for name, roles in played.items() if name in called},
        {name: roles for name, roles in played.items() if name not in called},
    )


def _resolved(wanted: Sequence[str], counts: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Single roles for the wanted ones, and those of them that nothing plays."""
    roles: list[str] = []
    absent: list[str] = []
    for name in wanted:
        members = GROUPS.get(name, (name,))
        there = [role for role in members if counts[role]]
        enough = there if name in GROUPS and name != QUERY_VALUE else len(there) == len(members)
        if enough:
            roles += there
        else:
            absent += [role for role in members if role not in there]
    return roles, list(dict.fromkeys(absent))


def _counts(played: Roles) -> Counter[str]:
    return Counter(role for plays in played.values() for role in plays)


def _refusal(absent: Sequence[str], counts: Mapping[str, int], fused: Roles, unfreeze_blocks: int) -> UsageError:
    there = ", ".join(f"{role} ({counts[role]})" for role in ROLES if counts[role])
    hint = f"it has: {there}" if there else 'it has none to adapt; use = "last_blocks" or "full" trains any'
    silent = [name for name, roles in fused.items() if set(roles) & set(absent)]
    if silent:
        return UsageError(
            f"{len(silent)} of the layers to adapt are not called by this network, which only uses their weights"
            f" (fused attention), such as {silent[0]}",
            hint=hint,
        )
    outside = f" outside the last {unfreeze_blocks}" if unfreeze_blocks else ""
    return UsageError(f"no layer of the backbone's blocks{outside} is a {' or a '.join(absent)}", hint=hint)


@torch.no_grad()
def _called(backbone: Any, names: Sequence[str]) -> set[str]:
    """The layers that a forward pass calls: an update beside any other would train and change nothing, silently."""
    called: set[str] = set()
    hooks = [
        backbone.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name)) for name in names
    ]
    training = [module for module in backbone.modules() if module.training]
    parameter = next(backbone.parameters())
    try:
        backbone.eval()
        backbone(torch.zeros(1, 3, *backbone.preprocessing.size, device=parameter.device, dtype=parameter.dtype))
    finally:
        for module in training:
            module.training = True
        for hook in hooks:
            hook.remove()
    return called
