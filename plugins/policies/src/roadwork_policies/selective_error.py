"""The selective_error policy: answers above a confidence whose error is tested, not estimated, to keep a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from roadwork_core.decisions import ABSTAIN, Decisions
from roadwork_core.errors import DataError, InfeasibleError
from roadwork_core.kinds import Calibrator, PolicyContext, PolicyRestoreContext
from roadwork_core.metrics.inputs import Booleans, Floats, Integers
from roadwork_core.metrics.intervals import clopper_pearson
from roadwork_core.metrics.logits import as_logits, class_log_odds, sigmoid
from roadwork_core.metrics.special import beta_cdf

from .calibrated_parts import calibrated_parts
from .conformal import JITTER_RULE, Cut, ceil_count, jitter, top_cut
from .folds import about_groups
from .threshold import checked_logits

if TYPE_CHECKING:
    from .policy_components import SelectiveError


@frozen(eq=False)
class SelectiveErrorPolicy:
    """Answers with the likeliest label where the confidence, the largest calibrated log odds, is above `cut`."""

    calibrator: Calibrator
    cut: Cut
    salt: int
    positive: int
    classes: int
    promise: Mapping[str, Any] = field(factory=dict)
    record: Mapping[str, Any] = field(factory=dict)

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        """Logits (n, C) to n decisions; scores are calibrated P(positive). Raises DataError if not finite."""
        z = checked_logits(logits, self.classes)
        odds = class_log_odds(as_logits(self.calibrator.transform(z)))
        confidence = odds.max(axis=1)
        selected = self.cut.selects(confidence, jitter(z, self.salt))
        likeliest = odds.argmax(axis=1)
        sets = (likeliest[:, None] == np.arange(self.classes)) | ~selected[:, None]
        limit = 0.0 if self.cut.confidence is None else float(sigmoid(self.cut.confidence))
        reasons = [
            f"confidence {value:.4f} {'above' if above else 'not above'} {limit:.4f}"
            for value, above in zip(sigmoid(confidence).tolist(), selected.tolist(), strict=True)
        ]
        labels = np.where(selected, likeliest, ABSTAIN)
        return Decisions(labels=labels, scores=sigmoid(odds[:, self.positive]), sets=sets, reasons=reasons)

    def state(self) -> Mapping[str, Any]:
        """Calibrator, cut, salt and the records."""
        return {
            "calibrator": dict(self.calibrator.state()),
            "cut": {"confidence": self.cut.confidence, "jitter": str(self.cut.jitter)},
            "salt": str(self.salt),
            "tie_rule": JITTER_RULE,
            "guarantee": dict(self.promise),
            "record": dict(self.record),
        }

    def summary(self) -> Mapping[str, Any]:
        """The calibrator, the cut as a probability, and what the tested samples showed."""
        above = None if self.cut.confidence is None else float(sigmoid(self.cut.confidence))
        return {"answers_above": above, "calibrator": dict(self.calibrator.state())} | dict(self.record)

    def guarantee(self) -> Mapping[str, Any]:
        """What is promised, in numbers and in words."""
        return self.promise


def fixed_sequence(n: int, start: float, step: float, keeps: Callable[[int], bool]) -> int | None:
    """The last K of a sequence of ranks, fixed before any label is seen, up to which every test is passed.

    K goes from ceil(start (n + 1)) to n + 1 in steps of `step`; each test is at the whole delta, because the first
    that fails ends the sequence (Angelopoulos et al., 2021, "Learn then test"). None where the first fails.

    The cut at rank K is itself drawn, which does no harm: between two confidences at which the risk equals the target
    samples are drawn independently and err at the target on average, and below the last of them more often, so at
    the first rank that breaks the target the errors are at least Binomial(K - 1, target).
    """
    kept = None
    for index in range(math.ceil((1.0 - start) / step - 1e-9) + 1):
        k = ceil_count(min(start + index * step, 1.0), n + 1)
        if not keeps(k - 1):
            break
        kept = k
    return kept


def sgr(n: int, keeps: Callable[[int, int], bool]) -> int | None:
    """The largest K that the binary search of SGR (Geifman and El-Yaniv, 2017) visits and that passes its test.

    `keeps(answers, tests)` tests at delta / tests, `sgr_tests(n)` in all. Where the search goes depends on the tests
    before, so that adding up their deltas needs more than their number: that the risk breaks the target from one
    confidence down. A search that errs only by refusing a good rank then stays among good ones, and the bad ranks
    that it can visit before it errs are those of one path.
    """
    tests = sgr_tests(n)
    low, high, kept = 0, n, None
    for _ in range(tests):
        middle = (low + high + 1) // 2
        if keeps(middle, tests):
            low, kept = middle, middle + 1
        else:
            high = max(middle - 1, 0)
    return kept


def sgr_tests(n: int) -> int:
    """How many tests the search makes among 0 to n answers."""
    return max(math.ceil(math.log2(n + 1)), 1)


def fit(options: SelectiveError, ctx: PolicyContext) -> SelectiveErrorPolicy:
    """Takes the cut from the part of val_calib that fitted no calibrator; all of it where there is none to fit."""
    parts = calibrated_parts("selective_error", options, ctx, lambda n: infeasible(options, 0, 0, n))
    z, y = parts.logits, parts.labels
    n, classes = z.shape
    odds = class_log_odds(as_logits(parts.calibrator.transform(z)))
    confidence, jitters, wrong = odds.max(axis=1), jitter(z, parts.salt), odds.argmax(axis=1) != y
    k, above, errors = largest(options, confidence, jitters, wrong)
    if k is None:
        first = max(ceil_count(options.start, n + 1) - 1, 1)
        if not above[first]:
            raise _alike(first + 1, n)
        raise infeasible(options, int(errors[first]), int(above[first]), n)
    cut = top_cut(confidence, jitters, k)
    shown = (int(errors[k - 1]), int(above[k - 1]))
    policy = SelectiveErrorPolicy(parts.calibrator, cut, parts.salt, ctx.positive, classes)
    promise = _promise(options, n, parts.groups, k, shown, parts.digest)
    record = {
        "n_fit": parts.fit_labels.size,
        "tested": {
            "note": "on the samples that the cut was taken from: optimistic, not a result",
            "answered": clopper_pearson(shown[1], n).to_json(),
            "error_of_answers": clopper_pearson(*shown).to_json(),
        },
    }
    return evolve(policy, promise=promise, record=record)


def largest(
    options: SelectiveError, confidence: Floats, jitters: NDArray[np.uint64], wrong: Booleans
) -> tuple[int | None, Integers, Integers]:
    """The rank K of the cut by the chosen method; for ranks 1 to n + 1 how many samples are above the cut there, and
    how many of these are wrong, (n + 1,) each. Rows equal to the last bit are above a cut together or not at all."""
    order = np.lexsort((jitters, confidence))[::-1]
    n = wrong.size
    new = np.append(True, (np.diff(confidence[order]) != 0) | (np.diff(jitters[order]) != 0))
    above = np.append(np.maximum.accumulate(np.where(new, np.arange(n), 0)), n).astype(np.int64)
    errors: Integers = np.append(0, np.cumsum(wrong[order])).astype(np.int64)[above]

    def keeps(answers: int, tests: int = 1) -> bool:
        given = int(above[answers])
        return given > 0 and passes(int(errors[answers]), given, options.target_error, options.delta / tests)

    k = sgr(n, keeps) if options.method == "sgr" else fixed_sequence(n, options.start, options.step, keeps)
    return k, above, errors


def passes(errors: int, answers: int, target: float, delta: float) -> bool:
    """Whether P(Binomial(answers, target) <= errors) <= delta, that is, the exact upper bound is at most the target."""
    return errors < target * answers and beta_cdf(1.0 - target, answers - errors, errors + 1) <= delta


def answers_needed(rate: float, target: float, delta: float) -> int | None:
    """Answers with which an error `rate` passes the test, within 5 % of the least; None from the target on."""
    if rate >= target:
        return None
    answers = max(math.ceil(math.log(delta) / math.log1p(-target)), 1)
    while not passes(math.floor(rate * answers), answers, target, delta):
        answers += max(answers // 200, 1)
    return answers


def _alike(alike: int, n: int) -> InfeasibleError:
    return InfeasibleError(
        f"INFEASIBLE: the {alike} most confident of {n} samples have equal logits, so no cut lies among them",
        hint="a larger start, or logits of higher precision that are not clipped",
    )


def infeasible(options: SelectiveError, errors: int, answers: int, n: int) -> InfeasibleError:
    """The error that says how many samples it takes."""
    promise = f"an error of at most {options.target_error:g} with confidence {1 - options.delta:g}"
    rate = errors / answers if answers else 0.0
    share = options.start if options.method == "fixed_sequence" else 1.0
    delta = options.delta if options.method == "fixed_sequence" else options.delta / sgr_tests(n)
    needed = answers_needed(rate, options.target_error, delta)
    least = answers_needed(0.0, options.target_error, delta) or 0
    if needed is None:
        more = (
            f"these err at {rate:.4f}, so more samples alone will not do; even without an error it takes"
            f" at least {math.ceil(least / share)} samples"
        )
        hint = "a larger target_error, a smaller start, or a better model"
    else:
        more = f"it takes at least {math.ceil(needed / share)} samples at this rate of errors"
        hint = "give val_calib more samples or groups, or choose a larger target_error or delta"
    found = (
        f"{errors} errors among the {answers} most confident of {n} samples" if answers else f"{n} samples of one group"
    )
    return InfeasibleError(f"INFEASIBLE: {promise} cannot be promised from {found}; {more}", hint=hint)


def _promise(options: SelectiveError, n: int, groups: int, k: int, shown: Sequence[int], digest: str) -> dict[str, Any]:
    errors, answers = shown
    one = options.per_group == "one"
    tested = (
        f"a fixed-sequence test from {options.start:g} of the samples on"
        if options.method == "fixed_sequence"
        else "SGR's binary search, if the error rises above it once and not again"
    )
    text = (
        f"With probability at least {1 - options.delta:g} over calibration sets, at most {options.target_error:g} of"
        f" the answers given to new samples are wrong ({tested}; {n} samples in {groups} groups, {errors} errors among"
        f" the {answers} answered). About {k / (n + 1):.4f} of new samples are answered."
        f" {about_groups(n, groups, one=one, are='drawn independently from one distribution')}."
        " It speaks of all answers together, not of each class."
    )
    return {
        "kind": "selective_error",
        "method": options.method,
        "target_error": options.target_error,
        "delta": options.delta,
        "n": n,
        "groups": groups,
        "per_group": options.per_group,
        "K": k,
        "selection": k / (n + 1),
        "answered": answers,
        "errors": errors,
        "digest": digest,
        "assumption": "independent samples of one distribution",
        "text": text,
    }


def restore(options: SelectiveError, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> SelectiveErrorPolicy:
    """From `SelectiveErrorPolicy.state()`. Raises DataError for a cut that is no finite number."""
    confidence = state["cut"]["confidence"]
    if confidence is not None and not math.isfinite(float(confidence)):
        raise DataError(f"not a selective_error policy: cut {confidence}")
    return SelectiveErrorPolicy(
        calibrator=options.calibrator.restore(state["calibrator"]),
        cut=Cut(None if confidence is None else float(confidence), int(state["cut"]["jitter"])),
        salt=int(state["salt"]),
        positive=ctx.positive,
        classes=len(ctx.classes),
        promise=state["guarantee"],
        record=state.get("record", {}),
    )
