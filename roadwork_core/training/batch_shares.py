"""A batch that several processes have whole, divided among them on its way through a network, and whole behind it.

So an objective that looks at a batch as a whole (variances, nearest neighbours, a centre) is computed alike in every
process, as one process would, while each puts only a share of the pictures through the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from attrs import define, field
from torch import Tensor, nn


@define
class BatchShares:
    """What process `rank` of `world` takes of a batch: rows that follow one another. One process takes all."""

    rank: int
    world: int
    _calls: list[tuple[int, ExitStack]] = field(init=False, factory=list)
    _seed: tuple[int, int] = field(init=False, default=(0, 0))

    def sizes(self, rows: int) -> list[int]:
        """Rows of each process, of a batch with so many."""
        return [rows // self.world + (rank < rows % self.world) for rank in range(self.world)]

    def positions(self, batch: Sequence[int]) -> Sequence[int]:
        """This process's part of a list."""
        sizes = self.sizes(len(batch))
        start = sum(sizes[: self.rank])
        return batch[start : start + sizes[self.rank]]

    def own(self, whole: Tensor) -> Tensor:
        """This process's rows of a tensor (N, ...)."""
        return whole if self.world == 1 else whole.tensor_split(self.world)[self.rank]

    def whole(self, part: Tensor, rows: int) -> Tensor:
        """All rows, (rows, ...), of which each process has its part.

        The gradient of this process's part is that of its rows: what follows must be computed alike in all processes.
        """
        if self.world == 1:
            return part
        sizes = self.sizes(rows)
        if not part.is_floating_point():
            return _gathered(part, sizes)
        # Not every backend sends half precision.
        made: Tensor = _Whole.apply(part.float(), sizes, self.rank)
        return made.to(part.dtype)

    def divide(self, network: nn.Module) -> list[Any]:
        """From now on `network` answers for a whole batch, (N, ...), and computes a share of it; returns the hooks.

        A batch with fewer rows than there are processes is computed by each of them. In training each share draws
        random numbers of its own, and none from the stream that the processes have in common.
        """
        if self.world == 1:
            return []
        return [network.register_forward_pre_hook(self._enter), network.register_forward_hook(self._leave)]

    def add_up(self, network: nn.Module, replicated: nn.Module) -> None:
        """Makes the gradients those of the whole batch: sums in `network`, of which each process computed a share, and
        means in what all computed alike."""
        if self.world == 1:
            return
        shared = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        alike = [parameter.grad for parameter in replicated.parameters() if parameter.grad is not None]
        for gradient in alike:
            gradient.div_(self.world)
        _summed([*shared, *alike])

    def _enter(self, network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        rows, surroundings = len(inputs[0]), ExitStack()
        self._calls.append((rows, surroundings))
        if rows < self.world:
            return inputs
        if network.training:
            self._own_stream(surroundings, inputs[0].device)
        return self.own(inputs[0]), *inputs[1:]

    def _leave(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        rows, surroundings = self._calls.pop()
        surroundings.close()
        return output if rows < self.world else self.whole(output, rows)

    def _own_stream(self, surroundings: ExitStack, device: torch.device) -> None:
        common = torch.initial_seed()
        self._seed = (common, self._seed[1] + 1 if self._seed[0] == common else 0)
        surroundings.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        torch.manual_seed((common + 1_000_003 * (self.rank + 1) + 7_919 * self._seed[1]) % 2**63)


class _Whole(torch.autograd.Function):
    """The parts of all processes; the gradient of this one's part is that of its rows."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, sizes: Sequence[int], rank: int) -> Tensor:
        ctx.rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        return _gathered(part, sizes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.rows].contiguous(), None, None


def _gathered(part: Tensor, sizes: Sequence[int]) -> Tensor:
    import torch.distributed as dist

    # Parts of one length only can be gathered.
    padded = part.new_zeros((max(sizes), *part.shape[1:]))
    padded[: len(part)] = part.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([found[:size] for found, size in zip(parts, sizes, strict=True)])


def _summed(tensors: Iterable[Tensor]) -> None:
    """Adds up each tensor over the processes, in place, in one message."""
    import torch.distributed as dist

    found = list(tensors)
    if not found:
        return
    flat = torch.cat([tensor.float().flatten() for tensor in found])
    dist.all_reduce(flat)
    for tensor, total in zip(found, torch.split(flat, [tensor.numel() for tensor in found]), strict=True):
        tensor.copy_(total.reshape(tensor.shape))
