"""What can be read off a network: the list of its blocks."""

from __future__ import annotations

from torch import nn


def main_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks or stages of a network, input to output: the list of modules that holds most of its parameters.

    Lists inside other lists are not looked at, so a hierarchical network answers with its stages.
    """
    lists: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer, _ in lists)
        if isinstance(module, nn.ModuleList | nn.Sequential) and not nested and len(module) > 1:
            lists.append((name, module))
    if not lists:
        return [model]
    _, largest = max(lists, key=lambda pair: sum(parameter.numel() for parameter in pair[1].parameters()))
    return list(largest.children())
