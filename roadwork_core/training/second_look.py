"""The second pass of optimizers that look at the loss elsewhere before they step (SAM): the same samples again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar, runtime_checkable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

T = TypeVar("T")


@runtime_checkable
class Ascending(Protocol):
    """An optimizer that wants the gradient somewhere else: `ascend` goes there, `descend` comes back to the bit."""

    def ascend(self) -> None: ...

    def descend(self) -> None: ...


def recorded(items: Iterator[T], into: list[T]) -> Iterator[T]:
    """Passes `items` on and keeps them."""
    for item in items:
        into.append(item)
        yield item


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm normalises as it does in training, and its running statistics stay as they are."""
    tracking = [
        part for part in model.modules() if isinstance(part, _NormBase) and part.training and part.track_running_stats
    ]
    for part in tracking:
        part.track_running_stats = False
    try:
        yield
    finally:
        for part in tracking:
            part.track_running_stats = True
