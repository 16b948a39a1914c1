"""Every figure of a labelled set: what each policy decides on it, as a whole, by tag, and at another prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from ..decisions import Decisions
from ..errors import DataError, RoadworkError
from ..report.evaluation import Judge
from .prior import at_prior, estimated_reward
from .slices import by_tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.deciding import Decider
    from ..data.sample import Row
    from ..spec.model import Evaluate

#: What each policy decides, as it is and where it may not abstain.
Decided = Mapping[str, tuple[Decisions, Decisions]]


@frozen(kw_only=True)
class Labelled:
    """A labelled set with its logits: float64 (n, C), and one row of the sample table each."""

    logits: NDArray[np.float64]
    rows: Sequence[Row]
    classes: Sequence[str]
    #: What people call the set: a split, or the name of a folder.
    name: str

    @property
    def targets(self) -> NDArray[np.int64]:
        """Class index of each sample, int64 (n,)."""
        return np.array([row.target for row in self.rows], dtype=np.int64)

    @property
    def groups(self) -> NDArray[Any]:
        """Group of each sample, (n,)."""
        return np.array([row.group for row in self.rows], dtype=object)


def decide_all(decider: Decider, data: Labelled) -> tuple[Decided, dict[str, Mapping[str, int]]]:
    """What each policy decides, and how often the fallback answered for it, by cause.

    Raises RoadworkError where a policy cannot be restored or a sample gets no decision.
    """
    for name, reason in decider.broken.items():
        raise RoadworkError(f"the fitted policy {name} cannot be restored: {reason}")
    decided: dict[str, tuple[Decisions, Decisions]] = {}
    fallbacks: dict[str, Mapping[str, int]] = {}
    for name in decider.policies:
        plain = decider.decide(data.logits, policy=name)
        for row, reason in plain.errors.items():
            raise RoadworkError(f"no decision on sample {row} of {data.name}: {reason}")
        answering = decider.decide(data.logits, policy=name, must_answer=True)
        decided[name] = (plain.decisions, answering.decisions)
        fallbacks[name] = dict(plain.fallbacks)
    return decided, fallbacks


def judge_of(data: Labelled, positive: int, options: Evaluate, seed: int) -> Judge:
    """What measures decisions on the set, as the spec's [evaluate] says. Raises DataError for an empty set."""
    if not data.rows:
        raise DataError(f"{data.name} holds no samples: nothing can be measured")
    return Judge(
        labels=data.targets,
        groups=data.groups,
        classes=data.classes,
        positive=positive,
        resamples=options.bootstrap,
        level=options.level,
        seed=seed,
    )


def measure(
    data: Labelled,
    decider: Decider,
    decided: Decided,
    fallbacks: Mapping[str, Mapping[str, int]],
    *,
    options: Evaluate,
    seed: int,
    modes: Mapping[str, str],
) -> dict[str, Any]:
    """The figures as JSON: each policy's, and of the active one those by tag and at the prior options.prior."""
    judge = judge_of(data, decider.positive, options, seed)
    policies = judge.policies(decided)
    for name, entry in policies.items():
        entry["mode"] = modes[name]
        entry["fallbacks"] = dict(fallbacks[name])
    decisions, answering = decided[decider.active]
    binary = len(data.classes) == 2
    return {
        "split": data.name,
        "n": judge.n,
        "groups": len(np.unique(judge.group_names)),
        "groups_by_class": {
            name: len(np.unique(judge.group_names[judge.labels == index])) for index, name in enumerate(data.classes)
        },
        "classes": list(data.classes),
        "positive": data.classes[decider.positive],
        "negative": data.classes[1 - decider.positive] if binary else None,
        "level": options.level,
        "bootstrap": options.bootstrap,
        "active": decider.active,
        "fallback": decider.fallback,
        "confusion": policies[decider.active]["confusion"],
        "policies": policies,
        "prior_shift": at_prior(judge, decisions, options.prior),
        "reward": estimated_reward(judge, answering),
        "slices": by_tag(judge, decisions, [row.tags for row in data.rows]),
    }
