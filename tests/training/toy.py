"""A training that fits into a test: tensors for pictures, a small network with BatchNorm and dropout."""

from __future__ import annotations

import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import define, field
from torch import Tensor, nn

from roadwork_core.console import Console
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.kinds import OptimizerContext, SchedulerContext
from roadwork_core.model import Classifier, save_weights
from roadwork_core.spec.model import LrScale
from roadwork_core.training import loop as loop_module
from roadwork_core.training.ema import Ema
from roadwork_core.training.groups import parameter_groups, set_training_mode
from roadwork_core.training.loop import Loop
from roadwork_core.training.precision import make_accelerator, scaler_of
from roadwork_core.training.progress import Progress
from roadwork_core.training.recipe import Recipe
from roadwork_core.training.shards import shard
from roadwork_core.training.snapshot import Snapshot

PREPROCESSING = Preprocessing(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@define
class TensorFeed:
    """Noise with a brighter corner in class 1; each training picture gets noise of (epoch, sample number)."""

    size: int = 45
    validation_size: int = 30
    num_classes: int = 2
    seed: int = 0
    noise: int = 20
    before_batch: Callable[[], None] = lambda: None
    seen: list[tuple[int, ...]] = field(init=False, factory=list)
    _pictures: Tensor = field(init=False)
    _targets: Tensor = field(init=False)

    def __attrs_post_init__(self) -> None:
        rng = np.random.default_rng(7)
        total = self.size + self.validation_size
        targets = np.arange(total) % self.num_classes
        pictures = rng.integers(0, 200, (total, 3, 8, 8))
        pictures[:, :, :4, :4] += 25 * targets[:, None, None, None]
        self._pictures = torch.from_numpy(pictures.astype(np.uint8))
        self._targets = torch.from_numpy(targets)

    def order(self, epoch: int) -> Sequence[int]:
        return np.random.default_rng([self.seed, epoch]).permutation(self.size).tolist()

    def training(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            self.before_batch()
            self.seen.append(tuple(batch))
            pictures = [self._pictures[number] + self._noise(epoch, number) for number in batch]
            yield torch.stack(pictures), self._targets[list(batch)]

    def _noise(self, epoch: int, number: int) -> Tensor:
        rng = np.random.default_rng([self.seed, epoch, number])
        return torch.from_numpy(rng.integers(0, self.noise + 1, (3, 8, 8)).astype(np.uint8))

    def validation(self, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        numbers = range(self.size + rank, self.size + self.validation_size, world)
        for start in range(0, len(numbers), 7):
            chunk = list(numbers[start : start + 7])
            yield self._pictures[chunk], self._targets[chunk]


class ToyBackbone(nn.Module):
    feature_dim = 12

    def __init__(self, *, norm: bool = True, dropout: float = 0.2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, stride=2)
        self.norm = nn.BatchNorm2d(12) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.dropout(torch.relu(self.norm(self.conv(pixel_values))).mean(dim=(2, 3)))


def toy_model(*, norm: bool = True, dropout: float = 0.2, num_classes: int = 2) -> Classifier:
    torch.manual_seed(3)
    return Classifier(ToyBackbone(norm=norm, dropout=dropout), nn.Linear(12, num_classes))


def per_sample_loss(logits: Tensor, target: Tensor) -> Tensor:
    if target.is_floating_point():
        return -(target * logits.log_softmax(-1)).sum(-1)
    return nn.functional.cross_entropy(logits, target, reduction="none")


def adamw(context: OptimizerContext) -> torch.optim.Optimizer:
    return torch.optim.AdamW(context.param_groups(3e-3, 0.1), fused=True)


def halving(context: SchedulerContext) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LambdaLR(context.optimizer, lambda step: 0.5 ** (step / context.total_steps))


def make_loop(
    folder: Path,
    *,
    model: Classifier | None = None,
    feed: TensorFeed | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = per_sample_loss,
    optimizer: Callable[[OptimizerContext], torch.optim.Optimizer] = adamw,
    scheduler: Callable[[SchedulerContext], Any] = halving,
    ema: float | None = None,
    console: Console | None = None,
    on_epoch: Callable[[Mapping[str, Any]], None] = lambda line: None,
    precision: str = "fp32",
    sharded: bool = False,
    **recipe: Any,
) -> Loop:
    model = model or toy_model()
    feed = feed or TensorFeed()
    settings: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 8,
        "accumulate": 1,
        "clip_norm": None,
        "select_by": "mcc",
        "patience": None,
        "seed": 0,
        "num_classes": feed.num_classes,
        "positive": 1,
        **recipe,
    }
    made = Recipe(**settings)
    accelerator, _ = make_accelerator(precision)
    if sharded:
        shard(model, [model.backbone.get_submodule("conv")], accelerator.device)
    original = {id(parameter) for parameter in model.backbone.parameters()}
    groups = parameter_groups(model.backbone, model.head, original, LrScale())
    built = optimizer(OptimizerContext(groups=groups))
    steps = math.ceil(math.ceil(feed.size / made.batch_size) / made.accumulate)
    schedule = scheduler(SchedulerContext(optimizer=built, total_steps=steps * made.epochs, steps_per_epoch=steps))
    spoken = console or Console(stderr=io.StringIO())
    return Loop(
        recipe=made,
        feed=feed,
        preprocessing=PREPROCESSING,
        accelerator=accelerator,
        snapshot=Snapshot(
            model=model,
            optimizer=built,
            scheduler=schedule,
            ema=Ema(model, ema) if ema else None,
            scaler=scaler_of(accelerator),
            folder=folder,
        ),
        forward=model if sharded or accelerator.num_processes == 1 else accelerator.prepare_model(model),
        set_training_mode=lambda: set_training_mode(model.backbone, model.head),
        loss=loss,
        progress=lambda done: Progress(spoken, epochs=made.epochs, steps=steps, done=done),
        on_epoch=on_epoch,
    )


def train_and_write(folder: Path, pause: float) -> None:
    """Trains, says on stdout when a batch begins, and writes the weights."""

    def begin() -> None:
        time.sleep(pause)
        print("batch", flush=True)  # noqa: T201

    feed = TensorFeed(before_batch=begin)
    loop = make_loop(folder, feed=feed, ema=0.9, clip_norm=1.0, accumulate=2, epochs=8, checkpoint_seconds=0.02)
    loop.run()
    save_weights(loop.snapshot.model, folder / "weights.safetensors")


def main() -> None:
    """Forks a training per line of stdin, "folder pause": the tests kill it without paying for imports each time."""
    loop_module.CHECKPOINT_COST = 0
    torch.set_num_threads(1)
    # Whatever torch and Accelerate import late is imported here once.
    make_loop(Path())
    for line in sys.stdin:
        folder, pause = line.split()
        child = os.fork()
        if child == 0:
            print(f"pid {os.getpid()}", flush=True)  # noqa: T201
            train_and_write(Path(folder), float(pause))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
