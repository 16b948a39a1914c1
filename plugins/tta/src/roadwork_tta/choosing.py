"""One of several augmentations, chosen on val_select by likelihood against cost."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np

from roadwork_core.component import component_info
from roadwork_core.errors import RoadworkError
from roadwork_core.kinds import TtaContext
from roadwork_core.learned_tta import LearnedTta, TtaFitContext, ViewScores

from .fusing import IDENTITY
from .judging import best_of, judge, pick, table

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from roadwork_core.kinds import Tta

SPLIT = "val_select"


class ChoosingTta:
    """The views of all candidates, each view once, until one candidate is chosen."""

    def __init__(self, ctx: TtaContext, candidates: Sequence[Any], *, folds: int, errors: float) -> None:
        self._ctx = ctx
        self._names = unique_names(candidates)
        self._candidates: list[Tta] = [candidate.build(ctx) for candidate in candidates]
        self._folds = folds
        self._errors = errors
        places: dict[Hashable, str] = {}
        self._places: list[list[int]] = []
        for name, tta in zip(self._names, self._candidates, strict=True):
            for key, view in zip(_keys(name, tta), tta.view_ids, strict=True):
                places.setdefault(key, view if view == IDENTITY else f"{name}/{view}")
            self._places.append([list(places).index(key) for key in _keys(name, tta)])
        self.view_ids: Sequence[str] = tuple(places.values())
        self.min_side = max(tta.min_side for tta in self._candidates)
        wanted: dict[str, int | None] = {SPLIT: None}
        for tta in self._candidates:
            for split, limit in _fits_on(tta).items():
                known = wanted.get(split, 0)
                wanted[split] = None if limit is None or known is None else max(limit, known)
        self.fits_on: Mapping[str, int | None] = MappingProxyType(wanted)

    def views(self, image: Tensor) -> Sequence[Tensor]:
        """Picture, uint8 (3, H, W) of any size, to one uint8 (3, h, w) per name in `view_ids`."""
        made: dict[int, Tensor] = {}
        for tta, places in zip(self._candidates, self._places, strict=True):
            if not made.keys() >= set(places):
                made |= zip(places, tta.views(image), strict=True)
        return [made[place] for place in range(len(self.view_ids))]

    def fuse(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Always raises RoadworkError: nothing is fused before a candidate is chosen."""
        raise RoadworkError(f"no test-time augmentation has been chosen (on {SPLIT})")

    def fit(self, ctx: TtaFitContext) -> Mapping[str, Any]:
        """Which candidate, its own state, and how all of them did."""
        judged = []
        for name, tta, places in zip(self._names, self._candidates, self._places, strict=True):
            splits = {split: _only(scores, places) for split, scores in ctx.splits.items()}
            own = attrs.evolve(ctx, splits=splits)
            judged.append(judge(name, tta, own, cost=self._cost(tta), folds=self._folds))
            ctx.report(f"{name}: {judged[-1]}")
        chosen, best = pick(judged, self._errors), best_of(judged)
        places = self._places[chosen]
        tta, splits = self._candidates[chosen], {split: _only(s, places) for split, s in ctx.splits.items()}
        state = cast(LearnedTta, tta).fit(attrs.evolve(ctx, splits=splits)) if _fits_on(tta) else None
        ctx.report(f"chosen: {self._names[chosen]}")
        return {"chosen": self._names[chosen], "state": state, "judged": [one.to_json(best) for one in judged]}

    def restore(self, state: Mapping[str, Any]) -> ChosenTta:
        """The chosen candidate. Raises ValueError where it is not among the candidates."""
        if state["chosen"] not in self._names:
            raise ValueError(f"{state['chosen']!r} is none of the candidates {', '.join(self._names)}")
        tta = self._candidates[self._names.index(state["chosen"])]
        if state["state"] is not None:
            tta = cast(LearnedTta, tta).restore(state["state"])
        elif _fits_on(tta):
            raise ValueError(f"{state['chosen']} has not been fitted")
        return ChosenTta(tta, state)

    def summary(self) -> Mapping[str, Any]:
        return {"text": f"to be chosen on {SPLIT} from {', '.join(self._names)}"}

    def _cost(self, tta: Tta) -> float:
        """Pixels of all its views, in units of one view of the model's own size."""
        import torch

        views = tta.views(torch.zeros((3, tta.min_side, tta.min_side), dtype=torch.uint8))
        return sum(view.shape[-2] * view.shape[-1] for view in views) / float(np.prod(self._ctx.image_size))


class ChosenTta:
    """The candidate that was chosen, and why."""

    fits_on: Mapping[str, int | None] = MappingProxyType({})

    def __init__(self, tta: Tta, state: Mapping[str, Any]) -> None:
        self._tta = tta
        self._state = state
        self.view_ids = tta.view_ids
        self.min_side = tta.min_side

    def views(self, image: Tensor) -> Sequence[Tensor]:
        return self._tta.views(image)

    def fuse(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._tta.fuse(logits)

    def summary(self) -> Mapping[str, Any]:
        """What was chosen, and the table of the candidates."""
        return {
            "text": f"{self._state['chosen']}, the cheapest of those not clearly worse than the best. On {SPLIT},"
            " each after a temperature, cross-fitted; MCC where the likelier class is answered",
            "table": table(self._state["judged"], self._state["chosen"]),
        }


def unique_names(candidates: Sequence[Any]) -> list[str]:
    """A name for each candidate: the component's, with the options by which it differs from the others of that name."""
    names = [component_info(candidate).name for candidate in candidates]
    return [
        name if names.count(name) == 1 else " ".join([name, *_changed(candidate)])
        for name, candidate in zip(names, candidates, strict=True)
    ]


def _changed(options: Any, within: str = "") -> list[str]:
    changed = []
    for field in attrs.fields(type(options)):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        name = f"{within}{field.name}"
        changed += _changed(value, f"{name}.") if attrs.has(type(value)) else [f"{name}={value}"]
    return changed


def _keys(name: str, tta: Tta) -> Sequence[Hashable]:
    """What makes each view: the identity is one for all, and this package's own views are compared."""
    keys = getattr(tta, "view_keys", None) or [(name, view) for view in tta.view_ids]
    return [IDENTITY if view == IDENTITY else key for view, key in zip(tta.view_ids, keys, strict=True)]


def _fits_on(tta: Tta) -> Mapping[str, int | None]:
    return cast("Mapping[str, int | None]", getattr(tta, "fits_on", {}))


def _only(scores: ViewScores, places: Sequence[int]) -> ViewScores:
    return attrs.evolve(scores, logits=scores.logits[list(places)])
