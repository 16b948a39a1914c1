"""The stage adapt: the backbone learns from pictures without labels, those of `train` and others, before it trains."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from attrs import define, field, frozen
from torch import Tensor, nn

from roadwork_core.console import duration
from roadwork_core.data.loading import BatchSchedule, ImageDataset, epoch_order, make_loader, read_rows, worker_count
from roadwork_core.errors import DataError, NumericalError, RoadworkError, UsageError
from roadwork_core.files import canonical_json, write_atomic
from roadwork_core.kinds import AdapterContext, ObjectiveContext, OptimizerContext
from roadwork_core.model import build_backbone, parameter_counts, preprocessing_of, save_weights
from roadwork_core.training.collapse import effective_rank, feature_std, knn_balanced_accuracy
from roadwork_core.training.groups import learning_rates, parameter_groups, set_training_mode
from roadwork_core.training.interruption import StopRequest
from roadwork_core.training.precision import make_accelerator, scaler_of
from roadwork_core.training.progress import Progress
from roadwork_core.training.second_look import Ascending
from roadwork_core.training.snapshot import Position, Snapshot
from roadwork_core.training.views import ViewDataset

if TYPE_CHECKING:
    from accelerate import Accelerator

    from roadwork_core.data.preprocessing import Preprocessing
    from roadwork_core.data.sample import Row
    from roadwork_core.kinds import Adapted, Objective
    from roadwork_core.runs import StageContext
    from roadwork_core.spec.model import Adapt

#: Pictures whose features are looked at after every epoch.
WATCHED = 256
#: Losses are read from the device (which waits for it) this often in steps.
SETTLE_STEPS = 32
#: Seconds between two checkpoints within an epoch.
CHECKPOINT_SECONDS = 120.0


def run(ctx: StageContext) -> Mapping[str, Any]:
    """Writes weights.safetensors (the merged backbone) and history.jsonl (a line an epoch).

    Raises RoadworkError when the features collapse, NumericalError for a non-finite loss, KeyboardInterrupt after
    Ctrl-C, with a checkpoint in the scratch.
    """
    spec, console = ctx.spec, ctx.console
    pictures = _pictures(ctx)
    if len(pictures.adapted_to) < 2:
        raise DataError(f"{len(pictures.adapted_to)} pictures are too few to adapt to", hint="remove [adapt]")
    accelerator, choice = make_accelerator(spec.train.precision)
    if accelerator.num_processes > 1:
        # An objective looks at a batch as a whole: shares of it would be another loss.
        console.info("the stage adapt computes in the first process alone")
    for message, say in ((choice.note, console.info), (choice.warning, console.warn)):
        if message:
            say(message)
    adaptation = _prepare(ctx, pictures, accelerator)
    counts = parameter_counts(adaptation.adapted.module)
    console.info(f"backbone: {counts['total']:,} parameters, {counts['trainable']:,} train without labels")
    for target in adaptation.adapted.targets:
        console.detail(f"adapted: {target}")
    position = adaptation.run()
    merged = adaptation.adapted.merge()
    save_weights(merged, ctx.folder / "weights.safetensors")
    lines = b"".join(canonical_json(line) + b"\n" for line in position.history)
    write_atomic(ctx.folder / "history.jsonl", lines)
    last = position.history[-1]
    return {
        "samples": len(pictures.adapted_to),
        "epochs": len(position.history) - 1,
        "steps": position.step,
        "loss": last["loss"],
        "feature_std": last["feature_std"],
        "effective_rank": last["effective_rank"],
        "effective_rank_at_start": position.history[0]["effective_rank"],
        "knn_balanced_accuracy": last["knn_balanced_accuracy"],
        "knn_balanced_accuracy_at_start": position.history[0]["knn_balanced_accuracy"],
        "parameters": counts,
        "precision": str(choice.precision),
        "device": str(accelerator.device),
        "adapted": list(adaptation.adapted.targets),
    }


def warmed_cosine(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Factor on the learning rate after `step` optimizer steps: a linear rise, then half a cosine down to 0."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    part = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return (1.0 + math.cos(math.pi * min(1.0, part))) / 2.0


@frozen(kw_only=True)
class _Pictures:
    """`train` with labels, of which some are watched, and the pictures that the backbone adapts to."""

    train: Sequence[Row]
    adapted_to: Sequence[Row]


def _pictures(ctx: StageContext) -> _Pictures:
    adapt = cast("Adapt", ctx.spec.adapt)
    train = read_rows(ctx.input("prepare", "samples/train.jsonl"))
    more = read_rows(ctx.input("prepare", "samples/unlabelled.jsonl")) if adapt.data is not None else []
    return _Pictures(train=train, adapted_to=[*(train if adapt.with_train else ()), *more])


@frozen(kw_only=True)
class _Feed:
    """The batches of views, and the pictures that are watched, as they would be scored."""

    views: Any
    schedule: BatchSchedule
    watched: Any

    def epoch(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        self.schedule.set(epoch, batches)
        return iter(self.views)


@define(kw_only=True)
class _Adaptation:
    """One adaptation, from its checkpoint where there is one."""

    ctx: StageContext
    adapt: Adapt
    accelerator: Accelerator
    adapted: Adapted
    objective: nn.Module
    snapshot: Snapshot
    preprocessing: Preprocessing
    feed: _Feed
    samples: int
    position: Position = field(init=False, factory=Position)
    _stop: StopRequest = field(init=False, factory=StopRequest)
    _unread: list[Tensor] = field(init=False, factory=list)
    _shown: Progress = field(init=False)
    _saved_at: float = field(init=False, default=0.0)

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return _steps(self.samples, self.adapt.batch_size)

    def run(self) -> Position:
        self.position = self.snapshot.restore() or Position()
        self._saved_at = time.monotonic()
        self._shown = Progress(self.ctx.console, epochs=self.adapt.epochs, steps=self.steps, done=self.position.step)
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
        order = epoch_order(self.samples, seed=self.ctx.spec.seed, epoch=position.epoch)
        batches = [order[step * size : (step + 1) * size] for step in range(position.window, self.steps)]
        set_training_mode(self.adapted.module, self.objective)
        source = self.feed.epoch(position.epoch, batches)
        for _ in batches:
            try:
                views, _targets = next(source)
            except (RuntimeError, StopIteration):
                # Ctrl-C reaches the loader's processes as well.
                if self._stop.received:
                    break
                raise
            self._step(views)
            self._shown.step(position.step, None)
            if len(self._unread) >= SETTLE_STEPS:
                self._settle()
            if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
                self._save()
            if self._stop.received:
                break
        if self._stop.received:
            self._interrupt()

    def _step(self, views: Tensor) -> None:
        """One optimizer step on views, uint8 (N, V, 3, h, w)."""
        position, optimizer, scaler = self.position, self.snapshot.optimizer, self.snapshot.scaler
        # Everything random in a step follows from (seed, step), so nothing of it needs to be kept.
        torch.manual_seed(_step_seed(self.ctx.spec.seed, position.step))
        images = views.to(self.accelerator.device, non_blocking=True).unbind(dim=1)
        with self.accelerator.autocast():
            loss, _ = self.objective([self.preprocessing.normalise(view) for view in images])
        self.accelerator.backward(loss)
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
        self.ctx.console.info(
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
        self.snapshot.save(self.position)
        self._saved_at = time.monotonic()

    def _interrupt(self) -> None:
        self._save()
        raise KeyboardInterrupt(
            f"interrupted in epoch {self.position.epoch + 1} of the stage adapt after {self.position.window} of"
            f" {self.steps} steps; the same command goes on from here"
        )


def _prepare(ctx: StageContext, pictures: _Pictures, accelerator: Accelerator) -> _Adaptation:
    spec, adapt = ctx.spec, cast("Adapt", ctx.spec.adapt)
    torch.manual_seed(spec.seed)
    backbone = build_backbone(spec, ctx.console.detail)
    preprocessing = preprocessing_of(spec, backbone)
    original = frozenset(id(parameter) for parameter in backbone.parameters())
    adapted: Adapted = adapt.adapter.build(AdapterContext(backbone=backbone, seed=spec.seed))
    if not any(parameter.requires_grad for parameter in adapted.module.parameters()):
        raise UsageError(
            "the adapter of [adapt] leaves nothing of the backbone to train", hint='use another, such as "dora"'
        )
    adapted.module.to(accelerator.device)
    total_steps = adapt.epochs * _steps(len(pictures.adapted_to), adapt.batch_size)
    # The objective's first weights must not depend on how many numbers the backbone drew.
    torch.manual_seed(spec.seed)
    objective: nn.Module = adapt.objective.build(
        ObjectiveContext(
            backbone=adapted.module,
            feature_dim=cast(int, backbone.feature_dim),
            image_size=preprocessing.size,
            total_steps=total_steps,
        )
    ).to(accelerator.device)
    groups = parameter_groups(adapted.module, objective, original, spec.optimizer.lr_scale)
    optimizer = (adapt.optimizer or spec.optimizer.component).build(OptimizerContext(groups=groups))
    if isinstance(optimizer, Ascending):
        raise UsageError(
            "the optimizer takes two passes a step, which the stage adapt does not make",
            hint='give [adapt] its own, such as optimizer = { use = "adamw" }',
        )
    factor = partial(
        warmed_cosine,
        warmup_steps=min(round(adapt.warmup_ratio * total_steps), total_steps - 1),
        total_steps=total_steps,
    )
    snapshot = Snapshot(
        model=nn.ModuleDict({"backbone": adapted.module, "objective": objective}),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, factor),
        ema=None,
        scaler=scaler_of(accelerator),
        folder=ctx.scratch,
    )
    return _Adaptation(
        ctx=ctx,
        adapt=adapt,
        accelerator=accelerator,
        adapted=adapted,
        objective=objective,
        snapshot=snapshot,
        preprocessing=preprocessing,
        feed=_feed(ctx, pictures, preprocessing, cast("Objective", objective).views, accelerator.device),
        samples=len(pictures.adapted_to),
    )


def _feed(
    ctx: StageContext, pictures: _Pictures, preprocessing: Preprocessing, views: int, device: torch.device
) -> _Feed:
    spec = ctx.spec
    pin = device.type == "cuda"
    schedule = BatchSchedule()
    dataset = ViewDataset(
        pictures.adapted_to, preprocessing, views=views, seed=spec.seed, max_pixels=spec.data.max_pixels
    )
    train = pictures.train
    evenly = np.unique(np.linspace(0, len(train) - 1, min(WATCHED, len(train))).astype(int))
    watched = [train[position] for position in evenly]
    batches = [list(range(start, min(start + 64, len(watched)))) for start in range(0, len(watched), 64)]
    return _Feed(
        views=make_loader(dataset, schedule, workers=worker_count(spec.data.workers), pin_memory=pin),
        schedule=schedule,
        watched=make_loader(
            ImageDataset(watched, preprocessing, max_pixels=spec.data.max_pixels), batches, workers=0, pin_memory=pin
        ),
    )


def _steps(samples: int, batch_size: int) -> int:
    # A last batch that is not full is left out of its epoch: batch statistics of a few pictures would only disturb.
    return max(1, samples // batch_size)


def _step_seed(seed: int, step: int) -> int:
    text = json.dumps(["adapt", seed, step])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % 2**63
