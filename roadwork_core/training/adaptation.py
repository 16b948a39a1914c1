"""Self-supervised adaptation: optimizer steps on views, a look at the features every epoch, exact resume."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from attrs import define, field, frozen
from torch import Tensor, nn

from roadwork_core.console import Console, duration
from roadwork_core.data.loading import BatchSchedule, epoch_order
from roadwork_core.errors import NumericalError, RoadworkError

from .batch_shares import BatchShares
from .collapse import effective_rank, feature_std, knn_balanced_accuracy
from .groups import learning_rates, set_training_mode
from .interruption import StopRequest
from .progress import Progress
from .snapshot import Position, Snapshot

if TYPE_CHECKING:
    from accelerate import Accelerator

    from roadwork_core.data.preprocessing import Preprocessing
    from roadwork_core.kinds import Adapted, Objective
    from roadwork_core.spec.model import Adapt

#: Losses are read from the device (which waits for it) this often in steps.
SETTLE_STEPS = 32
#: Seconds between two checkpoints within an epoch.
CHECKPOINT_SECONDS = 120.0


def warmed_cosine(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Factor on the learning rate after `step` optimizer steps: a linear rise, then half a cosine down to 0."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    part = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return (1.0 + math.cos(math.pi * min(1.0, part))) / 2.0


def full_batches(samples: int, batch_size: int) -> int:
    """Optimizer steps of one pass over this many pictures."""
    # A last batch that is not full is left out of its epoch: batch statistics of a few pictures would only disturb.
    return max(1, samples // batch_size)


@frozen(kw_only=True)
class ViewFeed:
    """The batches of views, and the pictures that are watched, as they would be scored."""

    views: Any
    schedule: BatchSchedule
    watched: Any

    def epoch(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        self.schedule.set(epoch, batches)
        return iter(self.views)


@define(kw_only=True)
class Adaptation:
    """One adaptation, from its checkpoint where there is one."""

    adapt: Adapt
    shares: BatchShares
    seed: int
    console: Console
    accelerator: Accelerator
    adapted: Adapted
    objective: nn.Module
    snapshot: Snapshot
    preprocessing: Preprocessing
    feed: ViewFeed
    samples: int
    position: Position = field(init=False, factory=Position)
    _stop: StopRequest = field(init=False, factory=StopRequest)
    _unread: list[Tensor] = field(init=False, factory=list)
    _shown: Progress = field(init=False)
    _saved_at: float = field(init=False, default=0.0)

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return full_batches(self.samples, self.adapt.batch_size)

    def run(self) -> Position:
        self.position = self.snapshot.restore() or Position()
        self._saved_at = time.monotonic()
        self._shown = Progress(self.console, epochs=self.adapt.epochs, steps=self.steps, done=self.position.step)
        with self._stop:
            if not self.position.history:
                # The state before the first step is what later epochs are held against.
                self.position.history.append({"epoch": 0, "step": 0, "loss": None, **self._look()})
            while self.position.epoch < self.adapt.epochs:
                began = time.monotonic()
                self._train()
                self._finish_epoch(began)
        return self.position

    def _train(self) -> None:
        position, size = self.position, self.adapt.batch_size
        order = epoch_order(self.samples, seed=self.seed, epoch=position.epoch)
        batches = [order[step * size : (step + 1) * size] for step in range(position.window, self.steps)]
        set_training_mode(self.adapted.module, self.objective)
        source = self.feed.epoch(position.epoch, [self.shares.positions(batch) for batch in batches])
        for batch in batches:
            try:
                views, _targets = next(source)
            except (RuntimeError, StopIteration):
                # Ctrl-C reaches the loader's processes as well. Others may be waiting for this one's pictures.
                if self._stop.received and self.shares.world == 1:
                    break
                raise
            self._step(self.shares.whole(views.to(self.accelerator.device, non_blocking=True), len(batch)))
            self._shown.step(position.step, None)
            if len(self._unread) >= SETTLE_STEPS:
                self._settle()
            stop, save = self._agreed(self._stop.received is not None, self._is_time_to_save())
            if stop:
                break
            if save:
                self._save()
        if self._agreed(self._stop.received is not None)[0]:
            self._interrupt()

    def _is_time_to_save(self) -> bool:
        return time.monotonic() - self._saved_at > CHECKPOINT_SECONDS

    def _agreed(self, *wishes: bool) -> list[bool]:
        """What any process wishes, all do."""
        if self.shares.world == 1:
            return list(wishes)
        votes = torch.tensor([float(wish) for wish in wishes], device=self.accelerator.device)
        total: Tensor = self.accelerator.reduce(votes, "sum")
        return [bool(votes > 0) for votes in total.tolist()]

    def _step(self, views: Tensor) -> None:
        """One optimizer step on views, uint8 (N, V, 3, h, w), of the whole batch, on the device."""
        position, optimizer, scaler = self.position, self.snapshot.optimizer, self.snapshot.scaler
        # Everything random in a step follows from (seed, step), so nothing of it needs to be kept.
        torch.manual_seed(_step_seed(self.seed, position.step))
        images = views.unbind(dim=1)
        with self.accelerator.autocast():
            loss, _ = self.objective([self.preprocessing.normalise(view) for view in images])
        self.accelerator.backward(loss)
        self.shares.add_up(self.adapted.module, self.objective)
        if scaler:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        position.rates = dict(learning_rates(optimizer))
        self.snapshot.scheduler.step()
        cast("Objective", self.objective).after_step(position.step)
        self._unread.append(loss.detach())
        position.step += 1
        position.window += 1

    def _settle(self) -> None:
        """Reads the losses of the steps since the last time. Raises NumericalError for one that is not finite."""
        if not self._unread:
            return
        values = torch.stack(self._unread).tolist()
        self._unread.clear()
        for number, value in enumerate(values, start=self.position.step - len(values) + 1):
            if not math.isfinite(value):
                raise NumericalError(
                    f"the loss of the stage adapt is {value} in epoch {self.position.epoch + 1}"
                    f" (optimizer step {number})",
                    hint='lower the learning rate of [adapt], or use train.precision = "fp32"',
                )
            self.position.loss_sum += value

    def _finish_epoch(self, began: float) -> None:
        position = self.position
        self._settle()
        seen = self._look()
        seconds = position.seconds + time.monotonic() - began
        line = {
            "epoch": position.epoch + 1,
            "step": position.step,
            "lr": position.rates,
            "loss": position.loss_sum / self.steps,
            **seen,
            "seconds": round(seconds, 3),
        }
        probe = seen["knn_balanced_accuracy"]
        self.console.info(
            f"adapt {line['epoch']}/{self.adapt.epochs}  loss {line['loss']:.4f}  effective rank"
            f" {seen['effective_rank']:.1f}  feature std {seen['feature_std']:.4f}"
            f"{'' if probe is None else f'  nearest neighbours {probe:.3f}'}  {duration(seconds)}"
        )
        self._refuse_collapse(line)
        position.history.append(line)
        position.epoch += 1
        position.window, position.loss_sum, position.seconds, position.rates = 0, 0.0, 0.0, {}
        self._save()

    def _refuse_collapse(self, line: Mapping[str, Any]) -> None:
        watched = (
            ("effective_rank", "effective rank", self.adapt.min_rank_ratio),
            ("feature_std", "standard deviation", self.adapt.min_std_ratio),
        )
        for key, name, least in watched:
            start = self.position.history[0][key]
            if line[key] < least * start:
                raise RoadworkError(
                    f"the features collapsed in epoch {line['epoch']} of the stage adapt: their {name} fell from"
                    f" {start:.3g} to {line[key]:.3g}, below {least:g} of the start",
                    hint='lower the learning rate of [adapt], or use objective = { use = "vicreg" }',
                )

    @torch.no_grad()
    def _look(self) -> dict[str, float | None]:
        """Spread of the features of the watched pictures, without augmentation and in evaluation mode.

        Their labels are read for the nearest-neighbour probe alone, which is only shown.
        """
        module = self.adapted.module
        module.eval()
        features, labels = [], []
        for images, targets in self.feed.watched:
            with self.accelerator.autocast():
                features.append(module(self.preprocessing.normalise(images.to(self.accelerator.device))).float().cpu())
            labels.append(targets)
        found = torch.cat(features)
        if not torch.isfinite(found).all():
            raise NumericalError(
                f"the features are not finite after optimizer step {self.position.step} of the stage adapt",
                hint="lower the learning rate of [adapt]",
            )
        return {
            "effective_rank": effective_rank(found),
            "feature_std": feature_std(found),
            "knn_balanced_accuracy": knn_balanced_accuracy(found, torch.cat(labels)),
        }

    def _save(self) -> None:
        self._settle()
        if self.accelerator.is_main_process:
            self.snapshot.save(self.position)
        self._saved_at = time.monotonic()

    def _interrupt(self) -> None:
        self._save()
        raise KeyboardInterrupt(
            f"interrupted in epoch {self.position.epoch + 1} of the stage adapt after {self.position.window} of"
            f" {self.steps} steps; the same command goes on from here"
        )


def _step_seed(seed: int, step: int) -> int:
    text = json.dumps(["adapt", seed, step])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % 2**63
