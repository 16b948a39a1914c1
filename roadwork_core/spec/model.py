"""The tables of a spec, as frozen attrs classes: keys, types, defaults and bounds all come from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..component import option, section, slot
from ..extras import Requirement, how_to_install
from ..kinds import Kind

SPEC_VERSION = 1
#: What names a run, a bundle or a policy, and so a file or folder, which file systems want short.
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
SPLITS = ("train", "val_select", "val_calib", "test")
SplitName = Literal["train", "val_select", "val_calib", "test"]
SelectBy = Literal["mcc", "f1", "balanced_accuracy", "accuracy", "auroc", "average_precision", "nll"]


@section
class Splits:
    """Fractions of the samples per split, and what must not be torn apart."""

    train: float = option(default=0.6, minimum=0, maximum=1, help="fraction that trains")
    val_select: float = option(default=0.15, minimum=0, maximum=1, help="fraction that chooses the epoch")
    val_calib: float = option(default=0.15, minimum=0, maximum=1, help="fraction that fits the policies")
    test: float = option(default=0.1, minimum=0, maximum=1, help="fraction that is touched once, to report")
    group_by: str | None = option(
        default=None, help="tag whose values never cross splits (default: the dataset's group)"
    )
    assign: Mapping[str, tuple[SplitName, ...]] | None = option(
        default=None,
        help="for data that comes with splits: each of its split names, and the splits to divide it among"
        " (default: train, val_select, val_calib and test are themselves; val and validation are divided"
        " between val_select and val_calib)",
    )


@section
class Data:
    """Where samples come from and how they are divided, checked and decoded."""

    component: Any = slot(Kind.DATASET, inline=True)
    splits: Splits = option(default={})
    classes: tuple[str, ...] | None = option(
        default=None, min_length=2, help="class names in order of their index (default: sorted)"
    )
    positive: str | None = option(
        default=None, help='the positive class (default: "roadwork" where there is one, else the last class)'
    )
    on_bad_image: Literal["error", "skip"] = option(default="error", help="what an unreadable image does to the run")
    near_duplicates: Literal["group", "error", "ignore"] = option(
        default="group", help="near-duplicates share a split, are refused, or are not looked for"
    )
    near_duplicate_distance: int = option(
        default=4,
        minimum=0,
        maximum=16,
        help="bits of the 64-bit perceptual hash that near-duplicates may differ in",
    )
    fit: Literal["crop", "stretch"] = option(default="crop", help="how a picture is brought to the model's shape")
    max_pixels: int = option(default=100_000_000, minimum=1, help="larger pictures are refused as decompression bombs")
    workers: int | None = option(default=None, minimum=0, help="loader processes (default: one per core, at most 8)")


@section
class Augment:
    """One augmentation of the training pictures; they run in order."""

    component: Any = slot(Kind.AUGMENTATION, inline=True)
    on: Literal["sample", "batch"] = option(default="sample", help="runs on one picture, or on a batch (mixup, cutmix)")


@section
class LrScale:
    """Factors on the optimizer's learning rate."""

    backbone: float = option(default=1.0, minimum=0, help="backbone weights that train")
    adapter: float = option(default=1.0, minimum=0, help="weights that the adapter added")
    head: float = option(default=1.0, minimum=0, help="head")
    layer_decay: float = option(
        default=1.0,
        above=0,
        maximum=1,
        help="factor from each block of the backbone to the one before it, adapters included (1: all learn alike)",
    )


@section
class Optimizer:
    """The optimizer and the learning rate of each part of the model."""

    component: Any = slot(Kind.OPTIMIZER, inline=True)
    lr_scale: LrScale = option(default={})


@section
class Adapt:
    """Stage 1: self-supervised adaptation of the backbone, on the train split and other pictures, without labels."""

    objective: Any = slot(Kind.OBJECTIVE, help="the self-supervised objective")
    adapter: Any = slot(Kind.ADAPTER, help="what of the backbone trains in this stage; merged at its end")
    optimizer: Any = slot(Kind.OPTIMIZER, default=None, help="(default: that of [optimizer])")
    data: Any = slot(
        Kind.DATASET,
        default=None,
        help="more pictures to adapt to, whose labels are not read: unlabelled_folder, or any other dataset; those that"
        " are in val_select, val_calib or test, or near to a picture there, are left out",
    )
    with_train: bool = option(
        default=True, help="adapt to the pictures of the train split too (false: to those of adapt.data alone)"
    )
    epochs: int = option(minimum=1, help="passes over these pictures")
    batch_size: int = option(default=64, minimum=2, help="images per optimizer step, over all processes")
    warmup_ratio: float = option(default=0.1, minimum=0, maximum=1, help="part of the steps with rising learning rate")
    min_rank_ratio: float = option(
        default=0.05,
        minimum=0,
        maximum=1,
        help="the stage stops as collapsed when the features' effective rank falls below this part of its start",
    )
    min_std_ratio: float = option(
        default=0.1,
        minimum=0,
        maximum=1,
        help="and when their standard deviation (of features scaled to unit length) falls below this part of its start",
    )


@section
class Train:
    """Stage 2: supervised training."""

    epochs: int = option(default=10, minimum=1, help="passes over the train split")
    batch_size: int = option(default=32, minimum=1, help="images per forward pass, over all processes")
    sampler: Literal["shuffle", "class_balanced", "group_balanced"] = option(
        default="shuffle",
        help="an epoch sees each sample once, or draws as many samples, each class or each group equally often",
    )
    precision: Literal["bf16", "fp16", "fp32", "auto"] = option(
        default="auto", help="auto: bf16 where the device computes it natively, else fp32"
    )
    accumulate: int = option(default=1, minimum=1, help="forward passes per optimizer step")
    clip_norm: float | None = option(default=None, above=0, help="largest gradient norm")
    ema: float | None = option(default=None, above=0, below=1, help="decay of the averaged weights that are then used")
    select_by: SelectBy = option(
        default="mcc",
        help="metric on val_select that chooses the epoch (cut metrics: at their best cut there)",
    )
    patience: int | None = option(default=None, minimum=1, help="epochs without improvement before training stops")
    compile: bool = option(default=False, help="torch.compile the model")
    feature_cache: Literal["auto", "on", "off"] = option(
        default="auto",
        help="keep the features of a backbone of which nothing trains on disk; auto: where the pictures do not change"
        " from epoch to epoch, or feature_views says how many views of each to keep; on: refuse to train otherwise",
    )
    feature_views: int | None = option(
        default=None,
        minimum=1,
        help="keep the features of this many augmented views of each picture and train on them in turn",
    )
    feature_cache_gib: float = option(
        default=16.0, above=0, help="disk space of all kept features in GiB; the least recently used go first"
    )


@section
class Evaluate:
    """How the report estimates."""

    bootstrap: int = option(default=2000, minimum=100, help="resamples of each interval, by group")
    level: float = option(default=0.95, above=0.5, below=1, help="confidence level of the intervals")
    prior: float = option(
        default=0.5, above=0, below=1, help="share of positives to which the figures are carried over as well"
    )


@section
class Bundle:
    """What the bundle does when nobody says otherwise."""

    active: str | None = option(default=None, help="policy that decides (default: the only one)")
    fallback: str | None = option(
        default=None, help="policy that answers when the active one cannot, or must not abstain"
    )
    license: str = option(default="proprietary", help="licence of the weights, as an SPDX identifier where it has one")
    description: str = option(default="", help="first lines of the model card")
    golden: int = option(
        default=8, minimum=1, maximum=64, help="pictures of val_calib kept to prove that the bundle works"
    )
    onnx: Literal["auto", "on", "off"] = option(
        default="auto",
        help="carry the network in ONNX too, which a CPU computes faster: where it can be had, always, or never",
    )

    def needs(self) -> list[Requirement]:
        """What writes and computes a network in ONNX, where it must be carried."""
        modules = ("onnx", "onnxruntime", "onnxscript")
        return [Requirement(modules, how_to_install("onnx"))] if self.onnx == "on" else []


#: What a search needs whose trials follow from one another.
STUDY = Requirement(("optuna", "sklearn"), how_to_install("sweeps"))


@section
class SweepParameter:
    """The values that one key takes: a list, or a range with both ends."""

    values: tuple[bool | int | float | str, ...] | None = option(
        default=None, min_length=1, help="the values, each as the key itself would be written"
    )
    low: int | float | None = option(default=None, help="smallest value of a range")
    high: int | float | None = option(default=None, help="largest value of a range")
    log: bool = option(default=False, help="draw from the range evenly in the logarithm")
    step: int | float | None = option(
        default=None, above=0, help="the range has only low, low + step, and so on (integers: 1)"
    )


@section
class Sweep:
    """The specs that `roadwork sweep` makes of this one; any other command leaves them alone."""

    method: Literal["grid", "random", "tpe"] = option(
        default="grid",
        help="every combination of the values, trials drawn at random, or each from the figures of those before it",
    )
    trials: int | None = option(
        default=None, minimum=1, maximum=10_000, help="how many trials a random or tpe search draws"
    )
    seed: int | None = option(
        default=None, minimum=0, maximum=2**32 - 1, help="of a search (default: 0); more trials keep the first"
    )
    startup_trials: int | None = option(
        default=None,
        minimum=1,
        help="tpe: trials drawn at random first; none is pruned before as many have finished (default: 10)",
    )
    prune: Literal["none", "median", "hyperband"] = option(
        default="none", help="tpe: whether trials end early whose epochs fall behind, and by which rule"
    )
    prune_after: int | None = option(default=None, minimum=1, help="tpe: epochs that every trial gets (default: 1)")
    parameters: Mapping[str, SweepParameter] = option(help='per key of the spec, as "optimizer.lr", what it takes')

    def needs(self) -> list[Requirement]:
        """Optuna for trials that follow from others, and scikit-learn for the forests that weigh their keys."""
        return [STUDY] if self.method == "tpe" else []


@section
class Watched:
    """The leaderboard that `roadwork leaderboard` watches, and when a standing is an alarm; no run reads it."""

    component: Any = slot(Kind.LEADERBOARD, inline=True)
    entry: str | None = option(default=None, min_length=1, help="own name there (or --entry)")
    history: str = option(default="leaderboard.sqlite", min_length=1, help="the file that keeps what was seen")
    alert_drop: int | None = option(
        default=None, minimum=1, help="places lost since the best rank after the last such alarm that are an alarm"
    )
    alert_rank: int | None = option(default=None, minimum=1, help="every rank worse than this one is an alarm")
    webhook_env: str | None = option(
        default=None,
        pattern=r"[A-Za-z_][A-Za-z0-9_]*",
        help="environment variable with the address that new alarms are posted to (default: nothing is sent)",
    )


@section
class Spec:
    """One experiment, whole."""

    spec_version: int = option(default=SPEC_VERSION, choices=(SPEC_VERSION,), help="version of this format")
    name: str = option(pattern=NAME_PATTERN, help="names the run directory and the bundle")
    seed: int = option(default=0, minimum=0, maximum=2**32 - 1, help="everything random follows from it")
    description: str = option(default="", help="for people")
    data: Data
    augment: tuple[Augment, ...] = ()
    backbone: Any = slot(Kind.BACKBONE)
    adapt: Adapt | None = None
    adapter: Any = slot(Kind.ADAPTER, default={"use": "full"})
    head: Any = slot(Kind.HEAD, default={"use": "linear"})
    loss: Any = slot(Kind.LOSS, default={"use": "cross_entropy"})
    optimizer: Optimizer = option(default={"use": "adamw"})
    scheduler: Any = slot(Kind.SCHEDULER, default={"use": "cosine_warmup"})
    train: Train = option(default={})
    tta: Any = slot(Kind.TTA, default={"use": "none"})
    policy: Mapping[str, Any] = slot(
        Kind.POLICY, default={"threshold": {"use": "threshold"}}, named=True, help="the policies by name"
    )
    evaluate: Evaluate = option(default={})
    bundle: Bundle = option(default={})
    tracker: Any = slot(Kind.TRACKER, default=(), many=True, help="where else the run's metrics go")
    sweep: Sweep | None = None
    leaderboard: Watched | None = None
