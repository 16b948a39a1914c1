"""Backbones, adapters and heads: what each is given and must make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

from .kind import Report, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ..data.preprocessing import Preprocessing


@frozen(kw_only=True)
class BackboneContext:
    """`architecture` is None to load the weights that the spec names; otherwise the `architecture` of a backbone
    made earlier, to rebuild that module offline, without looking at any hub or file (its weights are loaded after).
    """

    architecture: Mapping[str, Any] | None = None
    report: Report = silent


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
