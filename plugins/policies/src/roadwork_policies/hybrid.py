"""The hybrid policy: the fast member where it is clear, the robust member elsewhere, every fallback named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from roadwork_core.decisions import ABSTAIN, Decisions
from roadwork_core.errors import DataError
from roadwork_core.kinds import Policy, PolicyContext, PolicyRestoreContext
from roadwork_core.metrics.inputs import Booleans, Floats, class_labels
from roadwork_core.metrics.intervals import clopper_pearson
from roadwork_core.metrics.logits import as_logits, margin

from .threshold import checked_logits, labels_at

if TYPE_CHECKING:
    from .policy_components import Hybrid

OnEmptySet: TypeAlias = Literal["fallback", "abstain"]


@runtime_checkable
class HasThreshold(Protocol):
    """A policy with a cut on the margin, as the fast member must be."""

    @property
    def threshold(self) -> float:
        """The cut, in logits."""
        ...

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        """Logits (n, C) to n decisions."""
        ...


@frozen(eq=False)
class HybridPolicy:
    """The fast member's answer where |margin - t| >= `routing_margin` (None: nowhere), else the robust member's.

    Where the robust member is missing, raises, or gives a non-finite score, the fast member's label stands and the
    reason begins with "fallback:". An empty set is such a fallback too, or an abstention, as `on_empty_set` says:
    adding a label to an empty set can only raise the coverage that the robust member promises.
    """

    fast: HasThreshold
    robust: Policy | None
    names: tuple[str, str]
    routing_margin: float | None
    must_answer: bool
    positive: int
    classes: int
    on_empty_set: OnEmptySet = "fallback"
    record: Mapping[str, Any] = field(factory=dict)

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        """Logits (n, C) to n decisions; scores are the fast member's, `policies` names the member that decided."""
        z = checked_logits(logits, self.classes)
        fast = self.fast.decide(z)
        labels, sets = fast.labels.copy(), fast.sets.copy()
        names, reasons = [self.names[0]] * len(fast), list(fast.reasons)
        routed = np.flatnonzero(~self._clear(z, fast))
        for index, robust in zip(routed.tolist(), self._robust(z[routed]), strict=True):
            if robust.empty and self.on_empty_set == "abstain" and not self.must_answer:
                sets[index], labels[index] = True, ABSTAIN
                names[index], reasons[index] = self.names[1], f"empty set: {robust.reason}"
                continue
            if robust.fault is None and (robust.label != ABSTAIN or not self.must_answer):
                labels[index], sets[index] = robust.label, robust.members
                names[index], reasons[index] = self.names[1], robust.reason
                continue
            label = int(labels_at(z[index : index + 1], self.fast.threshold, self.positive)[0])
            labels[index], sets[index] = label, robust.members
            sets[index, label] = True
            why = f"fallback: {robust.fault}" if robust.fault else f"must answer: {robust.reason}"
            reasons[index] = f"{why}; {self.names[0]}: {fast.reasons[index]}"
        return Decisions(labels=labels, scores=fast.scores, sets=sets, reasons=reasons, policies=names)

    def _clear(self, z: Floats, fast: Decisions) -> Booleans:
        if self.routing_margin is None:
            return np.zeros(len(fast), dtype=np.bool_)
        distance = np.abs(margin(z, self.positive) - self.fast.threshold)
        return (distance >= self.routing_margin) & ~fast.abstain

    def _robust(self, z: Floats) -> list[_Robust]:
        """What the robust member says of each row; a row that breaks it does not take the others with it."""
        if self.robust is None:
            return [_Robust.broken(f"policy {self.names[1]} is missing", self.classes)] * z.shape[0]
        try:
            return _Robust.rows(self.robust.decide(z), self.names[1])
        except Exception as error:  # noqa: BLE001 - whatever a member raises, the hybrid still answers and says so
            if z.shape[0] == 1:
                cause = " ".join(str(error).split())
                return [_Robust.broken(f"policy {self.names[1]} failed: {type(error).__name__}: {cause}", self.classes)]
        return [row for index in range(z.shape[0]) for row in self._robust(z[index : index + 1])]

    def state(self) -> Mapping[str, Any]:
        """Routing margin, whether it must answer, and the record of the fit."""
        return {
            "routing_margin": self.routing_margin,
            "must_answer": self.must_answer,
            "record": dict(self.record),
        }

    def summary(self) -> Mapping[str, Any]:
        """The routing margin and what it showed on the samples that it was fitted to."""
        members = {"fast": self.names[0], "robust": self.names[1], "must_answer": self.must_answer}
        return {"routing_margin": self.routing_margin} | members | dict(self.record)

    def guarantee(self) -> Mapping[str, Any]:
        """None of the parts' own: routing by score voids them."""
        return {
            "kind": "none",
            "text": (
                f"None. Which of {self.names[0]} and {self.names[1]} decides depends on the score, and that voids what"
                " each promises alone. What the composite decision is worth is what its audit on test shows."
            ),
        }


@frozen(eq=False)
class _Robust:
    """One row of the robust member's decisions; `fault` says why it cannot stand."""

    label: int
    members: Booleans
    reason: str
    fault: str | None = None
    empty: bool = False

    @classmethod
    def broken(cls, fault: str, classes: int) -> _Robust:
        return cls(ABSTAIN, np.zeros(classes, dtype=np.bool_), fault, fault)

    @classmethod
    def rows(cls, decisions: Decisions, name: str) -> list[_Robust]:
        faults = [
            f"policy {name} gave a score that is not finite"
            if not np.isfinite(score)
            else f"policy {name} gave an empty set"
            if not members.any()
            else None
            for score, members in zip(decisions.scores.tolist(), decisions.sets, strict=True)
        ]
        empty = (~decisions.sets.any(axis=1) & np.isfinite(decisions.scores)).tolist()
        table = zip(decisions.labels.tolist(), decisions.sets, decisions.reasons, faults, empty, strict=True)
        return [cls(*row) for row in table]


def routing_margin(distance: Floats, wrong: Booleans, target_error: float) -> float | None:
    """The smallest distance from the cut above which at most `target_error` of the samples (n,) are wrong.

    Samples of one distance stay together; the margin is the middle of the gap below them, and None where not even
    the farthest samples keep the target.
    """
    order = np.argsort(-distance, kind="stable")
    ordered = distance[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), ordered.size - 1)
    error = np.cumsum(wrong[order])[last] / (last + 1)
    kept = np.flatnonzero(error <= target_error + 1e-12)
    if kept.size == 0:
        return None
    nearest = int(last[kept[-1]])
    upper = float(ordered[nearest])
    lower = float(ordered[nearest + 1]) if nearest + 1 < ordered.size else 0.0
    middle = (lower + upper) / 2.0
    return middle if lower < middle <= upper else upper


def fit(options: Hybrid, ctx: PolicyContext) -> HybridPolicy:
    """Fits the routing margin on val_calib to the target error."""
    fast, robust = _fast_member(options, ctx.members), ctx.members.get(options.robust)
    if robust is None:
        raise DataError(f"hybrid needs the policy {options.robust!r} fitted before it")
    z = as_logits(ctx.logits)
    if z.shape[0] == 0:
        raise DataError("hybrid cannot be fitted without samples", hint="give val_calib some")
    labels = class_labels(ctx.labels, z.shape[0], z.shape[1])
    decisions = fast.decide(z)
    answered = ~decisions.abstain
    distance = np.abs(margin(z, ctx.positive) - fast.threshold)
    wrong = decisions.labels != labels
    chosen = routing_margin(distance[answered], wrong[answered], options.target_error) if answered.any() else None
    alone = answered & (distance >= (np.inf if chosen is None else chosen))
    record = {
        "target_error": options.target_error,
        "in_sample": {
            "fast_alone": clopper_pearson(int(alone.sum()), int(alone.size)).to_json(),
            "error_of_fast_alone": clopper_pearson(int((wrong & alone).sum()), int(alone.sum())).to_json(),
            "note": "on the samples that the routing margin was fitted to: optimistic, not a result",
        },
    }
    names = (options.fast, options.robust)
    return HybridPolicy(
        fast=fast,
        robust=robust,
        names=names,
        routing_margin=chosen,
        must_answer=options.must_answer,
        positive=ctx.positive,
        classes=z.shape[1],
        on_empty_set=options.on_empty_set,
        record=record,
    )


def _fast_member(options: Hybrid, members: Mapping[str, Policy]) -> HasThreshold:
    fast = members.get(options.fast)
    if fast is None:
        raise DataError(f"hybrid needs the policy {options.fast!r} fitted before it")
    if not isinstance(fast, HasThreshold):
        raise DataError(
            f"hybrid cannot route by the policy {options.fast!r}: it has no cut on the margin",
            hint='fast must name a policy of use = "threshold"',
        )
    return fast


def restore(options: Hybrid, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> HybridPolicy:
    """From `HybridPolicy.state()`; without its robust member it falls back, without its fast one it cannot be."""
    routing = state["routing_margin"]
    return HybridPolicy(
        fast=_fast_member(options, ctx.members),
        robust=ctx.members.get(options.robust),
        names=(options.fast, options.robust),
        routing_margin=None if routing is None else float(routing),
        must_answer=bool(state["must_answer"]),
        positive=ctx.positive,
        classes=len(ctx.classes),
        on_empty_set=options.on_empty_set,
        record=state.get("record", {}),
    )
