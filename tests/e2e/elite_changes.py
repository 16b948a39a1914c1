"""Every key of specs/elite.toml with another value, and what of the run that must change and what must not.

What a run shows is named `stage/file` (its bytes), `stage/file#a.b` (a value of a JSON or JSON Lines file) or
`decisions/<policy>` (what that policy says to the logits of test).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, frozen

ADAPTED = "adapt/weights.safetensors"
TRAINED = "train/weights.safetensors"
SCORED = ("score/val_calib.csv", "score/test.csv")
SPLIT = "prepare/report.json#digest"
TRAIN = "train/manifest.json#metrics"
ADAPT = "adapt/manifest.json#metrics"
#: The stage adapt with an optimizer of its own, equal to that of [optimizer], which then is that of train alone.
APART = ("adapt.optimizer={use='adamw', lr=3e-4}",)
#: Another policy with a cut, and another one with sets, which nothing uses.
SPARE = ("policy.cut={use='threshold', metric='precision_at_recall'}", "policy.sets={use='conformal', alpha=0.4}")


@frozen(kw_only=True)
class Change:
    """What `settings` do to a run that has `given` as well.

    `first` is the first stage that is not up to date any more, `last` the last that is needed to see the change.
    """

    settings: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    first: str
    last: str = ""
    differs: tuple[str, ...] = ()
    becomes: Mapping[str, Any] = Factory(dict)
    same: tuple[str, ...] = ()


@frozen(kw_only=True)
class Refusal:
    """A value that stops the run, with these words in the line that says why."""

    settings: tuple[str, ...]
    words: tuple[str, ...]


def in_adapt(*settings: str, differs: tuple[str, ...] = (), becomes: Mapping[str, Any] | None = None) -> Change:
    return Change(settings=settings, first="adapt", differs=(ADAPTED, *differs), becomes=becomes or {})


def in_train(*settings: str, differs: tuple[str, ...] = (), becomes: Mapping[str, Any] | None = None) -> Change:
    return Change(
        settings=settings,
        first="train",
        differs=(TRAINED, *differs),
        becomes=becomes or {},
        same=(SPLIT, ADAPTED),
    )


def in_fit(*settings: str, policy: str, given: tuple[str, ...] = (), differs: tuple[str, ...] = ()) -> Change:
    alone = [f"fit/policies/{name}.json" for name in ("threshold", "scrc") if name != policy]
    return Change(
        settings=settings,
        given=given,
        first="fit",
        differs=(f"fit/policies/{policy}.json#summary", f"decisions/{policy}", *differs),
        same=(TRAINED, *SCORED, *alone),
    )


def of_train(*settings: str, differs: tuple[str, ...] = ()) -> Change:
    """A key of [optimizer] that the stage adapt has a value of its own for: it runs again, and finds the same."""
    return Change(
        settings=settings, given=APART, first="adapt", last="train", differs=(TRAINED, *differs), same=(ADAPTED,)
    )


def split(fractions: str, **samples: int) -> Change:
    return Change(
        settings=(f"data.splits={{{fractions}}}",),
        first="prepare",
        differs=(SPLIT, *(f"prepare/manifest.json#metrics.splits.{name}" for name in samples)),
        becomes={f"prepare/manifest.json#metrics.splits.{name}": number for name, number in samples.items()},
    )


def changes(other_checkpoint: str, other_pictures: str) -> dict[str, tuple[Change | Refusal, ...]]:
    """By leaf key of the spec. The arguments are another backbone and another folder of pictures."""
    return {
        "spec_version": (Refusal(settings=("spec_version=2",), words=("spec_version", "2")),),
        "name": (Change(settings=('name="another"',), first="prepare", becomes={"run": "another"}),),
        "seed": (Change(settings=("seed=43",), first="prepare", last="train", differs=(SPLIT, ADAPTED, TRAINED)),),
        "description": (
            Change(
                settings=('description="Something else"',),
                first="evaluate",
                last="bundle",
                differs=("evaluate/report.html", "bundle/elite/README.md", "bundle/elite/spec.toml"),
                becomes={"bundle/elite/bundle.json#description": "Something else"},
                same=(TRAINED, *SCORED, "fit/policies/hybrid.json"),
            ),
        ),
        "data.use": (
            Change(
                settings=("data={use='synthetic_roadwork', n=60, width=64, height=48}",),
                first="prepare",
                differs=(SPLIT, "prepare/report.json#width"),
            ),
        ),
        "data.root": (Change(settings=(f'data.root="{other_pictures}"',), first="prepare", differs=(SPLIT,)),),
        "data.on_bad_image": (Refusal(settings=('data.on_bad_image="error"',), words=("broken.png",)),),
        "data.splits.train": (split("train=0.5, val_select=0.15, val_calib=0.2, test=0.15", train=60),),
        "data.splits.val_select": (split("train=0.4, val_select=0.25, val_calib=0.2, test=0.15", val_select=30),),
        "data.splits.val_calib": (split("train=0.4, val_select=0.15, val_calib=0.2, test=0.25", val_calib=25),),
        "data.splits.test": (split("train=0.4, val_select=0.15, val_calib=0.2, test=0.25", test=30),),
        "augment.0.use": (in_train("augment.0={use='resize', size=32}"),),
        "augment.0.size": (in_train("augment.0.size=24"),),
        "augment.0.scale": (in_train("augment.0.scale=[0.9, 1.0]"),),
        "augment.1.use": (in_train("augment.1={use='trivial_augment'}"),),
        "augment.1.operations": (in_train("augment.1.operations=1"),),
        "augment.1.magnitude": (in_train("augment.1.magnitude=1"),),
        "augment.2.use": (in_train("augment.2.use='cutmix'"),),
        "augment.2.on": (Refusal(settings=("augment.2.on='sample'",), words=("augment.2.on", "whole batches")),),
        "augment.2.alpha": (in_train("augment.2.alpha=2.0"),),
        "backbone.use": (
            Change(
                settings=("backbone={use='small_cnn', image_size=32}",),
                given=("adapt.adapter={use='full'}", "adapter={use='full'}"),
                first="adapt",
                last="train",
                differs=(ADAPTED, f"{ADAPT}.parameters.total", TRAINED, "train/model.json#backbone"),
                same=(SPLIT,),
            ),
        ),
        "backbone.model": (in_adapt(f'backbone.model="{other_checkpoint}"'),),
        "backbone.image_size": (
            Change(
                settings=("backbone.image_size=40",),
                first="adapt",
                last="score",
                differs=(ADAPTED, TRAINED, "train/model.json#preprocessing", *SCORED),
                same=(SPLIT,),
            ),
        ),
        "adapt.objective.use": (in_adapt("adapt.objective={use='simsiam'}"),),
        "adapt.adapter.use": (in_adapt("adapt.adapter.use='lora'", differs=(f"{ADAPT}.parameters.trainable",)),),
        "adapt.adapter.rank": (in_adapt("adapt.adapter.rank=8", differs=(f"{ADAPT}.parameters.trainable",)),),
        "adapt.adapter.unfreeze_blocks": (
            in_adapt("adapt.adapter.unfreeze_blocks=0", differs=(f"{ADAPT}.adapted", f"{ADAPT}.parameters.trainable")),
        ),
        "adapt.epochs": (in_adapt("adapt.epochs=2", becomes={f"{ADAPT}.epochs": 2}),),
        "adapt.batch_size": (in_adapt("adapt.batch_size=8", differs=(f"{ADAPT}.steps",)),),
        "adapter.use": (in_train("adapter.use='lora'", differs=(f"{TRAIN}.parameters.trainable",)),),
        "adapter.rank": (in_train("adapter.rank=8", differs=(f"{TRAIN}.parameters.trainable",)),),
        "head.use": (in_train("head.use='mlp'", differs=("train/model.json#head",)),),
        "loss.use": (in_train("loss={use='cross_entropy'}"),),
        "loss.gamma": (in_train("loss.gamma=0.5"),),
        "optimizer.use": (in_adapt("optimizer.use='radam'"), of_train("optimizer.use='radam'")),
        "optimizer.lr": (
            in_adapt("optimizer.lr=1e-3"),
            of_train("optimizer.lr=1e-3", differs=("train/history.jsonl#1.lr",)),
        ),
        "optimizer.lr_scale.backbone": (
            in_adapt("optimizer.lr_scale.backbone=1.0"),
            # Where the adapter is the backbone's own weights, all of it is the backbone's.
            Change(
                settings=("optimizer.lr_scale.backbone=1.0",),
                given=("adapter={use='full'}",),
                first="adapt",
                last="train",
                differs=(TRAINED, "train/history.jsonl#1.lr"),
            ),
        ),
        "scheduler.use": (in_train("scheduler={use='constant'}", differs=("train/history.jsonl#1.lr",)),),
        "scheduler.warmup_ratio": (in_train("scheduler.warmup_ratio=0.6", differs=("train/history.jsonl#0.lr",)),),
        "train.epochs": (in_train("train.epochs=3", becomes={f"{TRAIN}.epochs": 3}),),
        "train.batch_size": (in_train("train.batch_size=12", differs=(f"{TRAIN}.steps",)),),
        "train.precision": (
            Change(
                settings=("train.precision='fp32'",),
                first="adapt",
                last="train",
                differs=(ADAPTED, TRAINED),
                becomes={f"{ADAPT}.precision": "fp32", f"{TRAIN}.precision": "fp32"},
                same=(SPLIT,),
            ),
        ),
        "train.accumulate": (in_train("train.accumulate=1", differs=(f"{TRAIN}.steps",)),),
        "train.clip_norm": (in_train("train.clip_norm=0.001"),),
        # The average warms up: in these few steps a decay above one half is not reached.
        "train.ema": (in_train("train.ema=0.1"),),
        "train.patience": (
            # At this rate no weight moves, so no epoch is better than the first.
            Change(
                settings=("train.patience=1",),
                given=("optimizer.lr=1e-30", *APART, "train.epochs=4"),
                first="train",
                differs=(f"{TRAIN}.epochs",),
                becomes={f"{TRAIN}.epochs": 2},
                same=(ADAPTED,),
            ),
        ),
        "tta.use": (
            Change(
                settings=("tta.use='flip'",),
                first="score",
                differs=SCORED,
                becomes={"score/manifest.json#metrics.views": 2},
                same=(ADAPTED, TRAINED),
            ),
        ),
        "policy.threshold.use": (
            in_fit(
                "policy.threshold={use='conformal', alpha=0.4}",
                policy="threshold",
                given=(*SPARE, "policy.hybrid.fast='cut'"),
            ),
        ),
        "policy.threshold.metric": (
            in_fit(
                "policy.threshold.metric='precision_at_recall'",
                policy="threshold",
                differs=("fit/policies/threshold.json#state.threshold",),
            ),
        ),
        # With this alpha both give sets of one label, and scrc selects whom it gives one.
        "policy.scrc.use": (in_fit("policy.scrc.use='conformal'", policy="scrc", given=("policy.scrc.alpha=0.4",)),),
        "policy.scrc.alpha": (
            in_fit("policy.scrc.alpha=0.4", policy="scrc", differs=("fit/policies/scrc.json#state.bound",)),
        ),
        "policy.hybrid.use": (in_fit("policy.hybrid={use='conformal', alpha=0.4}", policy="hybrid"),),
        # So many mistakes allowed, the fast member decides most; none allowed, the robust one does.
        "policy.hybrid.fast": (
            in_fit("policy.hybrid.fast='cut'", policy="hybrid", given=(*SPARE, "policy.hybrid.target_error=0.4")),
        ),
        "policy.hybrid.robust": (
            in_fit("policy.hybrid.robust='sets'", policy="hybrid", given=(*SPARE, "policy.hybrid.target_error=0.0")),
        ),
        "bundle.active": (
            Change(
                settings=("bundle.active='threshold'",),
                first="evaluate",
                last="bundle",
                differs=("evaluate/metrics.json#test", "bundle/elite/README.md"),
                becomes={
                    "evaluate/metrics.json#active": "threshold",
                    "bundle/elite/bundle.json#active": "threshold",
                    "bundle/elite/bundle.json#mode": "fast",
                },
                same=(TRAINED, *SCORED, "fit/policies/hybrid.json"),
            ),
        ),
        "bundle.fallback": (
            Change(
                unset=("bundle.fallback",),
                first="evaluate",
                last="bundle",
                differs=("bundle/elite/README.md",),
                becomes={"bundle/elite/bundle.json#fallback": None},
                same=(TRAINED, *SCORED, "fit/policies/hybrid.json"),
            ),
        ),
    }
