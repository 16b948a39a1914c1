"""Backbones, adapters and heads: what each is given and must make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

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


@runtime_checkable
class TokenBackbone(Protocol):
    """What a backbone also offers whose tokens a head may pool."""

    @property
    def token_dim(self) -> int: ...

    def tokens(self, pixel_values: Tensor) -> Tensor:
        """Normalised images, float (N, 3, H, W), to tokens, float (N, T, token_dim): one for each patch or place of
        the last feature map, in any order; T may differ from one size of images to another."""
        ...


class BackboneComponent(Protocol):
    """`gives_tokens` says that what it builds is a `TokenBackbone`, for checks before anything is built."""

    gives_tokens: ClassVar[bool] = False

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
    """`class_counts`: int64 (C,) of the train split, or None when a bundle is rebuilt. `token_dim`: width of the
    backbone's tokens, for a head that reads them; None for others.
    """

    feature_dim: int
    num_classes: int
    class_counts: NDArray[np.int64] | None = None
    token_dim: int | None = None


class TokenHead(Protocol):
    """A head's `nn.Module` that makes a picture's features itself, of the backbone's tokens.

    Called, it maps what `pool` gave to logits, float (N, num_classes), as every head does with features.
    """

    reads_tokens: ClassVar[bool] = True

    def __call__(self, pooled: Tensor) -> Tensor: ...

    def pool(self, tokens: Tensor) -> Tensor:
        """Tokens, float (N, T, token_dim) with T of any size, to features, float (N, D)."""
        ...


class HeadComponent(Protocol):
    """Makes an `nn.Module` from features, float (N, feature_dim), to logits, float (N, num_classes).

    With `reads_tokens` it makes a `TokenHead` instead.
    """

    reads_tokens: ClassVar[bool] = False

    def build(self, ctx: HeadContext) -> nn.Module: ...
