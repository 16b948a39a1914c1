"""Losses, optimizers, schedulers and self-supervised objectives: what each is given and must make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from attrs import frozen

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn


@frozen(kw_only=True)
class LossContext:
    """`class_counts`: int64 (C,) of the train split; `positive` is the index of the positive class."""

    num_classes: int
    class_counts: NDArray[np.int64]
    positive: int = 1


class LossComponent(Protocol):
    """Makes `loss(logits, target)`: float32 (N, C) and int64 (N,), to a mean (scalar) or per-sample losses (N,).

    With `soft_targets = True` the target may also be class probabilities, float32 (N, C). A loss that is a `StagedLoss`
    hears of each epoch.
    """

    soft_targets: ClassVar[bool] = False

    def build(self, ctx: LossContext) -> Callable[[Tensor, Tensor], Tensor]: ...


@runtime_checkable
class StagedLoss(Protocol):
    """A loss that changes with the epoch, by its number alone: so it is the same after an interruption."""

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """`epoch`, from 0, of at most `epochs` begins, or goes on."""
        ...


@frozen(kw_only=True)
class ParamGroup:
    """Parameters that share a learning rate. `decay` is false for biases, norms and other vectors."""

    name: str
    params: Sequence[nn.Parameter]
    lr_scale: float = 1.0
    decay: bool = True


@frozen(kw_only=True)
class OptimizerContext:
    groups: Sequence[ParamGroup]

    def param_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """The groups in the form that torch optimizers take: scaled `lr`; `weight_decay` only where `decay`."""
        return [
            {
                "name": group.name,
                "params": list(group.params),
                "lr": lr * group.lr_scale,
                "weight_decay": weight_decay if group.decay else 0.0,
            }
            for group in self.groups
        ]


class OptimizerComponent(Protocol):
    def build(self, ctx: OptimizerContext) -> torch.optim.Optimizer: ...


@frozen(kw_only=True)
class SchedulerContext:
    """`total_steps` counts optimizer steps of the whole training, `steps_per_epoch` those of one epoch."""

    optimizer: torch.optim.Optimizer
    total_steps: int
    steps_per_epoch: int


class SchedulerComponent(Protocol):
    """Makes a torch scheduler that is stepped once after every optimizer step."""

    def build(self, ctx: SchedulerContext) -> torch.optim.lr_scheduler.LRScheduler: ...


def _itself(part: Tensor, rows: int = 0) -> Tensor:
    """One process has all rows."""
    return part


@frozen(kw_only=True)
class ObjectiveContext:
    """`backbone` is the adapted student that trains; `total_steps` counts optimizer steps of the stage.

    Several processes compute an objective alike, each on the whole batch, and `backbone` divides the work among them.
    Only an objective that looks inside it needs to know: there a process sees its rows alone. `own` takes them from a
    tensor (N, ...), `whole(part, N)` puts the rows of all processes together, with gradients.
    """

    backbone: nn.Module
    feature_dim: int
    image_size: tuple[int, int]
    total_steps: int
    own: Callable[[Tensor], Tensor] = _itself
    whole: Callable[[Tensor, int], Tensor] = _itself


class Objective(Protocol):
    """An `nn.Module` that holds what the objective trains beside the backbone (projector, teacher, ...)."""

    #: How many augmented views of each image `forward` takes.
    views: int

    def __call__(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Normalised images, `views` times float (N, 3, H, W), to (loss scalar, features float (N, D) to watch)."""
        ...

    def after_step(self, step: int) -> None:
        """Called once after each optimizer step (an EMA teacher moves here)."""
        ...


class ObjectiveComponent(Protocol):
    def build(self, ctx: ObjectiveContext) -> nn.Module: ...
