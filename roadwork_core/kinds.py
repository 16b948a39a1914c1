"""The kinds of component, and for each kind what its `build` is given and what it must make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from attrs import Factory, frozen

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from .bundle.runtime import Runtime
    from .data.preprocessing import Preprocessing
    from .data.sample import Sample
    from .decisions import Decisions
    from .plugins import Plugins


class Kind(StrEnum):
    """What a component is for."""

    DATASET = "dataset"
    AUGMENTATION = "augmentation"
    BACKBONE = "backbone"
    ADAPTER = "adapter"
    HEAD = "head"
    LOSS = "loss"
    OPTIMIZER = "optimizer"
    SCHEDULER = "scheduler"
    OBJECTIVE = "objective"
    CALIBRATOR = "calibrator"
    POLICY = "policy"
    TTA = "tta"
    TRACKER = "tracker"
    EXPORTER = "exporter"
    LEADERBOARD = "leaderboard"


Report = Callable[[str], None]


def _silent(_: str) -> None: ...


@frozen(kw_only=True)
class DatasetContext:
    """`cache_dir` keeps what a dataset makes or fetches (owned by this dataset and these options alone)."""

    cache_dir: Path
    seed: int
    report: Report = _silent


class DatasetComponent(Protocol):
    """`build` lists the samples, in a stable order, without decoding images."""

    def build(self, ctx: DatasetContext) -> Sequence[Sample]: ...


@frozen(kw_only=True)
class AugmentationContext:
    """`image_size` is (height, width) in pixels of the model's input."""

    image_size: tuple[int, int]
    num_classes: int


class AugmentationComponent(Protocol):
    """A sample augmentation makes `f(image)`, uint8 (3, H, W) to uint8 (3, h, w).

    A batch augmentation (`batch = True`) makes `f(images, targets)`: float (N, 3, h, w) and class probabilities
    float (N, C) to the same. Both draw random numbers from torch's global generator only, which the core seeds by
    (seed, epoch, sample index) or (seed, step).
    """

    batch: ClassVar[bool] = False

    def build(self, ctx: AugmentationContext) -> Callable[..., Any]: ...


@frozen(kw_only=True)
class BackboneContext:
    """`architecture` is None to load the weights that the spec names; otherwise the `architecture` of a backbone
    made earlier, to rebuild that module offline, without looking at any hub or file (its weights are loaded after).
    """

    architecture: Mapping[str, Any] | None = None
    report: Report = _silent


class Backbone(Protocol):
    """An `nn.Module` from normalised images, float (N, 3, H, W), to features, float (N, feature_dim)."""

    feature_dim: int
    preprocessing: Preprocessing
    #: JSON value from which `build` restores the module without weights.
    architecture: Mapping[str, Any]

    def __call__(self, pixel_values: Tensor) -> Tensor: ...

    def blocks(self) -> Sequence[nn.Module]:
        """Transformer blocks or stages, input to output."""
        ...


class BackboneComponent(Protocol):
    def build(self, ctx: BackboneContext) -> nn.Module: ...


@frozen(kw_only=True)
class AdapterContext:
    backbone: nn.Module
    seed: int


class Adapted(Protocol):
    """A backbone with an adapter in place."""

    #: Trains, and answers like the backbone it was made from.
    module: nn.Module
    #: Names of the modules that were adapted or left trainable; they are reported.
    targets: Sequence[str]

    def merge(self) -> nn.Module:
        """The plain backbone with the adapter folded in: same state-dict keys and attributes as before."""
        ...


class AdapterComponent(Protocol):
    """Sets which backbone weights train (`requires_grad`), and may add small trainable ones."""

    def build(self, ctx: AdapterContext) -> Adapted: ...


@frozen(kw_only=True)
class HeadContext:
    """`class_counts`: int64 (C,) of the train split, or None when a bundle is rebuilt."""

    feature_dim: int
    num_classes: int
    class_counts: NDArray[np.int64] | None = None


class HeadComponent(Protocol):
    """Makes an `nn.Module` from features, float (N, feature_dim), to logits, float (N, num_classes)."""

    def build(self, ctx: HeadContext) -> nn.Module: ...


@frozen(kw_only=True)
class LossContext:
    """`class_counts`: int64 (C,) of the train split; `positive` is the index of the positive class."""

    num_classes: int
    class_counts: NDArray[np.int64]
    positive: int = 1


class LossComponent(Protocol):
    """Makes `loss(logits, target)`: float32 (N, C) and int64 (N,), to a mean (scalar) or per-sample losses (N,).

    With `soft_targets = True` the target may also be class probabilities, float32 (N, C).
    """

    soft_targets: ClassVar[bool] = False

    def build(self, ctx: LossContext) -> Callable[[Tensor, Tensor], Tensor]: ...


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


@frozen(kw_only=True)
class ObjectiveContext:
    """`backbone` is the adapted student that trains; `total_steps` counts optimizer steps of the stage."""

    backbone: nn.Module
    feature_dim: int
    image_size: tuple[int, int]
    total_steps: int


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


@frozen(kw_only=True)
class CalibratorContext:
    """`logits` float64 (n, C); `labels` int64 (n,)."""

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]


class Calibrator(Protocol):
    def transform(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated logits, float64 (n, C): their softmax is the calibrated probability."""
        ...

    def state(self) -> Mapping[str, Any]:
        """JSON value that `restore` takes."""
        ...


class CalibratorComponent(Protocol):
    def build(self, ctx: CalibratorContext) -> Calibrator: ...

    def restore(self, state: Mapping[str, Any]) -> Calibrator: ...


@frozen(kw_only=True)
class PolicyContext:
    """Calibration data and surroundings of a policy that is to be fitted.

    `logits` float64 (n, C), `labels` int64 (n,), `groups` int64 (n,) or None (each sample its own group);
    `positive` is the index of the positive class; `members` the policies of the same bundle that were fitted before.
    """

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None
    classes: Sequence[str]
    positive: int
    seed: int
    members: Mapping[str, Policy] = Factory(dict)


@frozen(kw_only=True)
class PolicyRestoreContext:
    """Surroundings of a policy that is read back from its file."""

    classes: Sequence[str]
    positive: int
    members: Mapping[str, Policy] = Factory(dict)


class Policy(Protocol):
    """A fitted policy: numpy only, deterministic, the same for a batch of one and of a million."""

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        """Logits, float64 (n, C), to n decisions."""
        ...

    def state(self) -> Mapping[str, Any]:
        """JSON value that `restore` takes; floats survive exactly."""
        ...

    def summary(self) -> Mapping[str, Any]:
        """JSON value for people: the cut, the temperature, what was estimated and how (see docs/reference)."""
        ...

    def guarantee(self) -> Mapping[str, Any] | None:
        """What is promised, in numbers and in words (`text`), or None."""
        ...


class PolicyComponent(Protocol):
    """`mode` is the deployment mode that the policy serves: fast, accurate or hybrid."""

    mode: ClassVar[str] = "fast"

    def build(self, ctx: PolicyContext) -> Policy: ...

    def restore(self, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> Policy: ...

    def requires(self) -> Sequence[str]:
        """Names of the policies that must be fitted before and be in the bundle with this one."""
        ...


@frozen(kw_only=True)
class TtaContext:
    """`to_input(image, size)` is the evaluation transform: uint8 (3, H, W) to uint8 (3, h, w) at `size` = (h, w).

    `image_size` is the model's (h, w); `size_multiple` what input sizes must be a multiple of (a patch; else 1).
    """

    image_size: tuple[int, int]
    size_multiple: int
    num_classes: int
    to_input: Callable[[Tensor, tuple[int, int]], Tensor]


class Tta(Protocol):
    #: Stable names of the views, in order; "identity" is the evaluation transform alone.
    view_ids: Sequence[str]
    #: Shorter side, in pixels, that images should be decoded to at least.
    min_side: int

    def views(self, image: Tensor) -> Sequence[Tensor]:
        """Raw image, uint8 (3, H, W), to one uint8 (3, h, w) per view; sizes may differ between views."""
        ...

    def fuse(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits per view, float64 (V, n, C), to fused logits, float64 (n, C)."""
        ...


class TtaComponent(Protocol):
    """Makes views and their fusion; one whose fusion is fitted first is also a `learned_tta.LearnedTta`."""

    def build(self, ctx: TtaContext) -> Tta: ...


@frozen(kw_only=True)
class TrackerContext:
    """`folder` is the tracker's own folder in the run directory."""

    run_name: str
    folder: Path


class TrackerComponent(Protocol):
    """Makes what `accelerate.Accelerator(log_with=...)` takes: a GeneralTracker, or the name of a built-in one."""

    def build(self, ctx: TrackerContext) -> Any: ...


@frozen(kw_only=True)
class ExporterContext:
    """`runtime` is a verified bundle on the CPU; `folder`, empty, becomes the export when `build` returns."""

    runtime: Runtime
    plugins: Plugins
    folder: Path
    report: Report = _silent


class ExporterComponent(Protocol):
    """Writes the bundle into `ctx.folder` in a form of its own; data in formats that cannot carry code.

    `build` tries what it wrote on the golden pictures and returns a JSON table of what it found. It raises
    UsageError for a bundle that it cannot express, VerificationError where the export decides otherwise.
    """

    def build(self, ctx: ExporterContext) -> Mapping[str, Any]: ...


#: The kinds of component of this release, with the protocol of each. Exporters are named by `roadwork export`, the
#: others by a spec.
CONTRACTS: Mapping[Kind, type] = {
    Kind.DATASET: DatasetComponent,
    Kind.AUGMENTATION: AugmentationComponent,
    Kind.BACKBONE: BackboneComponent,
    Kind.ADAPTER: AdapterComponent,
    Kind.HEAD: HeadComponent,
    Kind.LOSS: LossComponent,
    Kind.OPTIMIZER: OptimizerComponent,
    Kind.SCHEDULER: SchedulerComponent,
    Kind.OBJECTIVE: ObjectiveComponent,
    Kind.CALIBRATOR: CalibratorComponent,
    Kind.POLICY: PolicyComponent,
    Kind.TTA: TtaComponent,
    Kind.TRACKER: TrackerComponent,
    Kind.EXPORTER: ExporterComponent,
}
