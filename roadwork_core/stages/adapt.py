"""The stage adapt: the backbone learns from pictures without labels, those of `train` and others, before it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from attrs import frozen
from torch import nn

from roadwork_core.data.loading import BatchSchedule, ImageDataset, make_loader, read_rows, worker_count
from roadwork_core.errors import DataError, UsageError
from roadwork_core.files import canonical_json, write_atomic
from roadwork_core.kinds import AdapterContext, ObjectiveContext, OptimizerContext
from roadwork_core.model import build_backbone, parameter_counts, preprocessing_of, save_weights
from roadwork_core.training.adaptation import Adaptation, ViewFeed, full_batches, warmed_cosine
from roadwork_core.training.batch_shares import BatchShares
from roadwork_core.training.groups import parameter_groups
from roadwork_core.training.precision import make_accelerator, scaler_of
from roadwork_core.training.second_look import Ascending
from roadwork_core.training.shared_norm import share_batch_norm
from roadwork_core.training.snapshot import Snapshot
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
    if accelerator.num_processes > min(len(pictures.adapted_to), cast("Adapt", spec.adapt).batch_size):
        raise UsageError(
            f"{accelerator.num_processes} processes cannot share a batch of the stage adapt",
            hint="start fewer, or raise adapt.batch_size",
        )
    for message, say in ((choice.note, console.info), (choice.warning, console.warn)):
        if message:
            say(message)
    adaptation = _prepare(ctx, pictures, accelerator)
    counts = parameter_counts(adaptation.adapted.module)
    console.info(f"backbone: {counts['total']:,} parameters, {counts['trainable']:,} train without labels")
    for target in adaptation.adapted.targets:
        console.detail(f"adapted: {target}")
    # Objectives look at a whole batch when they are made, too: only what they compute from now on is divided.
    hooks = adaptation.shares.divide(adaptation.adapted.module)
    position = adaptation.run()
    for hook in hooks:
        hook.remove()
    if accelerator.is_main_process:
        save_weights(adaptation.adapted.merge(), ctx.folder / "weights.safetensors")
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


def _prepare(ctx: StageContext, pictures: _Pictures, accelerator: Accelerator) -> Adaptation:
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
    shares = BatchShares(accelerator.process_index, accelerator.num_processes)
    if shares.world > 1:
        share_batch_norm(adapted.module)
    adapted.module.to(accelerator.device)
    total_steps = adapt.epochs * full_batches(len(pictures.adapted_to), adapt.batch_size)
    # The objective's first weights must not depend on how many numbers the backbone drew.
    torch.manual_seed(spec.seed)
    objective: nn.Module = adapt.objective.build(
        ObjectiveContext(
            backbone=adapted.module,
            feature_dim=cast(int, backbone.feature_dim),
            image_size=preprocessing.size,
            total_steps=total_steps,
            own=shares.own,
            whole=shares.whole,
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
    return Adaptation(
        adapt=adapt,
        shares=shares,
        seed=spec.seed,
        console=ctx.console,
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
) -> ViewFeed:
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
    return ViewFeed(
        views=make_loader(dataset, schedule, workers=worker_count(spec.data.workers), pin_memory=pin),
        schedule=schedule,
        watched=make_loader(
            ImageDataset(watched, preprocessing, max_pixels=spec.data.max_pixels), batches, workers=0, pin_memory=pin
        ),
    )
