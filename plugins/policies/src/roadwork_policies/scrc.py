"""The SCRC policy: calibrate on one part of val_calib, select and bound the prediction sets on the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from roadwork_core.decisions import ABSTAIN, Decisions
from roadwork_core.errors import DataError
from roadwork_core.kinds import Calibrator, PolicyContext, PolicyRestoreContext
from roadwork_core.metrics.inputs import Floats, Integers
from roadwork_core.metrics.intervals import clopper_pearson
from roadwork_core.metrics.logits import as_logits, class_log_odds, sigmoid

from .calibrated_parts import calibrated_parts
from .conformal import (
    JITTER_RULE,
    Cut,
    conformal_rank,
    inductive_count,
    infeasible,
    jitter,
    selected_quantile,
    smallest_n,
    top_cut,
    transductive_count,
)
from .folds import about_groups
from .threshold import checked_logits

if TYPE_CHECKING:
    from .policy_components import Scrc


@frozen(eq=False)
class ScrcPolicy:
    """Selects samples above `cut`; their sets hold the labels whose nonconformity is at most `bound`.

    Confidence is the largest calibrated log odds, nonconformity of label y is -log(p_y / (1 - p_y)): the LAC score
    1 - p_y on a scale on which confident samples do not collapse into ties.
    """

    calibrator: Calibrator
    cut: Cut
    bound: float
    salt: int
    positive: int
    classes: int
    promise: Mapping[str, Any]
    record: Mapping[str, Any] = field(factory=dict)

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        """Logits (n, C) to n decisions; scores are calibrated P(positive). Raises DataError if not finite."""
        z = checked_logits(logits, self.classes)
        odds = class_log_odds(as_logits(self.calibrator.transform(z)))
        confidence = odds.max(axis=1)
        selected = self.cut.selects(confidence, jitter(z, self.salt))
        sets = -odds <= self.bound
        size = sets.sum(axis=1)
        labels = np.where(selected & (size == 1), sets.argmax(axis=1), ABSTAIN)
        sets[~selected] = True
        rows = zip(selected.tolist(), size.tolist(), sigmoid(confidence).tolist(), strict=True)
        reasons = [self._reason(*row) for row in rows]
        return Decisions(labels=labels, scores=sigmoid(odds[:, self.positive]), sets=sets, reasons=reasons)

    def _reason(self, selected: bool, size: int, confidence: float) -> str:
        if not selected:
            limit = float(sigmoid(self.cut.confidence or 0.0))
            return f"not selected: confidence {confidence:.4f} not above {limit:.4f}"
        if size == 0:
            return "empty set: no label is as likely as calibration asks"
        return "set of 1 label" if size == 1 else f"set of {size} labels"

    def state(self) -> Mapping[str, Any]:
        """Calibrator, cut, bound, salt and the records."""
        return {
            "calibrator": dict(self.calibrator.state()),
            "cut": {"confidence": self.cut.confidence, "jitter": str(self.cut.jitter)},
            "bound": self.bound,
            "salt": str(self.salt),
            "tie_rule": JITTER_RULE,
            "guarantee": dict(self.promise),
            "record": dict(self.record),
        }

    def summary(self) -> Mapping[str, Any]:
        """The calibrator, the cut and bound in probabilities, and what the part not used by conformal showed."""
        confidence = None if self.cut.confidence is None else float(sigmoid(self.cut.confidence))
        smallest = {"selected_above": confidence, "set_holds_labels_from": float(sigmoid(-self.bound))}
        return {"calibrator": dict(self.calibrator.state())} | smallest | dict(self.record)

    def guarantee(self) -> Mapping[str, Any]:
        """What is promised, in numbers and in words."""
        return self.promise


def fit(options: Scrc, ctx: PolicyContext) -> ScrcPolicy:
    """Divides val_calib by group, calibrates on one part (none, where there is nothing to fit), and takes cut and bound
    from the other."""

    def count(n: int) -> int:
        inductive = options.variant == "inductive"
        return inductive_count(n, options.xi, options.delta) if inductive else transductive_count(n, options.xi)

    needed = smallest_n(options.alpha, count)
    parts = calibrated_parts(
        "scrc",
        options,
        ctx,
        lambda n: infeasible(f"from {n} samples that are one group", options.alpha, needed),
    )
    z, y = parts.logits, parts.labels
    n, classes = z.shape
    odds = class_log_odds(as_logits(parts.calibrator.transform(z)))
    confidence, jitters = odds.max(axis=1), jitter(z, parts.salt)
    k = count(n)
    cut = top_cut(confidence, jitters, k)
    selected = cut.selects(confidence, jitters)
    used = selected & (y == ctx.positive) if options.loss == "false_negative_rate" else selected
    scores = -np.take_along_axis(odds, y[:, None], axis=1)[:, 0]
    bound = _bound(options, scores[used], int(selected.sum()), n, needed)
    promise = _promise(options, n, parts.groups, k, (int(selected.sum()), int(used.sum())), parts.digest)
    policy = ScrcPolicy(parts.calibrator, cut, bound, parts.salt, ctx.positive, classes, promise)
    record: dict[str, Any] = {"n_fit": parts.fit_labels.size, "n_conformal": n}
    if parts.fit_labels.size:
        record |= _held_out(policy, parts.fit_logits, parts.fit_labels)
    return evolve(policy, record=record)


def _bound(options: Scrc, used: Floats, selected: int, n: int, needed: int) -> float:
    """The bound from the scores of the samples that the loss counts, or INFEASIBLE with the samples needed."""
    found = f"from {selected} selected of {n} conformal samples"
    if options.loss == "false_negative_rate":
        found = f"of positives from {used.size} of them among {selected} selected of {n} conformal samples"
        positives = smallest_n(options.alpha, lambda m: m + 1)
        needed = math.ceil(positives * n / max(used.size, 1))
    return selected_quantile(used, options.alpha, found, max(needed, n + 1))


def _held_out(policy: ScrcPolicy, logits: Floats, labels: Integers) -> dict[str, Any]:
    """Shares on the part that conformal did not see (it fitted the calibrator), with exact intervals."""
    decisions = policy.decide(logits)
    answered = ~decisions.abstain
    wrong = answered & (decisions.labels != labels)
    by_class = {
        str(label): clopper_pearson(int(wrong[of].sum()), int((answered & of).sum())).to_json()
        for label in range(policy.classes)
        for of in [labels == label]
    }
    return {
        "held_out": {
            "note": "on the part that fitted the calibrator and not the cut and bound; the audit is on test",
            "answered": clopper_pearson(int(answered.sum()), labels.size).to_json(),
            "error_of_answers": clopper_pearson(int(wrong.sum()), int(answered.sum())).to_json(),
            "error_of_answers_by_class": by_class,
        }
    }


def _promise(options: Scrc, n: int, groups: int, k: int, counts: tuple[int, int], digest: str) -> dict[str, Any]:
    """`counts`: how many of the n are selected, and how many of those the loss counts."""
    selected, used = counts
    transductive, one = options.variant == "transductive", options.per_group == "one"
    of_positives = options.loss == "false_negative_rate"
    rank = conformal_rank(used, options.alpha)
    if transductive:
        share = (
            f"A new sample is selected with probability {k}/{n + 1} = {k / (n + 1):.4f} (less only where samples are"
            " equal to the last bit)"
        )
    else:
        share = (
            f"With probability at least {1 - options.delta:g} over the calibration set a share of at least"
            f" {options.xi:g} of new samples is selected (this statement covers the selection alone; it takes samples"
            " to be independent, and none to be equal to the last bit)"
        )
    given = "it was selected and is positive" if of_positives else "it was selected"
    counted = f"{selected} of them selected, {used} of these positive" if of_positives else f"{used} of them selected"
    silent = "of negatives" if of_positives else "of each class"
    text = (
        f"{share}. Given that {given}, its prediction set holds the true label with probability at least"
        f" {1 - options.alpha:g}, on average over calibration sets ({n} samples in {groups} groups, {counted})."
        f" {about_groups(n, groups, one=one)}. It speaks of the sets of selected samples, not {silent}, nor of the"
        " error of the answers given (sets of one label), which the audit on test shows."
    )
    return {
        "kind": "scrc_t" if transductive else "scrc_i",
        "loss": options.loss,
        "alpha": options.alpha,
        "xi": options.xi,
        "delta": None if transductive else options.delta,
        "n": n,
        "groups": groups,
        "per_group": options.per_group,
        "K": k,
        "selected": selected,
        "counted": used,
        "rank": rank,
        "coverage_at_least": 1.0 - options.alpha,
        "coverage_without_ties": rank / (used + 1),
        "selection": k / (n + 1) if transductive else None,
        "digest": digest,
        "assumption": "exchangeability" if transductive else "exchangeability; of the selection independent samples",
        "text": text,
    }


def restore(options: Scrc, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> ScrcPolicy:
    """From `ScrcPolicy.state()`. Raises DataError for a bound that is no finite number."""
    bound, confidence = float(state["bound"]), state["cut"]["confidence"]
    if not np.isfinite(bound):
        raise DataError(f"not an scrc policy: bound {bound}")
    return ScrcPolicy(
        calibrator=options.calibrator.restore(state["calibrator"]),
        cut=Cut(None if confidence is None else float(confidence), int(state["cut"]["jitter"])),
        bound=bound,
        salt=int(state["salt"]),
        positive=ctx.positive,
        classes=len(ctx.classes),
        promise=state["guarantee"],
        record=state.get("record", {}),
    )
