"""The weights of a model divided among the processes (FSDP2), and read and written whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from roadwork_core.errors import RoadworkError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .validation import Batch

_WITHOUT = "run without --shard, or without --use_fsdp"


def shard(model: nn.Module, blocks: Iterable[nn.Module], device: torch.device) -> None:
    """Leaves in this process its share of every parameter of `model`, in place, on `device`.

    A unit, whose weights are whole together for as long as it computes, is each of `blocks`, and what is left of the
    model (Zhao et al., 2023, arXiv 2304.11277). Parameters are new objects afterwards; buffers stay whole.
    Raises RoadworkError for a parameter that cannot be divided (one without an axis).
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    # A list of modules that is no module in its own right is never called, so it could not gather its weights.
    units = [block for block in blocks if not isinstance(block, nn.ModuleList | nn.ModuleDict)]
    try:
        for unit in (*units, model):
            # Weights that stayed whole after a forward pass without a backward one, as those of the last unit do by
            # default, would hide what a step makes of the shares.
            fully_shard(unit, mesh=mesh, reshard_after_forward=True)
    except ValueError as error:
        raise RoadworkError(f"the weights cannot be shared out: {error}", hint=_WITHOUT) from None


def is_sharded(module: Any) -> bool:
    """Whether `shard` was here."""
    return isinstance(module, FSDPModule)


def explained(error: RuntimeError) -> RoadworkError | None:
    """What a user can do about an operation that torch cannot carry out on shares; None for any other error."""
    trace = error.__traceback__
    while trace is not None:
        if "torch/distributed/tensor" in trace.tb_frame.f_code.co_filename.replace("\\", "/"):
            first = (str(error).strip().splitlines() or ["no message"])[0]
            return RoadworkError(
                f"torch cannot do this on shares of the weights: {first}",
                hint=f'another optimizer may do ("adamw" does); else {_WITHOUT}',
            )
        trace = trace.tb_next
    return None


def own_share(tensor: Tensor) -> Tensor:
    """What this process has of a tensor, in the same memory; a tensor that is not divided itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor of all shares, the same in every process; all have to ask for it. One that is not divided itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """All tensors whole, those that were divided on the CPU; nothing where not `keep`, in processes that only give."""
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if keep:
            found[name] = full.cpu() if isinstance(tensor, DTensor) else full
    return found


def share_of(value: Tensor, like: Tensor) -> Tensor:
    """`value`, the same whole tensor in every process, divided as `like` is."""
    if not isinstance(like, DTensor):
        return value
    made = distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return cast(Tensor, made)


@torch.no_grad()
def fill(tensor: Tensor, value: Tensor) -> None:
    """Copies `value`, the same whole tensor in every process, into `tensor` or this process's share of it."""
    own_share(tensor).copy_(own_share(share_of(value, tensor)))


def in_step(batches: Iterable[Batch], stand_in: Callable[[], Tensor], accelerator: Accelerator) -> Iterator[Batch]:
    """`batches`, and after them inputs without a label for as long as another process has a batch left.

    A forward pass gathers weights from all processes, so all must make as many.
    """
    for batch in batches:
        _any(True, accelerator)
        yield batch
    inputs: Tensor | None = None
    while _any(False, accelerator):
        inputs = stand_in() if inputs is None else inputs
        yield inputs, torch.empty(0, dtype=torch.int64)


def _any(wish: bool, accelerator: Accelerator) -> bool:
    votes: Tensor = accelerator.reduce(torch.tensor(float(wish), device=accelerator.device), "sum")
    return bool(votes.item() > 0)
