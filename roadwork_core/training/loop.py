"""The training loop: optimizer steps, epochs, validation, selection; interruptible and exactly resumable."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import define, field
from torch import Tensor, nn

from roadwork_core.errors import NumericalError
from roadwork_core.kinds import StagedLoss

from .groups import learning_rates
from .interruption import StopRequest
from .plan import Window, epoch_windows, steps_per_epoch
from .progress import Progress
from .recipe import Feed, Normaliser, Recipe
from .second_look import Ascending, recorded, statistics_kept
from .selection import best_epoch, epoch_metrics, out_of_patience
from .shards import in_step, is_sharded
from .snapshot import Position, Snapshot
from .validation import Batch, val_select_logits

if TYPE_CHECKING:
    from accelerate import Accelerator

#: Losses are read from the device (which waits for it) at least this often in steps and in seconds.
SETTLE_STEPS = 32
SETTLE_SECONDS = 1.0
#: A checkpoint in mid-epoch costs at most one part in this many of the time.
CHECKPOINT_COST = 50


@define(kw_only=True)
class Loop:
    """One training. `forward` is what is called (compiled or distributed), `snapshot.model` the module behind it.

    `on_epoch(line)` is called in the main process with every finished epoch's line of the history, before its
    checkpoint is written, so that after a kill a line may come twice but never be missing.
    """

    recipe: Recipe
    feed: Feed
    preprocessing: Normaliser
    accelerator: Accelerator
    snapshot: Snapshot
    forward: nn.Module | Callable[[Tensor], Tensor]
    set_training_mode: Callable[[], None]
    loss: Callable[[Tensor, Tensor], Tensor]
    progress: Callable[[int], Progress]
    on_epoch: Callable[[Mapping[str, Any]], None]
    position: Position = field(init=False, factory=Position)
    _unread: list[tuple[Tensor, int]] = field(init=False, factory=list)
    _stop: StopRequest = field(init=False, factory=StopRequest)
    _shown: Progress = field(init=False)
    _clock: float = field(init=False, default=0.0)
    _settled_at: float = field(init=False, default=0.0)
    _saved_at: float = field(init=False, default=0.0)
    _save_cost: float = field(init=False, default=0.0)
    _last_loss: float | None = field(init=False, default=None)
    _interval: int = field(init=False, default=1)

    @property
    def _sharded(self) -> bool:
        return is_sharded(self.snapshot.model)

    @property
    def _writes(self) -> bool:
        return bool(self.accelerator.is_main_process)

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return steps_per_epoch(self.feed.size, self.recipe.batch_size, self.recipe.accumulate)

    def run(self) -> Position:
        """Trains to the end, from the checkpoint where there is one; the model then has the best epoch's weights.

        Raises NumericalError for a non-finite loss, KeyboardInterrupt after SIGINT or SIGTERM (with a checkpoint).
        """
        self.position = self.snapshot.restore() or Position()
        self._shown = self.progress(self.position.step)
        self._clock = self._settled_at = self._saved_at = time.monotonic()
        with self._stop:
            while not self._finished():
                self._train()
                self._finish_epoch()
        self.snapshot.load_best(self.position)
        return self.position

    def _finished(self) -> bool:
        recipe, history = self.recipe, self.position.history
        return len(history) >= recipe.epochs or out_of_patience(history, recipe.select_by, recipe.patience)

    # --- optimizer steps ------------------------------------------------------------------------------------------

    def _train(self) -> None:
        accelerator, recipe, epoch = self.accelerator, self.recipe, self.position.epoch
        windows = epoch_windows(
            self.feed.order(epoch),
            recipe.batch_size,
            recipe.accumulate,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )
        rest = windows[self.position.window :]
        if not rest:
            return
        self.set_training_mode()
        if isinstance(self.loss, StagedLoss):
            self.loss.begin_epoch(epoch, recipe.epochs)
        source = iter(self.feed.training(epoch, [micro.indices for window in rest for micro in window.batches]))
        for window in rest:
            total = self._gradient(window, source)
            if total is None:
                break
            self._unread.append((total, window.samples))
            self._update(last=window is rest[-1])
            self._between_steps()
        if self._agreed(self._stop.received is not None):
            self._interrupt()

    def _gradient(self, window: Window, source: Iterator[Batch]) -> Tensor | None:
        """The window's mean loss, with the gradients in place that the optimizer steps by; None when stopped."""
        optimizer = self.snapshot.optimizer
        if not isinstance(optimizer, Ascending):
            return self._accumulate(window, source)
        kept: list[Batch] = []
        total = self._accumulate(window, recorded(source, kept))
        if total is not None:
            optimizer.ascend()
            self.snapshot.optimizer.zero_grad(set_to_none=True)
            # Dropout and mixing draw from the seed of the step, so they are the same once more.
            with statistics_kept(self.snapshot.model):
                self._accumulate(window, iter(kept))
            optimizer.descend()
        return total

    def _accumulate(self, window: Window, source: Iterator[Batch]) -> Tensor | None:
        """The window's mean loss with its gradients in place; None when the pictures ended by a stop request."""
        total: Tensor | None = None
        world = self.accelerator.num_processes
        for number, micro in enumerate(window.batches):
            try:
                images, targets = next(source)
            except (RuntimeError, StopIteration):
                # Ctrl-C reaches the loader's processes as well.
                if self._stop.received:
                    return None
                raise
            self._seed(number)
            # Gradients that wait for the others are whole: too much for a process that holds a share of the weights.
            syncs = world == 1 or self._sharded or number == len(window.batches) - 1
            with nullcontext() if syncs else self.accelerator.no_sync(self.forward):
                losses = self._losses(images, targets)
                factor = world / window.samples if micro.counted else 0.0
                if losses.ndim == 0:
                    factor *= len(micro.indices)
                part = losses.sum() if losses.ndim else losses
                if factor != 1.0:
                    part = part * factor
                self.accelerator.backward(part)
            total = part.detach() if total is None else total + part.detach()
        return total

    def _losses(self, images: Tensor, targets: Tensor) -> Tensor:
        inputs = self._inputs(images)
        target = targets.to(self.accelerator.device, non_blocking=True)
        if self.recipe.mix:
            target = nn.functional.one_hot(target, self.recipe.num_classes).float()
            for mix in self.recipe.mix:
                inputs, target = mix(inputs, target)
        with self._autocast():
            logits = self.forward(inputs)
        return self.loss(logits.float(), target)

    def _inputs(self, images: Tensor) -> Tensor:
        return self.preprocessing.normalise(images.to(self.accelerator.device, non_blocking=True))

    def _autocast(self) -> AbstractContextManager[None]:
        # Accelerate's context costs some 10 microseconds also where it does nothing.
        return self.accelerator.autocast() if self.accelerator.native_amp else nullcontext()

    def _seed(self, number: int) -> None:
        """Everything random in a forward pass follows from (seed, step), so nothing of it needs to be kept."""
        seed = self.recipe.seed_of(self.position.step, number, self.accelerator.process_index)
        torch.default_generator.manual_seed(seed % 2**63)
        device = self.accelerator.device
        if device.type == "cuda":
            torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed % 2**63)
        elif device.type != "cpu":
            torch.manual_seed(seed % 2**63)

    def _update(self, *, last: bool) -> None:
        snapshot, scaler = self.snapshot, self.snapshot.scaler
        optimizer = snapshot.optimizer
        if self.recipe.clip_norm is not None:
            if scaler:
                scaler.unscale_(optimizer)
            weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(weights, self.recipe.clip_norm)
        skipped = False
        if scaler:
            before = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            skipped = scaler.get_scale() < before
        else:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        position = self.position
        if last:
            position.rates = dict(learning_rates(optimizer))
        position.step += 1
        position.window += 1
        if not skipped:
            snapshot.scheduler.step()
            if snapshot.ema:
                snapshot.ema.update(position.step)

    # --- between steps --------------------------------------------------------------------------------------------

    def _between_steps(self) -> None:
        """Reads the losses now and then, and saves; several processes do so at the same steps."""
        now = time.monotonic()
        alone = self.accelerator.num_processes == 1
        due = len(self._unread) >= (SETTLE_STEPS if alone else self._interval)
        if due or (alone and (self._stop.received or now - self._settled_at >= SETTLE_SECONDS)):
            self._settle()
        if alone or due:
            interval = max(self.recipe.checkpoint_seconds, CHECKPOINT_COST * self._save_cost)
            wanted = self._agreed(now - self._saved_at >= interval or self._stop.received is not None)
            if wanted:
                self._save()
            if wanted and self._agreed(self._stop.received is not None):
                self._interrupt()
        self._shown.step(self.position.step, self._last_loss)

    def _agreed(self, wish: bool) -> bool:
        """What any process wishes, all do."""
        if self.accelerator.num_processes == 1:
            return wish
        votes: Tensor = self.accelerator.reduce(torch.tensor(float(wish), device=self.accelerator.device), "sum")
        return bool(votes.item() > 0)

    def _settle(self) -> None:
        """Reads the losses of the steps since the last time. Raises NumericalError for one that is not finite."""
        before, self._settled_at = self._settled_at, time.monotonic()
        if not self._unread:
            return
        losses = torch.stack([loss for loss, _ in self._unread])
        if self.accelerator.num_processes > 1:
            seconds = losses.new_tensor([self._settled_at - before])
            losses = self.accelerator.reduce(torch.cat([losses, seconds]), "mean")
            losses, shared = losses[:-1], float(losses[-1])
            # All processes reach the same number, and so look up at the same step.
            each = max(shared / len(losses), 1e-9)
            self._interval = max(1, min(SETTLE_STEPS, int(SETTLE_SECONDS / each)))
        values = losses.tolist()
        first = self.position.window - len(values) + 1
        for offset, (value, (_, samples)) in enumerate(zip(values, self._unread, strict=True)):
            if not math.isfinite(value):
                step = self.position.step - len(values) + 1 + offset
                raise NumericalError(
                    f"the loss is {value} in epoch {self.position.epoch + 1}, step {first + offset} of {self.steps}"
                    f" (optimizer step {step})",
                    hint='lower optimizer.lr, set train.clip_norm, or use train.precision = "fp32"',
                )
            self.position.loss_sum += value * samples
        self._last_loss = values[-1]
        self._unread.clear()

    def _save(self) -> None:
        self._settle()
        now = time.monotonic()
        self.position.seconds += now - self._clock
        self._clock = now
        if self._writes or self._sharded:
            self.snapshot.save(self.position, write=self._writes)
        self._saved_at = time.monotonic()
        self._save_cost = self._saved_at - now

    def _interrupt(self) -> None:
        self._save()
        raise KeyboardInterrupt(
            f"interrupted in epoch {self.position.epoch + 1} after {self.position.window} of {self.steps} steps;"
            " the same command goes on from here"
        )

    # --- epochs ---------------------------------------------------------------------------------------------------

    def _finish_epoch(self) -> None:
        position, recipe, snapshot = self.position, self.recipe, self.snapshot
        self._settle()
        trained = position.seconds + time.monotonic() - self._clock
        with snapshot.ema.applied() if snapshot.ema else nullcontext():
            metrics = self._validate()
            if metrics is not None:
                line = {
                    "epoch": position.epoch + 1,
                    "step": position.step,
                    "lr": position.rates,
                    "train_loss": position.loss_sum / self.feed.size,
                    **metrics,
                    "seconds": round(position.seconds + time.monotonic() - self._clock, 3),
                    "images_per_second": round(self.feed.size / max(trained, 1e-9), 2),
                }
                position.history.append(line)
                best = best_epoch(position.history, recipe.select_by)
                improved = best is not None and best.epoch == line["epoch"]
                if improved:
                    position.best = snapshot.keep_best(position.epoch + 1, write=self._writes)
        if metrics is None:
            self._interrupt()
        self._shown.epoch(line, recipe.select_by, best=improved)
        if self._writes:
            self.on_epoch(line)
        position.epoch += 1
        position.window, position.loss_sum, position.seconds, position.rates = 0, 0.0, 0.0, {}
        self._clock = time.monotonic()
        self._save()
        position.seconds = 0.0
        self.accelerator.wait_for_everyone()

    def _validate(self) -> dict[str, float | None] | None:
        """Metrics on val_select of the weights that would be exported now; None when a stop was requested."""
        self._shown.validation(self.position.epoch + 1)
        self.snapshot.model.eval()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        batches = ((self._inputs(images), targets) for images, targets in self.feed.validation(rank, world))
        found = val_select_logits(
            in_step(batches, self._stand_in, self.accelerator) if self._sharded else batches,
            self.forward,
            self.accelerator,
            num_classes=self.recipe.num_classes,
            autocast=self._autocast,
            stopped=lambda: self._stop.received is not None,
        )
        if found is None:
            return None
        logits, labels = found
        if not np.isfinite(logits).all():
            raise NumericalError(
                f"the logits on val_select are not finite after epoch {self.position.epoch + 1}"
                f" (optimizer step {self.position.step})",
                hint="lower optimizer.lr or set train.clip_norm",
            )
        return epoch_metrics(logits, labels, self.recipe.positive)

    def _stand_in(self) -> Tensor:
        """The input that the first picture of val_select makes alone."""
        images, _ = next(iter(self.feed.validation(0, sys.maxsize)))
        return self._inputs(images)
