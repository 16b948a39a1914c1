"""The parts of a model that learn at their own rate, and which of its modules are in training mode."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from roadwork_core.errors import RoadworkError
from roadwork_core.kinds import ParamGroup

if TYPE_CHECKING:
    import torch

    from roadwork_core.spec.model import LrScale

BACKBONE, ADAPTER, HEAD = "backbone", "adapter", "head"
#: Marks the second group of a part: biases, norms and other vectors, which do not decay.
NO_DECAY = "no_decay"
#: Before the number of levels between a block and the head, where each block learns at its own rate.
BLOCK = ".below_"


def parameter_groups(
    backbone: nn.Module, head: nn.Module, original: Collection[int], lr_scale: LrScale
) -> list[ParamGroup]:
    """Trainable parameters by part, each part in two groups: weights that decay, and the rest.

    `original` holds the `id` of every parameter that the backbone had before it was adapted: other trainable ones
    of `backbone` are the adapter's. With a layer decay below 1 the parts of the backbone are divided by block as
    well, last block first. Raises RoadworkError where nothing trains.
    """
    depth = block_depths(backbone) if lr_scale.layer_decay < 1 else {}
    own = [(name, parameter) for name, parameter in backbone.named_parameters() if id(parameter) in original]
    added = [(name, parameter) for name, parameter in backbone.named_parameters() if id(parameter) not in original]
    groups: list[ParamGroup] = []
    for part, parameters, scale in ((BACKBONE, own, lr_scale.backbone), (ADAPTER, added, lr_scale.adapter)):
        for below in sorted({depth.get(id(parameter), 0) for _, parameter in parameters}):
            level = [(name, parameter) for name, parameter in parameters if depth.get(id(parameter), 0) == below]
            name = f"{part}{BLOCK}{below}" if depth else part
            groups += _part(name, level, scale * lr_scale.layer_decay**below)
    groups += _part(HEAD, head.named_parameters(), lr_scale.head)
    if not groups:
        raise RoadworkError("no weight of the model trains", hint="use another adapter or head")
    return groups


def block_depths(backbone: nn.Module) -> dict[int, int]:
    """How many levels below the head each parameter is, by its `id`: the exponent of the layer decay.

    As in BEiT (arXiv 2106.08254) the last of L blocks is at 1, the first at L, what stands before the blocks at L + 1
    and what stands after them at 0.
    """
    blocks: Sequence[nn.Module] = cast(Any, backbone).blocks()
    within = {
        id(parameter): len(blocks) - number for number, block in enumerate(blocks) for parameter in block.parameters()
    }
    depths: dict[int, int] = {}
    outside = len(blocks) + 1
    for parameter in backbone.parameters():
        if id(parameter) in within:
            outside = 0
        depths[id(parameter)] = within.get(id(parameter), outside)
    return depths


def _part(name: str, parameters: Iterable[tuple[str, nn.Parameter]], scale: float) -> list[ParamGroup]:
    decay, rest = decay_and_rest(parameters)
    groups = []
    if decay:
        groups.append(ParamGroup(name=name, params=decay, lr_scale=scale, decay=True))
    if rest:
        groups.append(ParamGroup(name=f"{name}.{NO_DECAY}", params=rest, lr_scale=scale, decay=False))
    return groups


def learning_rates(optimizer: torch.optim.Optimizer) -> Mapping[str, float]:
    """Learning rate of each part now, by name (`backbone`, `adapter`, `head`); of several blocks the highest."""
    rates: dict[str, float] = {}
    for index, group in enumerate(optimizer.param_groups):
        name = str(group.get("name", index)).removesuffix(f".{NO_DECAY}").partition(BLOCK)[0]
        rates[name] = max(rates.get(name, 0.0), float(group["lr"]))
    return rates


def set_training_mode(backbone: nn.Module, head: nn.Module) -> None:
    """Training mode for what trains; what is frozen stays as it is in use.

    A backbone of which nothing trains keeps its statistics and drops nothing out, and so does a BatchNorm whose own
    weights are frozen: otherwise its running statistics would drift although the spec says that it does not train.
    """
    head.train()
    if not any(parameter.requires_grad for parameter in backbone.parameters()):
        backbone.eval()
        return
    backbone.train()
    for part in backbone.modules():
        weights = list(part.parameters(recurse=False))
        if isinstance(part, _NormBase) and weights and not any(weight.requires_grad for weight in weights):
            part.eval()


def decay_and_rest(
    parameters: Iterable[tuple[str, nn.Parameter]],
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters in two lists: weights that decay, and biases, norms and other vectors that do not."""
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in parameters:
        if parameter.requires_grad:
            (rest if parameter.ndim <= 1 or name.endswith("bias") else decay).append(parameter)
    return decay, rest
