"""The stage train: supervised training on `train`, the epoch chosen on `val_select`, the classifier written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np
import torch
from attrs import frozen
from torch import nn

from roadwork_core.data.loading import read_rows, worker_count
from roadwork_core.errors import DataError, Problem, RoadworkError, SpecError
from roadwork_core.files import canonical_json, pretty_json, write_atomic
from roadwork_core.kinds import (
    AdapterContext,
    AugmentationContext,
    LossContext,
    OptimizerContext,
    SchedulerContext,
    TrackerContext,
)
from roadwork_core.model import (
    Classifier,
    build_backbone,
    build_head,
    describe,
    load_weights,
    parameter_counts,
    preprocessing_of,
    reads_tokens,
    save_weights,
)
from roadwork_core.runs.fingerprint import library_versions, plugin_versions
from roadwork_core.runs.sharding import shares_weights
from roadwork_core.training.ema import Ema
from roadwork_core.training.extraction import Extractor
from roadwork_core.training.feature_feed import AsKept, HeadAlone, obstacle
from roadwork_core.training.features import FEATURES_FOLDER, FeatureCache
from roadwork_core.training.feed import PictureFeed
from roadwork_core.training.groups import parameter_groups, set_training_mode
from roadwork_core.training.kept import Keeper
from roadwork_core.training.loop import Loop
from roadwork_core.training.plan import steps_per_epoch
from roadwork_core.training.precision import Precision, make_accelerator, scaler_of
from roadwork_core.training.progress import Progress
from roadwork_core.training.recipe import Feed, Normaliser, Recipe
from roadwork_core.training.selection import best_epoch
from roadwork_core.training.shards import explained, is_sharded, shard
from roadwork_core.training.shared_norm import share_batch_norm
from roadwork_core.training.snapshot import Position, Snapshot

if TYPE_CHECKING:
    from accelerate import Accelerator
    from numpy.typing import NDArray

    from roadwork_core.data.preprocessing import Preprocessing
    from roadwork_core.data.sample import Row
    from roadwork_core.kinds import Adapted
    from roadwork_core.runs import StageContext

TRACKERS = "trackers"


@frozen(kw_only=True)
class _Splits:
    """What this stage may see of the data."""

    train: Sequence[Row]
    val_select: Sequence[Row]
    classes: Sequence[str]
    positive: int

    @property
    def class_counts(self) -> NDArray[np.int64]:
        targets = np.array([row.target for row in self.train], dtype=np.int64)
        return np.bincount(targets, minlength=len(self.classes)).astype(np.int64)


@frozen(kw_only=True)
class _Parts:
    """The model in its parts, as they train."""

    adapted: Adapted
    head: nn.Module
    model: Classifier
    preprocessing: Preprocessing
    original: frozenset[int]
    architecture: Mapping[str, Any]


@frozen(kw_only=True)
class _Source:
    """What the loop reads, and the module that it goes through; `features` says what was kept and computed."""

    feed: Feed
    preprocessing: Normaliser
    forward: nn.Module
    features: Mapping[str, Any] | None = None


def run(ctx: StageContext) -> Mapping[str, Any]:
    """Writes weights.safetensors (of the best epoch, averaged where EMA is on, merged), model.json, history.jsonl.

    Raises NumericalError for a non-finite loss; KeyboardInterrupt after Ctrl-C, with a checkpoint in the scratch.
    """
    spec, console = ctx.spec, ctx.console
    splits = _read_splits(ctx)
    if not splits.val_select:
        raise DataError("val_select has no samples, so no epoch can be chosen", hint="raise data.splits.val_select")
    accelerator, choice = make_accelerator(
        spec.train.precision,
        trackers=partial(_trackers, ctx),
        folder=ctx.run.path / TRACKERS,
        # What a backbone makes of its tokens to pool them itself is then not called.
        unused_parameters=reads_tokens(spec.head),
    )
    if choice.note:
        console.info(choice.note)
    if choice.warning:
        console.warn(choice.warning)
    if shared := shares_weights() and accelerator.num_processes > 1:
        _refuse_scaling(choice.precision)
    # A model that is to be divided may not fit on the device before it is.
    parts = _build(ctx, splits, torch.device("cpu") if shared else accelerator.device)
    if accelerator.num_processes > 1:
        share_batch_norm(parts.model)
    counts = parameter_counts(parts.model)
    console.info(f"model: {counts['total']:,} parameters, {counts['trainable']:,} train")
    for target in parts.adapted.targets:
        console.detail(f"adapted: {target}")
    accelerator.init_trackers(ctx.run.name, config=_flat(ctx.resolved.values))
    try:
        source = _source(ctx, splits, parts, accelerator)
        if shared:
            parts = _shared(ctx, parts, source, accelerator.device)
        loop = _loop(ctx, splits, parts, source, accelerator)
        position = loop.run()
        # The checkpoint goes with the stage: not before all processes have read the best weights from it.
        accelerator.wait_for_everyone()
    except RuntimeError as error:
        raise (explained(error) or _explained(error, compiled=spec.train.compile)) from error
    finally:
        for tracker in accelerator.trackers if accelerator.is_main_process else ():
            tracker.finish()
    if accelerator.is_main_process:
        if is_sharded(parts.model):
            parts = _build(ctx, splits, torch.device("cpu"))
            loop.snapshot.load_best(position, into=parts.model)
        _write(ctx, splits, parts, position)
    best = best_epoch(position.history, spec.train.select_by)
    return {
        "best_epoch": best.epoch if best else None,
        "epochs": len(position.history),
        "steps": position.step,
        "val_select": next((dict(line) for line in position.history if best and line["epoch"] == best.epoch), {}),
        "parameters": counts,
        "precision": str(choice.precision),
        "device": str(accelerator.device),
        "adapted": list(parts.adapted.targets),
        "features": source.features,
        "train_seconds": round(sum(line["seconds"] for line in position.history), 3),
    }


def _read_splits(ctx: StageContext) -> _Splits:
    document = json.loads(ctx.input("prepare", "classes.json").read_bytes())
    return _Splits(
        train=read_rows(ctx.input("prepare", "samples/train.jsonl")),
        val_select=read_rows(ctx.input("prepare", "samples/val_select.jsonl")),
        classes=document["classes"],
        positive=document["positive"],
    )


def _build(ctx: StageContext, splits: _Splits, device: torch.device) -> _Parts:
    spec = ctx.spec
    torch.manual_seed(spec.seed)
    backbone = build_backbone(spec, ctx.console.detail)
    if spec.adapt is not None:
        load_weights(backbone, ctx.input("adapt", "weights.safetensors"))
    preprocessing = preprocessing_of(spec, backbone)
    # The head's first weights must not depend on how many numbers the backbone drew.
    torch.manual_seed(spec.seed)
    head = build_head(spec, backbone, splits.class_counts)
    original = frozenset(id(parameter) for parameter in backbone.parameters())
    architecture = dict(cast("Mapping[str, Any]", backbone.architecture))
    adapted = spec.adapter.build(AdapterContext(backbone=backbone, seed=spec.seed))
    model = Classifier(adapted.module, head).to(device)
    return _Parts(
        adapted=adapted,
        head=head,
        model=model,
        preprocessing=preprocessing,
        original=original,
        architecture=architecture,
    )


def _refuse_scaling(precision: Precision) -> None:
    if precision is Precision.FP16:
        problem = "fp16 scales gradients by what the whole of them allows, and here each process has a share"
        raise SpecError([Problem(problem, key="train.precision", hint='use "bf16" or "fp32"')])


def _shared(ctx: StageContext, parts: _Parts, source: _Source, device: torch.device) -> _Parts:
    """The model with a share of its weights in this process; whole where only the head is computed."""
    if source.features is not None:
        ctx.console.info("weights are not shared out: with kept features only the head is computed")
        return parts
    backbone = parts.adapted.module
    own = [name for name, parameter in backbone.named_parameters() if id(parameter) in parts.original]
    shard(parts.model, cast(Any, backbone).blocks(), device)
    ctx.console.info(f"weights: one share in each of {torch.distributed.get_world_size()} processes")
    return attrs.evolve(parts, original=frozenset(id(backbone.get_parameter(name)) for name in own))


def _augmentations(ctx: StageContext, splits: _Splits, parts: _Parts, on: str) -> list[Any]:
    context = AugmentationContext(image_size=parts.preprocessing.size, num_classes=len(splits.classes))
    return [augment.component.build(context) for augment in ctx.spec.augment if augment.on == on]


def _source(ctx: StageContext, splits: _Splits, parts: _Parts, accelerator: Accelerator) -> _Source:
    """Kept features where the spec lets them be kept, else pictures."""
    spec, train = ctx.spec, ctx.spec.train
    samples = len(splits.train), len(splits.val_select)
    if (found := obstacle(train, spec.augment, parts.model, samples=samples)) is None:
        return _features(ctx, splits, parts, accelerator)
    say = ctx.console.detail if found.expected else ctx.console.info
    say(f"features are not kept: {found.reason} ({found.hint})")
    feed = PictureFeed(
        splits.train,
        splits.val_select,
        parts.preprocessing,
        _augmentations(ctx, splits, parts, "sample"),
        seed=spec.seed,
        batch_size=train.batch_size,
        workers=worker_count(spec.data.workers),
        max_pixels=spec.data.max_pixels,
        pin_memory=accelerator.device.type == "cuda",
        sampler=train.sampler,
    )
    return _Source(feed=feed, preprocessing=parts.preprocessing, forward=parts.model)


def _features(ctx: StageContext, splits: _Splits, parts: _Parts, accelerator: Accelerator) -> _Source:
    spec, train = ctx.spec, ctx.spec.train
    parts.model.to(accelerator.device)
    keeper = Keeper(
        cache=FeatureCache(ctx.cache_dir / FEATURES_FOLDER, limit=int(train.feature_cache_gib * 2**30)),
        extractor=Extractor(
            backbone=parts.adapted.module,
            preprocessing=parts.preprocessing,
            device=accelerator.device,
            autocast=accelerator.autocast if accelerator.native_amp else nullcontext,
        ),
        made_by={
            "architecture": parts.architecture,
            "versions": {**library_versions(), **plugin_versions([spec.backbone], ctx.plugins)},
        },
        accelerator=accelerator,
        console=ctx.console,
        seed=spec.seed,
        batch_size=train.batch_size,
        sampler=train.sampler,
        workers=worker_count(spec.data.workers),
        max_pixels=spec.data.max_pixels,
    )
    kept = keeper.keep(
        splits.train,
        splits.val_select,
        augmentations=_augmentations(ctx, splits, parts, "sample"),
        described=ctx.resolved.values["augment"],
        views=train.feature_views or 1,
    )
    return _Source(feed=kept.feed, preprocessing=AsKept(), forward=HeadAlone(parts.model.head), features=kept.report)


def _loop(ctx: StageContext, splits: _Splits, parts: _Parts, source: _Source, accelerator: Accelerator) -> Loop:
    spec, train, model = ctx.spec, ctx.spec.train, parts.model
    loss = spec.loss.build(
        LossContext(num_classes=len(splits.classes), class_counts=splits.class_counts, positive=splits.positive)
    )
    if isinstance(loss, nn.Module):
        loss.to(accelerator.device)
    groups = parameter_groups(parts.adapted.module, parts.head, parts.original, spec.optimizer.lr_scale)
    optimizer = spec.optimizer.component.build(OptimizerContext(groups=groups))
    steps = steps_per_epoch(len(splits.train), train.batch_size, train.accumulate)
    scheduler = spec.scheduler.build(
        SchedulerContext(optimizer=optimizer, total_steps=steps * train.epochs, steps_per_epoch=steps)
    )
    forward: Any = source.forward
    if accelerator.num_processes > 1 and not is_sharded(forward):
        forward = accelerator.prepare_model(forward)
    return Loop(
        recipe=Recipe(
            epochs=train.epochs,
            batch_size=train.batch_size,
            accumulate=train.accumulate,
            clip_norm=train.clip_norm,
            select_by=train.select_by,
            patience=train.patience,
            seed=spec.seed,
            num_classes=len(splits.classes),
            positive=splits.positive,
            mix=_augmentations(ctx, splits, parts, "batch"),
        ),
        feed=source.feed,
        preprocessing=source.preprocessing,
        accelerator=accelerator,
        snapshot=Snapshot(
            model=model,
            optimizer=optimizer,
            scheduler=scheduler,
            ema=Ema(model, train.ema) if train.ema is not None else None,
            scaler=scaler_of(accelerator),
            folder=ctx.scratch,
        ),
        forward=torch.compile(forward) if train.compile else forward,
        set_training_mode=lambda: set_training_mode(parts.adapted.module, parts.head),
        loss=loss,
        progress=lambda done: Progress(ctx.console, epochs=train.epochs, steps=steps, done=done),
        on_epoch=lambda line: _tell(ctx, accelerator, line),
    )


def _tell(ctx: StageContext, accelerator: Accelerator, line: Mapping[str, Any]) -> None:
    values = {key: value for key, value in _flat(line).items() if isinstance(value, int | float)}
    accelerator.log(values, step=line["step"])
    ctx.plugins.hook.roadwork_epoch_finished(run=ctx.run, metrics=line)


def _write(ctx: StageContext, splits: _Splits, parts: _Parts, position: Position) -> None:
    counts = parameter_counts(parts.model)
    merged = parts.adapted.merge()
    document = describe(
        ctx.spec,
        merged,
        parts.preprocessing,
        splits.classes,
        splits.positive,
        ctx.plugins,
        adapted=parts.adapted.targets,
        parameters=counts,
    )
    save_weights(Classifier(merged, parts.head), ctx.folder / "weights.safetensors")
    write_atomic(ctx.folder / "model.json", pretty_json(document))
    lines = b"".join(canonical_json(line) + b"\n" for line in position.history)
    write_atomic(ctx.folder / "history.jsonl", lines)


def _trackers(ctx: StageContext) -> list[Any]:
    folder = ctx.run.path / TRACKERS
    return [
        component.build(TrackerContext(run_name=ctx.run.name, folder=folder / ctx.plugins.use_name(component)))
        for component in ctx.spec.tracker
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys with plain values, which is what every tracker takes."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            flat[f"{prefix}{key}"] = value
        elif value is not None:
            flat[f"{prefix}{key}"] = json.dumps(value)
    return flat


def _explained(error: RuntimeError, *, compiled: bool) -> Exception:
    """What a user can do about a failure of the device or the compiler; other errors as they are."""
    if isinstance(error, torch.OutOfMemoryError):
        return RoadworkError(
            "the device ran out of memory", hint="lower train.batch_size and raise train.accumulate by as much"
        )
    if compiled and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return RoadworkError(f"torch.compile failed: {first}", hint="set train.compile = false")
    return error
