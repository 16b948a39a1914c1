"""From logits to the decisions that a bundle gives: the asked policy, its fallback, and answers that must be given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import Factory, field, frozen
from numpy.typing import NDArray

from ..decisions import ABSTAIN, Decisions
from ..errors import RoadworkError

if TYPE_CHECKING:
    from ..kinds import Policy
    from ..plugins import Plugins

Logits = NDArray[np.float64]
#: How a reason begins that says that another policy than the one that should have has decided.
FALLBACK = "fallback: "


@frozen
class _Row:
    """One decision, on its way into `Decisions`."""

    label: int
    score: float
    members: NDArray[np.bool_]
    reason: str
    policy: str


@frozen(kw_only=True)
class Decided:
    """`decisions` of n samples, `policies` naming who decided each; a row in `errors` has no decision and says why.

    `fallbacks` counts, by cause, the rows that the fallback policy answered in place of the asked one, and those in
    which the asked policy says itself that one of its members stood in for another ("fallback: CAUSE; ...").
    """

    decisions: Decisions
    errors: Mapping[int, str]
    fallbacks: Mapping[str, int]


@frozen(kw_only=True)
class Decider:
    """The policies of a bundle. The same object decides in evaluation and in serving, so both decide alike.

    `broken` says of policies that could not be restored why; asking for one goes to the fallback.
    """

    policies: Mapping[str, Policy]
    active: str
    fallback: str | None
    num_classes: int
    positive: int
    broken: Mapping[str, str] = field(default=Factory(dict))

    def decide(self, logits: Logits, *, policy: str | None = None, must_answer: bool = False) -> Decided:
        """Logits, float64 (n, C), to n decisions of `policy` (default: the active one).

        Where that policy raises, is broken, gives a score that is not finite or an empty set, the fallback policy
        decides (an empty set stands where there is no fallback). With `must_answer` an abstention is answered by the
        fallback policy, or where that does not answer either by the more probable side of P(positive) = 0.5.
        """
        asked = policy or self.active
        finite = np.isfinite(logits).all(axis=1)
        errors = {int(row): "the model's logits are not finite" for row in np.flatnonzero(~finite)}
        rows: dict[int, _Row] = {}
        causes: Counter[str] = Counter()
        wanted = np.flatnonzero(finite)
        decided = self._by(asked, logits[wanted])
        for row, found in zip(wanted.tolist(), decided, strict=True):
            if not isinstance(found, str) and self._is_empty(found):
                found = f"{asked} gave an empty set"
            if isinstance(found, str):
                instead = self._instead(asked, found, logits[row : row + 1])
                if isinstance(instead, str):
                    errors[row] = instead
                    continue
                causes[found] += 1
                found = instead
            elif found.reason.startswith(FALLBACK):
                causes[found.reason.removeprefix(FALLBACK).split(";")[0]] += 1
            if must_answer and found.label == ABSTAIN:
                found = self._answer(found, logits[row : row + 1])
            rows[row] = found
        return Decided(decisions=self._collect(rows, len(logits), asked), errors=errors, fallbacks=dict(causes))

    def _by(self, name: str, logits: Logits) -> list[_Row | str]:
        """Each row's decision by one policy alone, or why there is none."""
        if name in self.broken:
            return [f"{name} could not be restored: {self.broken[name]}"] * len(logits)
        if name not in self.policies:
            return [f"{name} is not in the bundle"] * len(logits)
        if not len(logits):
            return []
        try:
            decisions = self.policies[name].decide(logits)
        except Exception as error:  # noqa: BLE001 - a plugin's policy may fail in any way; the fallback answers
            if len(logits) == 1:
                return [f"{name} failed: {_one_line(error)}"]
            return [self._by(name, logits[row : row + 1])[0] for row in range(len(logits))]
        if problem := self._malformed(decisions, len(logits)):
            return [f"{name} failed: {problem}"] * len(logits)
        return [self._row(name, decisions, row) for row in range(len(logits))]

    def _malformed(self, decisions: Decisions, n: int) -> str | None:
        if len(decisions.labels) != n or len(decisions.scores) != n or len(decisions.reasons) != n:
            return f"it gave another number of decisions than {n}"
        if np.shape(decisions.sets) != (n, self.num_classes):
            return f"its sets are of shape {np.shape(decisions.sets)}, not {(n, self.num_classes)}"
        return None

    def _row(self, name: str, decisions: Decisions, row: int) -> _Row | str:
        label, score, members = int(decisions.labels[row]), float(decisions.scores[row]), decisions.sets[row]
        if not np.isfinite(score):
            return f"{name} gave a score that is not finite"
        if not 0.0 <= score <= 1.0 or not ABSTAIN <= label < self.num_classes:
            return f"{name} gave an impossible decision"
        reason = decisions.reasons[row]
        part = decisions.policies[row] if decisions.policies is not None else name
        if part != name and part not in reason:
            reason = f"{part}: {reason}"
        return _Row(label, score, members, reason, name)

    def _is_empty(self, found: _Row) -> bool:
        """Whether the fallback should answer a set that fits no label; without a fallback the abstention stands."""
        return not found.members.any() and self.fallback not in (None, found.policy)

    def _instead(self, asked: str, cause: str, logits: Logits) -> _Row | str:
        if self.fallback is None:
            return f"{cause}, and the bundle names no fallback"
        if self.fallback == asked:
            return cause
        found = self._by(self.fallback, logits)[0]
        if isinstance(found, str):
            return f"{cause}; the fallback {found}"
        return _Row(found.label, found.score, found.members, f"{FALLBACK}{cause}; {found.reason}", found.policy)

    def _answer(self, abstained: _Row, logits: Logits) -> _Row:
        if self.fallback is not None and self.fallback != abstained.policy:
            found = self._by(self.fallback, logits)[0]
            if not isinstance(found, str) and found.label != ABSTAIN:
                reason = f"must answer: {abstained.policy} abstained ({abstained.reason}); {found.reason}"
                return _Row(found.label, found.score, found.members, reason, found.policy)
        label, reason = self._more_probable(abstained.score, logits[0])
        reason = f"must answer: {abstained.policy} abstained ({abstained.reason}); {reason}"
        return _Row(label, abstained.score, abstained.members, reason, abstained.policy)

    def _more_probable(self, score: float, logits: Logits) -> tuple[int, str]:
        if self.num_classes > 2:
            return int(np.argmax(logits)), "the largest logit"
        if score >= 0.5:
            return self.positive, f"score {score:.4f} >= 0.5"
        return 1 - self.positive, f"score {score:.4f} < 0.5"

    def _collect(self, rows: Mapping[int, _Row], n: int, asked: str) -> Decisions:
        nothing = _Row(ABSTAIN, float("nan"), np.zeros(self.num_classes, dtype=np.bool_), "", asked)
        full = [rows.get(row, nothing) for row in range(n)]
        return Decisions(
            labels=np.array([row.label for row in full], dtype=np.int64),
            scores=np.array([row.score for row in full], dtype=np.float64),
            sets=np.array([row.members for row in full], dtype=np.bool_).reshape(n, self.num_classes),
            reasons=[row.reason for row in full],
            policies=[row.policy for row in full],
        )


def decider_of(
    documents: Mapping[str, Mapping[str, Any]],
    plugins: Plugins,
    *,
    active: str,
    fallback: str | None,
    num_classes: int,
    positive: int,
) -> Decider:
    """The decider of these policy documents, by name."""
    policies, broken = restore_policies(documents, plugins)
    return Decider(
        policies=policies,
        active=active,
        fallback=fallback,
        num_classes=num_classes,
        positive=positive,
        broken=broken,
    )


def restore_policies(
    documents: Mapping[str, Mapping[str, Any]], plugins: Plugins
) -> tuple[dict[str, Policy], dict[str, str]]:
    """The policies of these documents by name, and of those that cannot be restored the reason.

    One that is broken breaks those that need it, and no others.
    """
    from ..policies import load_policies

    restored: dict[str, Policy] = {}
    broken: dict[str, str] = {}
    for name in documents:
        needed = _closure(name, documents)
        if missing := [member for member in needed if member not in documents]:
            broken[name] = f"it needs the policy {missing[0]!r}, which is not in the bundle"
            continue
        try:
            restored[name] = load_policies({member: documents[member] for member in needed}, plugins)[name]
        except Exception as error:  # noqa: BLE001 - as above: kept, and reported where it matters
            broken[name] = _one_line(error)
    return restored, broken


def _closure(name: str, documents: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    found = [name]
    for current in found:
        members = documents[current]["members"] if current in documents else ()
        found += [member for member in members if member not in found]
    return found


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, RoadworkError) else f"{type(error).__name__}: {text}"
