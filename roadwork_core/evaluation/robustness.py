"""What distorted pictures do to the decisions: one table, a line per level, each against the pictures as they are."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from ..errors import UsageError
from ..kinds import AugmentationContext, Kind
from ..report.evaluation import Judge
from ..spec import resolve_component
from .measure import Decided, Labelled, decide_all

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.deciding import Decider
    from ..plugins import Plugins

METRICS = ("mcc", "accuracy")
MIXED = "mixed"


def distortions(
    name: str, plugins: Plugins, image_size: tuple[int, int], classes: int
) -> dict[int, Callable[..., Any]]:
    """The transforms of an augmentation component by its levels, uint8 (3, H, W) to the same.

    Raises UsageError for one without an option `level` that takes whole numbers.
    """
    plain = resolve_component(Kind.AUGMENTATION, {"use": name}, plugins, source="--distort")
    hints = typing.get_type_hints(type(plain), include_extras=True)
    levels = [level for level in typing.get_args(hints.get("level")) if isinstance(level, int)]
    if not levels:
        raise UsageError(
            f"the augmentation {name} has no levels to distort by", hint="for example --distort validator_distortions"
        )
    context = AugmentationContext(image_size=image_size, num_classes=classes)
    return {level: attrs.evolve(plain, level=level).build(context) for level in levels}


def robustness(
    augmentation: str,
    data: Labelled,
    distorted: Mapping[int, NDArray[np.float64]],
    decider: Decider,
    decided: Decided,
    judge: Judge,
) -> dict[str, Any]:
    """Each policy's figures at each level and over all levels, each picture once per level, with the difference to
    the pictures as they are (paired, by group, where no answer may be left out).

    `distorted` are the logits at each level, float64 (n, C).
    """
    at = {level: decide_all(decider, attrs.evolve(data, logits=logits))[0] for level, logits in distorted.items()}
    lines = [
        {"level": str(level), "policies": _policies(judge, decider, decided, [found])} for level, found in at.items()
    ]
    lines.append({"level": MIXED, "policies": _policies(judge, decider, decided, list(at.values()))})
    return {"augmentation": augmentation, "levels": lines}


def _policies(judge: Judge, decider: Decider, plain: Decided, levels: Sequence[Decided]) -> dict[str, Any]:
    several = attrs.evolve(
        judge, labels=np.tile(judge.labels, len(levels)), groups=np.tile(judge.group_names, len(levels))
    )
    entries = {}
    for name in decider.policies:
        labels = np.concatenate([level[name][0].labels for level in levels])
        answered = np.concatenate([~level[name][0].abstain for level in levels])
        plainly = np.tile(plain[name][1].labels, len(levels))
        answering = np.concatenate([level[name][1].labels for level in levels])
        figures = several.decision_metrics(labels, answered)
        entries[name] = {
            "metrics": {metric: figures[metric] for metric in METRICS},
            "coverage": several.share(answered, np.ones(len(answered), dtype=np.bool_)),
            "difference": {metric: several.difference(metric, plainly, answering) for metric in METRICS},
        }
    return entries
