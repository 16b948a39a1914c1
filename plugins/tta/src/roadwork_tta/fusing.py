"""The fusion of an augmentation's options: a formula, weights per view, or a network; each with its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from roadwork_core.errors import RoadworkError

from .fusion import FUSIONS, Logits, most_certain

if TYPE_CHECKING:
    from roadwork_core.learned_tta import TtaFitContext

    from .components import FusionOptions

IDENTITY = "identity"
NOTHING: Mapping[str, int | None] = MappingProxyType({})


class Fusing(Protocol):
    """A fusion with what it knows of its views."""

    @property
    def fits_on(self) -> Mapping[str, int | None]: ...

    def fuse(self, logits: Logits) -> Logits: ...

    def fit(self, ctx: TtaFitContext) -> Mapping[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> Fusing: ...

    def summary(self) -> Mapping[str, Any]: ...


def make_fusing(options: FusionOptions, view_ids: Sequence[str]) -> Fusing:
    """The fusion that the options ask for, of these views; where there is one view there is nothing to learn."""
    if options.fusion == "learned" and len(view_ids) > 1:
        from .learned import LearnedFusion

        return LearnedFusion(view_ids, options.learned)
    if options.fusion == "attention" and len(view_ids) > 1:
        from .attention import AttentionFusion

        return AttentionFusion(view_ids, options.attention)
    return Formula(options, view_ids)


class Formula:
    """A fusion by a formula of the logits alone, of all views or of the most certain ones."""

    fits_on = NOTHING

    def __init__(self, options: FusionOptions, view_ids: Sequence[str]) -> None:
        self._name = options.fusion
        self._fuse = FUSIONS.get(options.fusion, FUSIONS["mean_logit"])
        self._keep = options.keep if options.select == "confident" else None
        self._identity = list(view_ids).index(IDENTITY)
        self._views = len(view_ids)

    def fuse(self, logits: Logits) -> Logits:
        """Logits per view, float64 (V, n, C), to float64 (n, C)."""
        if len(logits) == 1:
            return logits[0]
        kept = None if self._keep is None else most_certain(logits, self._identity, self._keep)
        return self._fuse(logits, kept)

    def fit(self, ctx: TtaFitContext) -> Mapping[str, Any]:
        raise RoadworkError(f"the fusion {self._name} learns nothing")

    def restore(self, state: Mapping[str, Any]) -> Formula:
        raise ValueError(f"the fusion {self._name} learns nothing, and has no state")

    def summary(self) -> Mapping[str, Any]:
        if self._views == 1:
            return {"text": "one view"}
        chosen = "" if self._keep is None else f", the most certain {self._keep:.0%} of them and the identity"
        return {"text": f"{self._views} views{chosen}, fused by {self._name}"}


def not_fitted(fusion: str, split: str) -> RoadworkError:
    """The refusal of a fusion that was to learn and has not."""
    return RoadworkError(f'fusion = "{fusion}" has not been fitted (on {split})')


def refuse_other_views(found: Mapping[str, Any], view_ids: Sequence[str]) -> None:
    """Raises ValueError where a state does not speak of exactly these views."""
    if set(found) != set(view_ids):
        other = sorted(set(found) ^ set(view_ids))
        raise ValueError(f"its views are not those of the augmentation: {', '.join(other)}")
