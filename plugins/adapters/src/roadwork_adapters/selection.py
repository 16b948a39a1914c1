"""Adapters that only choose which of the backbone's own weights train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from attrs import frozen
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from roadwork_core.errors import UsageError


@frozen
class Selected:
    """A backbone of which `targets` train; there is nothing to fold in."""

    module: nn.Module
    targets: Sequence[str]

    def merge(self) -> nn.Module:
        return self.module


def train_all(backbone: nn.Module, norms: bool = True) -> Selected:
    """Every weight trains, those of norm layers only where `norms`."""
    backbone.requires_grad_(True)
    if not norms:
        for module in backbone.modules():
            if _is_norm(module):
                module.requires_grad_(False)
    return Selected(backbone, tuple(name for name, _ in backbone.named_children()))


def train_none(backbone: nn.Module) -> Selected:
    """No weight trains."""
    backbone.requires_grad_(False)
    return Selected(backbone, ())


def train_last_blocks(backbone: nn.Module, number: int, norms: bool) -> Selected:
    """The last `number` blocks train, and all norm layers where `norms`."""
    backbone.requires_grad_(False)
    names = unfreeze_last_blocks(backbone, number)
    if norms:
        names += unfreeze_norms(backbone)
    return Selected(backbone, tuple(names))


def train_biases(backbone: nn.Module, norms: bool) -> Selected:
    """Biases train, and all norm layers where `norms`. Raises UsageError where there is no bias."""
    backbone.requires_grad_(False)
    names: list[str] = []
    for name, module in backbone.named_modules():
        biases = [weight for own, weight in module.named_parameters(recurse=False) if _is_bias(own)]
        for bias in biases:
            bias.requires_grad_(True)
        if biases:
            names.append(name)
    if not names:
        raise UsageError("the backbone has no biases to train", hint='use = "lora" adapts layers without a bias')
    if norms:
        names += [name for name in unfreeze_norms(backbone) if name not in names]
    return Selected(backbone, tuple(names))


def blocks_of(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    """The backbone's blocks, input to output, with their names."""
    names = {id(module): name for name, module in backbone.named_modules()}
    return [(names[id(block)], block) for block in cast(Any, backbone).blocks()]


def unfreeze_last_blocks(backbone: nn.Module, number: int) -> list[str]:
    """Makes the last blocks trainable and names them. Raises UsageError where there are fewer."""
    blocks = blocks_of(backbone)
    if number > len(blocks):
        raise UsageError(
            f"{number} blocks cannot be unfrozen, the backbone has {len(blocks)}",
            hint='use = "full" trains all of them',
        )
    chosen = blocks[len(blocks) - number :]
    _unfreeze(block for _, block in chosen)
    return [name for name, _ in chosen]


def unfreeze_norms(backbone: nn.Module) -> list[str]:
    """Makes every norm layer trainable and names them."""
    norms = [(name, module) for name, module in backbone.named_modules() if _is_norm(module)]
    _unfreeze(module for _, module in norms)
    return [name for name, _ in norms]


def _unfreeze(modules: Iterable[nn.Module]) -> None:
    for module in modules:
        module.requires_grad_(True)


def _is_bias(name: str) -> bool:
    # Also those of several layers in one module, such as `in_proj_bias`; tables of relative positions are no biases.
    return name == "bias" or name.endswith("_bias")


def _is_norm(module: nn.Module) -> bool:
    known = isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm | _NormBase)
    # Networks that write their own call it so.
    return known or (type(module).__name__.endswith(("Norm", "Norm2d")) and not list(module.children()))
