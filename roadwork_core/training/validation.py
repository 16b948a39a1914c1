"""Logits of val_select, gathered from all processes: what an epoch is judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from numpy.typing import NDArray

Batch = tuple[Tensor, Tensor]


@torch.no_grad()
def val_select_logits(
    batches: Iterable[Batch],
    forward: nn.Module | Callable[[Tensor], Tensor],
    accelerator: Accelerator,
    *,
    num_classes: int,
    autocast: Callable[[], AbstractContextManager[None]],
    stopped: Callable[[], bool],
) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Logits float64 (n, C) and class indices int64 (n,) in the split's order, the same in every process.

    `batches` are this process's share, as the model's input on its device and int64 (N,) (or fewer: what the inputs
    beyond them give is left out). None when one process alone
    was `stopped`.
    """
    device = accelerator.device
    logits, labels = [torch.empty(0, num_classes, device=device)], [torch.empty(0, dtype=torch.int64, device=device)]
    # Not through what shares gradients out: it would wait for the others at every batch, who may have fewer.
    forward = forward if accelerator.num_processes == 1 else accelerator.unwrap_model(forward)
    for inputs, targets in batches:
        with autocast():
            logits.append(forward(inputs).float()[: len(targets)])
        labels.append(targets.to(device))
        if accelerator.num_processes == 1 and stopped():
            return None
    return _gathered(torch.cat(logits), torch.cat(labels), accelerator)


def _gathered(
    logits: Tensor, labels: Tensor, accelerator: Accelerator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows of all processes in the split's order, each once, whatever the number of processes."""
    world = accelerator.num_processes
    if world > 1:
        counts = accelerator.gather(torch.tensor([len(labels)], device=labels.device)).tolist()
        padding = max(counts) - len(labels)
        parts = accelerator.gather(nn.functional.pad(logits, (0, 0, 0, padding))).chunk(world)
        truths = accelerator.gather(nn.functional.pad(labels, (0, padding))).chunk(world)
        logits, labels = logits.new_empty(sum(counts), logits.shape[1]), labels.new_empty(sum(counts))
        for rank, count in enumerate(counts):
            logits[rank::world], labels[rank::world] = parts[rank][:count], truths[rank][:count]
    return logits.double().cpu().numpy(), labels.cpu().numpy()
