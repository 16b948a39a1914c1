"""Calibrators, policies and test-time augmentations: what each is given and must make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from attrs import Factory, frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ..decisions import Decisions


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
