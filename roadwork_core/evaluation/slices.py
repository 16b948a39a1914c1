"""The figures of parts of a set: one per value of each tag (weather, time of day, sequence length, ...)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from ..report.evaluation import Judge

if TYPE_CHECKING:
    from ..decisions import Decisions

#: A tag of more values than this names samples rather than parts of the set.
MOST_VALUES = 20
#: Fewer samples than this are not measured: their interval would say nothing.
FEWEST_SAMPLES = 10
METRICS = ("mcc", "accuracy", "recall", "specificity")


def by_tag(judge: Judge, decisions: Decisions, tags: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """One entry per tag and value, in the order of their names; samples without the tag stand under value None.

    `tags` are those of each sample. Left out: tags with one value only, and those with more than MOST_VALUES. A value
    with fewer than FEWEST_SAMPLES samples is counted and not measured.
    """
    entries = []
    for tag in sorted({name for one in tags for name in one}):
        values = [one.get(tag) for one in tags]
        counts = Counter(values)
        if not 1 < len(counts) <= MOST_VALUES:
            continue
        for value in sorted(counts, key=lambda name: (name is None, name or "")):
            mask = np.array([one == value for one in values])
            entries.append({"tag": tag, "value": value, **_measured(judge, decisions, mask)})
    return entries


def _measured(judge: Judge, decisions: Decisions, mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    part = attrs.evolve(judge, labels=judge.labels[mask], groups=judge.group_names[mask])
    labels, answered = decisions.labels[mask], ~decisions.abstain[mask]
    counted = {
        "n": part.n,
        "groups": len(np.unique(part.group_names.astype(str))),
        "positives": int((part.labels == part.positive).sum()),
        "answered": int(answered.sum()),
    }
    if part.n < FEWEST_SAMPLES:
        return {**counted, "metrics": None}
    metrics = part.decision_metrics(labels, answered)
    # Without answered samples of a class a rate of that class is not 0 but unknown, and so is a correlation.
    truth = part.labels[answered] == part.positive
    absent = {"recall": not truth.any(), "specificity": bool(truth.all())}
    absent["mcc"] = any(absent.values())
    unknown = {"value": None, "low": None, "high": None}
    return {**counted, "metrics": {name: unknown if absent.get(name) else metrics[name] for name in METRICS}}
