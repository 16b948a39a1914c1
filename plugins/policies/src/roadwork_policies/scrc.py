"""The SCRC policy: calibrate on one part of val_calib, select and bound the prediction sets on the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from roadwork_core.decisions import ABSTAIN, Decisions
from roadwork_core.errors import DataError
from roadwork_core.kinds import Calibrator, CalibratorContext, PolicyContext, PolicyRestoreContext
from roadwork_core.metrics.inputs import Floats, Integers, class_labels, group_codes
from roadwork_core.metrics.intervals import clopper_pearson
from roadwork_core.metrics.logits import as_logits, class_log_odds, sigmoid

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
from .folds import random_part
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


def sample_digest(logits: Floats, labels: Integers) -> str:
    """sha256 in hex of the samples' float64 logits and int64 labels, in their order."""
    digest = hashlib.sha256(np.ascontiguousarray(logits, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    return digest.hexdigest()


def fit(options: Scrc, ctx: PolicyContext) -> ScrcPolicy:
    """Divides val_calib by group, calibrates on one part, and takes cut and bound from the other."""
    logits = as_logits(ctx.logits)
    n_all, classes = logits.shape
    if n_all == 0:
        raise DataError("scrc cannot be fitted without samples", hint="give val_calib some")
    labels = class_labels(ctx.labels, n_all, classes)
    if np.unique(labels).size < 2:
        raise DataError(f"all {n_all} samples are of one class", hint="scrc needs samples of every class")
    codes = group_codes(ctx.groups, n_all)
    fits = random_part(codes, options.fit_fraction, ctx.seed)

    def count(n: int) -> int:
        inductive = options.variant == "inductive"
        return inductive_count(n, options.xi, options.delta) if inductive else transductive_count(n, options.xi)

    needed = smallest_n(options.alpha, count)
    if fits.all() or not fits.any():
        raise infeasible(f"from {n_all} samples that are one group", options.alpha, needed)
    calibrator = options.calibrator.build(CalibratorContext(logits=logits[fits], labels=labels[fits]))

    z, y = logits[~fits], labels[~fits]
    n, salt = y.size, int(np.random.default_rng([ctx.seed, 3]).integers(0, 2**63))
    odds = class_log_odds(as_logits(calibrator.transform(z)))
    confidence, jitters = odds.max(axis=1), jitter(z, salt)
    k = count(n)
    cut = top_cut(confidence, jitters, k)
    selected = cut.selects(confidence, jitters)
    scores = -np.take_along_axis(odds, y[:, None], axis=1)[:, 0]
    bound = selected_quantile(scores, selected, options.alpha, needed)
    groups = int(np.unique(codes[~fits]).size)
    promise = _promise(options, n, groups, k, int(selected.sum()), sample_digest(z, y))
    policy = ScrcPolicy(calibrator, cut, bound, salt, ctx.positive, classes, promise)
    record = {"n_fit": int(fits.sum()), "n_conformal": n} | _held_out(policy, logits[fits], labels[fits])
    return ScrcPolicy(calibrator, cut, bound, salt, ctx.positive, classes, promise, record)


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


def _promise(options: Scrc, n: int, groups: int, k: int, used: int, digest: str) -> dict[str, Any]:
    transductive = options.variant == "transductive"
    rank = conformal_rank(used, options.alpha)
    if transductive:
        share = f"A new sample is selected with probability {k}/{n + 1} = {k / (n + 1):.4f}"
    else:
        share = (
            f"With probability {1 - options.delta:g} over the calibration set a share of at least {options.xi:g} of"
            " new samples is selected (this statement covers the selection alone)"
        )
    text = (
        f"{share}. Given that it was selected, its prediction set holds the true label with probability at least"
        f" {1 - options.alpha:g}, on average over calibration sets ({n} samples in {groups} groups, {used} of them"
        " selected). This holds if the new sample and the calibration samples are exchangeable; samples of one group"
        " are not quite, so with groups it is an approximation. It speaks of the sets of selected samples, not of"
        " each class, nor of the error of the answers given (sets of one label), which the audit on test shows."
    )
    return {
        "kind": "scrc_t" if transductive else "scrc_i",
        "alpha": options.alpha,
        "xi": options.xi,
        "delta": None if transductive else options.delta,
        "n": n,
        "groups": groups,
        "K": k,
        "selected": used,
        "rank": rank,
        "coverage_at_least": 1.0 - options.alpha,
        "coverage_exactly": rank / (used + 1),
        "selection": k / (n + 1) if transductive else None,
        "digest": digest,
        "assumption": "exchangeability",
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
