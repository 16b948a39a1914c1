"""The conformal policy: prediction sets that hold the label as often as promised, overall or within each class."""

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
from roadwork_core.metrics.inputs import Booleans, Floats, Integers
from roadwork_core.metrics.intervals import clopper_pearson
from roadwork_core.metrics.logits import as_logits, softmax
from roadwork_core.metrics.selective import mean_set_size

from .calibrated_parts import calibrated_parts
from .conformal import conformal_rank, infeasible, jitter, quantile, smallest_n
from .folds import about_groups
from .nonconformity import aps, lac, raps
from .threshold import checked_logits

if TYPE_CHECKING:
    from .policy_components import Conformal


@frozen(eq=False)
class ConformalPolicy:
    """The set of a sample holds the labels whose nonconformity is at most their class's bound in `bounds` (C,)."""

    options: Conformal
    calibrator: Calibrator
    bounds: Floats
    salt: int
    positive: int
    promise: Mapping[str, Any] = field(factory=dict)
    record: Mapping[str, Any] = field(factory=dict)

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        """Logits (n, C) to n decisions: a label where the set is that label alone, else an abstention.

        Scores are calibrated P(positive). Raises DataError for logits that are not finite.
        """
        z = checked_logits(logits, self.bounds.size)
        calibrated = as_logits(self.calibrator.transform(z))
        sets = nonconformity(self.options, z, calibrated, self.salt) <= self.bounds
        empty = ~sets.any(axis=1)
        if self.options.fill_empty and empty.any():
            sets[empty, calibrated[empty].argmax(axis=1)] = True
        size = sets.sum(axis=1)
        labels = np.where(size == 1, sets.argmax(axis=1), ABSTAIN)
        reasons = [self._reason(*row) for row in zip(size.tolist(), np.asarray(empty).tolist(), strict=True)]
        return Decisions(labels=labels, scores=softmax(calibrated)[:, self.positive], sets=sets, reasons=reasons)

    def _reason(self, size: int, empty: bool) -> str:
        if empty:
            return "empty set: no label conforms" + ("; filled with the likeliest" if size else "")
        return "set of 1 label" if size == 1 else f"set of {size} labels"

    def state(self) -> Mapping[str, Any]:
        """Calibrator, bounds, salt and the records."""
        return {
            "calibrator": dict(self.calibrator.state()),
            "bounds": self.bounds.tolist(),
            "salt": str(self.salt),
            "guarantee": dict(self.promise),
            "record": dict(self.record),
        }

    def summary(self) -> Mapping[str, Any]:
        """The calibrator, the bounds (for lac also as probabilities), and what samples beside showed."""
        shown: dict[str, Any] = {"score": self.options.score, "bounds": self.bounds.tolist()}
        if self.options.score == "lac":
            shown["set_holds_labels_from"] = [1.0 / (1.0 + math.exp(min(bound, 700.0))) for bound in self.bounds]
        return shown | {"calibrator": dict(self.calibrator.state())} | dict(self.record)

    def guarantee(self) -> Mapping[str, Any]:
        """What is promised, in numbers and in words."""
        return self.promise


def nonconformity(options: Conformal, raw: Floats, calibrated: Floats, salt: int) -> Floats:
    """Nonconformity (n, C) of every label. Its random part is a function of the raw logits and the salt, so the whole
    is a function of the sample, the same in any batch, and the promise needs no luck of its own."""
    if options.score == "lac":
        return lac(calibrated)
    uniforms = jitter(raw, salt).astype(np.float64) / 2.0**64 if options.randomized else None
    if options.score == "aps":
        return aps(calibrated, uniforms)
    return raps(calibrated, uniforms, options.penalty, options.k_reg)


def fit(options: Conformal, ctx: PolicyContext) -> ConformalPolicy:
    """Calibrates on one part of val_calib, where there is something to fit, and takes the bounds from the other."""
    parts = calibrated_parts(
        "conformal",
        options,
        ctx,
        lambda n: infeasible(f"from {n} samples that are one group", options.alpha, _least(options.alpha)),
    )
    z, y, calibrator, salt = parts.logits, parts.labels, parts.calibrator, parts.salt
    table = nonconformity(options, z, as_logits(calibrator.transform(z)), salt)
    own = np.take_along_axis(table, y[:, None], axis=1)[:, 0]
    bounds = bounds_of(own, y, options, ctx.classes)
    policy = ConformalPolicy(options, calibrator, bounds, salt, ctx.positive)
    record: dict[str, Any] = {"n_fit": parts.fit_labels.size, "n_conformal": y.size}
    if parts.fit_labels.size:
        record |= _held_out(policy, parts.fit_logits, parts.fit_labels)
    return evolve(policy, promise=_promise(options, y, z.shape[1], parts.groups, parts.digest), record=record)


def _least(alpha: float) -> int:
    return smallest_n(alpha, lambda n: n + 1)


def bounds_of(own: Floats, labels: Integers, options: Conformal, classes: Any) -> Floats:
    """The bound of each class (C,) from the nonconformity (n,) of the samples' own labels (n,).

    Raises InfeasibleError for a bound that would be infinite, naming the class and the samples needed.
    """
    count = len(classes)
    if not options.class_conditional:
        bound = quantile(own, options.alpha)
        if math.isinf(bound):
            raise infeasible(f"from {own.size} conformal samples", options.alpha, _least(options.alpha))
        return np.full(count, bound)
    bounds = np.asarray([quantile(own[labels == label], options.alpha) for label in range(count)])
    if np.isinf(bounds).any():
        label = int(np.flatnonzero(np.isinf(bounds))[0])
        found = f"for the class {classes[label]!r} from {int((labels == label).sum())} of its samples"
        raise infeasible(found, options.alpha, _least(options.alpha), of="conformal samples of that class")
    return bounds


def _held_out(policy: ConformalPolicy, logits: Floats, labels: Integers) -> dict[str, Any]:
    """Shares on the part that fitted the calibrator and not the bounds, with exact intervals."""
    decisions = policy.decide(logits)
    covered: Booleans = np.take_along_axis(decisions.sets, labels[:, None], axis=1)[:, 0]
    answered = ~decisions.abstain
    wrong = answered & (decisions.labels != labels)
    by_class = {
        str(label): clopper_pearson(int(covered[labels == label].sum()), int((labels == label).sum())).to_json()
        for label in range(policy.bounds.size)
    }
    return {
        "held_out": {
            "note": "on the part that fitted the calibrator and not the bounds; the audit is on test",
            "coverage": clopper_pearson(int(covered.sum()), labels.size).to_json(),
            "coverage_by_class": by_class,
            "mean_set_size": mean_set_size(decisions.sets),
            "answered": clopper_pearson(int(answered.sum()), labels.size).to_json(),
            "error_of_answers": clopper_pearson(int(wrong.sum()), int(answered.sum())).to_json(),
        }
    }


def _promise(options: Conformal, labels: Integers, classes: int, groups: int, digest: str) -> dict[str, Any]:
    n, one = int(labels.size), options.per_group == "one"
    counts = np.bincount(labels, minlength=classes).tolist() if options.class_conditional else [n]
    exactly = [conformal_rank(count, options.alpha) / (count + 1) for count in counts]
    whose = "Within each true class, the" if options.class_conditional else "The"
    text = (
        f"{whose} prediction set of a new sample holds its label with probability at least {1 - options.alpha:g}"
        f" (and at most {max(exactly):.4f} where no two scores are equal and no empty set is filled), on average over"
        f" calibration sets ({n} samples in {groups} groups). {about_groups(n, groups, one=one)}. It speaks of the"
        " sets, not of the error of the answers given (sets of one label), which the audit on test shows."
    )
    return {
        "kind": "mondrian" if options.class_conditional else "split_conformal",
        "score": options.score,
        "alpha": options.alpha,
        "n": n,
        "n_by_class": counts if options.class_conditional else None,
        "groups": groups,
        "per_group": options.per_group,
        "coverage_at_least": 1.0 - options.alpha,
        "coverage_without_ties": exactly if options.class_conditional else exactly[0],
        "digest": digest,
        "assumption": "exchangeability",
        "text": text,
    }


def restore(options: Conformal, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> ConformalPolicy:
    """From `ConformalPolicy.state()`. Raises DataError for bounds that are not a finite number a class."""
    bounds = np.asarray(state["bounds"], dtype=np.float64)
    if bounds.shape != (len(ctx.classes),) or not np.isfinite(bounds).all():
        raise DataError(f"not a conformal policy of {len(ctx.classes)} classes: bounds {state['bounds']}")
    return ConformalPolicy(
        options=options,
        calibrator=options.calibrator.restore(state["calibrator"]),
        bounds=bounds,
        salt=int(state["salt"]),
        positive=ctx.positive,
        promise=state["guarantee"],
        record=state.get("record", {}),
    )
