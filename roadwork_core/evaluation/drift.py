"""Served scores against the evidence of a bundle: what differs, and whether its guarantee still stands."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from ..errors import UsageError
from ..metrics import margin
from ..metrics.drift import (
    Statistic,
    beta_binomial_cdf,
    binomial_at_least,
    difference_of_means,
    fisher_exact,
    holm,
    kolmogorov_smirnov,
    permutation_test,
    population_stability,
    squared_mmd,
)
from ..metrics.intervals import clopper_pearson
from ..policies import Scores
from .served import Served

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.deciding import Decider
    from ..decisions import Decisions

SCHEMA = "roadwork.drift/1"
#: Rows of each side that the features' kernel is made of.
MOST_FEATURES = 500
#: How SCRC begins the reason of a sample of which it promises nothing.
NOT_SELECTED = "not selected"


class Status(StrEnum):
    """What a comparison came to."""

    SAME = "same"
    DRIFT = "drift"
    NOT_COMPARED = "not_compared"


@frozen(kw_only=True)
class Check:
    """One comparison: `value` of `what`, and how probable one as large is where nothing has changed.

    `least` is the smallest p-value that so many samples could have given, whatever they had held.
    """

    name: str
    what: str
    value: float
    p: float
    least: float
    says: str


def compare_served(
    served: Served,
    reference: Served | None,
    decider: Decider,
    document: Mapping[str, Any],
    evidence: Mapping[str, Any],
    *,
    alpha: float,
    permutations: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The parts of `roadwork.drift/1` that follow from the data. `document` is the policy's, `evidence` the bundle's.

    Every test's p-value is adjusted for their number (Holm); `alpha` is the probability of one false alarm in all.
    Where nothing could have differed, for want of samples or of anything to hold them against, `status` says so.
    """
    for part, said in ((served, "what was served"), (reference, "the reference")):
        if part is not None and len(part.scores) < 2:
            why = f"{said} has {'one row alone' if len(part.scores) else 'no row with logits of this bundle'}"
            return {"n": len(served.scores), "checks": [], **_not_compared(why, document.get("guarantee"))}
    name = str(document["name"])
    decided = decider.decide(served.scores.logits, policy=name).decisions
    checks = []
    if reference is not None:
        before = decider.decide(reference.scores.logits, policy=name).decisions
        checks += _two_samples(served, reference, decided, before, decider.positive, permutations, seed)
    elif (coverage := evidence.get("coverage")) and coverage.get("value") is not None:
        checks.append(_against_evidence(decided, coverage))
    if served.labelled is None:
        promised = _promise(served.scores, decided, document.get("guarantee"), seed)
    else:
        answered = decider.decide(served.labelled.logits, policy=name).decisions
        promised = _promise(served.labelled, answered, document.get("guarantee"), seed)
    checks += promised
    adjusted = holm([check.p for check in checks]) if checks else np.empty(0)
    rows = [
        {
            "check": check.name,
            "statistic": check.what,
            "value": check.value,
            "p": check.p,
            "p_adjusted": float(p),
            "p_least": check.least,
            "differs": bool(p <= alpha),
            "says": check.says,
        }
        for check, p in zip(checks, adjusted, strict=True)
    ]
    found = {"n": len(served.scores), "checks": rows}
    if not checks:
        why = "there are no scores of the evidence, and no labels that a guarantee could be held against"
        return {**found, **_not_compared(why, document.get("guarantee"))}
    least = min(1.0, min(check.least for check in checks) * len(checks))
    if least > alpha and not any(row["differs"] for row in rows):
        why = f"of so few samples no difference, however large, has a p-value below {least:.2g}, and alpha is {alpha:g}"
        return {**found, **_not_compared(why, document.get("guarantee"))}
    return {**found, **_verdict(rows, document.get("guarantee"), bool(promised))}


def _not_compared(why: str, guarantee: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "status": Status.NOT_COMPARED,
        "drift": None,
        "guarantee": "untested" if _promises(guarantee) else "none",
        "text": f"Nothing could be compared: {why}.",
    }


def _promises(guarantee: Mapping[str, Any] | None) -> bool:
    return bool(guarantee) and (guarantee or {}).get("kind") != "none"


def _two_samples(
    served: Served,
    reference: Served,
    decided: Decisions,
    before: Decisions,
    positive: int,
    permutations: int,
    seed: int,
) -> list[Check]:
    scores = np.concatenate([margin(part.scores.logits, positive) for part in (reference, served)])
    mine = np.arange(len(scores)) >= len(before)
    groups = _groups(reference.scores, served.scores)
    abstained = np.concatenate([before.abstain, decided.abstain]).astype(np.float64)
    rates = f"{decided.abstain.mean():.1%} of the served samples, {before.abstain.mean():.1%} of the reference"
    tests: list[tuple[str, str, Statistic, str]] = [
        ("scores", "kolmogorov_smirnov", kolmogorov_smirnov(scores), "largest distance of the distributions"),
        ("scores", "population_stability", population_stability(scores), "population stability index, 10 bins"),
        ("abstention", "difference", difference_of_means(abstained), f"abstains on {rates}"),
    ]
    found = []
    for name, what, statistic, says in tests:
        value, p = permutation_test(statistic, groups, mine, permutations=permutations, seed=seed)
        least = _least(groups, mine, permutations)
        found.append(Check(name=name, what=what, value=value, p=p, least=least, says=says))
    if served.features is not None and reference.features is not None:
        found.append(_of_features(reference.features, served.features, groups, mine, permutations, seed))
    return found


def _of_features(
    before: NDArray[np.float64],
    now: NDArray[np.float64],
    groups: NDArray[np.int64],
    mine: NDArray[np.bool_],
    permutations: int,
    seed: int,
) -> Check:
    if before.shape[1] != now.shape[1]:
        raise UsageError(f"the reference has {before.shape[1]} features, the served samples have {now.shape[1]}")
    rng = np.random.default_rng(seed)
    kept = np.sort(np.concatenate([rng.permutation(np.flatnonzero(side))[:MOST_FEATURES] for side in (~mine, mine)]))
    codes = np.unique(groups[kept], return_inverse=True)[1].astype(np.int64)
    statistic = squared_mmd(np.concatenate([before, now])[kept])
    value, p = permutation_test(statistic, codes, mine[kept], permutations=permutations, seed=seed)
    return Check(
        name="features",
        what="squared_mmd",
        value=value,
        p=p,
        least=_least(codes, mine[kept], permutations),
        says=f"maximum mean discrepancy of {len(kept)} samples",
    )


def _least(groups: NDArray[np.int64], mine: NDArray[np.bool_], permutations: int) -> float:
    """The smallest p-value of a permutation test: the one assignment among all, or among those that are drawn."""
    ways = comb(len(np.unique(groups)), len(np.unique(groups[mine])))
    # Of the whole numbers: the ways are more than a float holds from some thousand groups on.
    return 1.0 / min(1 + permutations, ways)


def _groups(first: Scores, second: Scores) -> NDArray[np.int64]:
    """Codes of both parts' groups, which are never the same group; a sample without one is its own."""
    codes = [np.arange(len(part)) if part.groups is None else part.groups for part in (first, second)]
    compact = [np.unique(part, return_inverse=True)[1] for part in codes]
    return np.concatenate([compact[0], compact[1] + compact[0].max() + 1]).astype(np.int64)


def _against_evidence(decided: Decisions, coverage: Mapping[str, Any]) -> Check:
    n = int(coverage.get("n") or 0)
    answered = round(float(coverage["value"]) * n)
    now = int((~decided.abstain).sum())
    p = fisher_exact((now, len(decided)), (answered, n)) if n else 1.0
    extremes = [fisher_exact((most, len(decided)), (answered, n)) for most in (0, len(decided))] if n else [1.0]
    says = f"answers {now} of {len(decided)} served samples, {answered} of {n} in the bundle's evidence"
    return Check(
        name="abstention",
        what="difference",
        value=abs(now / len(decided) - float(coverage["value"])),
        p=p,
        least=min(extremes),
        says=says,
    )


def _promise(scores: Scores, decided: Decisions, guarantee: Mapping[str, Any] | None, seed: int) -> list[Check]:
    """The guarantee held against late labels, one sample of each group, so that samples are independent."""
    if scores.labels is None or not guarantee:
        return []
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(scores))
    if scores.groups is not None:
        order = order[np.unique(scores.groups[order], return_index=True)[1]]
    labels = scores.labels
    if guarantee["kind"] == "selective_error":
        answered = order[~decided.abstain[order]]
        return [_error_check(int((decided.labels[answered] != labels[answered]).sum()), len(answered), guarantee)]
    if guarantee["kind"] not in ("split_conformal", "mondrian", "scrc_t", "scrc_i"):
        return []
    counted = np.array([not reason.startswith(NOT_SELECTED) for reason in decided.reasons])
    chosen = order[counted[order]]
    if guarantee.get("loss") == "false_negative_rate":
        return []
    inside = decided.sets[chosen, labels[chosen]]
    exactly = guarantee["coverage_without_ties"]
    if guarantee["kind"] == "mondrian":
        parts = [
            (f"class {index}", inside[labels[chosen] == index], float(rate), int(size))
            for index, (rate, size) in enumerate(zip(exactly, guarantee["n_by_class"], strict=True))
        ]
    else:
        size = int(guarantee.get("counted") or guarantee["n"])
        parts = [("all" if guarantee["kind"] == "split_conformal" else "selected", inside, float(exactly), size)]
    shrink = 1.0
    if guarantee.get("per_group") == "all" and guarantee.get("groups"):
        shrink = min(1.0, guarantee["groups"] / guarantee["n"])
    return [
        _coverage_check(part, int(hit.sum()), len(hit), rate, max(1, round(size * shrink)), guarantee)
        for part, hit, rate, size in parts
        if len(hit)
    ]


def _coverage_check(
    part: str, covered: int, n: int, rate: float, calibration: int, guarantee: Mapping[str, Any]
) -> Check:
    rank = min(calibration, max(1, round(rate * (calibration + 1))))
    bounds = clopper_pearson(covered, n)
    return Check(
        name="coverage",
        what=f"of {part}",
        value=covered / n,
        p=beta_binomial_cdf(covered, n, rank, calibration + 1 - rank),
        least=beta_binomial_cdf(0, n, rank, calibration + 1 - rank),
        says=f"{covered} of {n} sets hold their label, {covered / n:.1%} [{bounds.low:.1%}, {bounds.high:.1%}],"
        f" where {guarantee['coverage_at_least']:.1%} is promised",
    )


def _error_check(errors: int, n: int, guarantee: Mapping[str, Any]) -> Check:
    target = float(guarantee["target_error"])
    if not n:
        return Check(
            name="error", what="of answers", value=0.0, p=1.0, least=1.0, says="no labelled sample is answered"
        )
    bounds = clopper_pearson(errors, n)
    return Check(
        name="error",
        what="of answers",
        value=errors / n,
        p=binomial_at_least(errors, n, target),
        least=binomial_at_least(n, n, target),
        says=f"{errors} of {n} answers are wrong, {errors / n:.1%} [{bounds.low:.1%}, {bounds.high:.1%}],"
        f" where at most {target:.1%} is promised",
    )


def _verdict(rows: list[dict[str, Any]], guarantee: Mapping[str, Any] | None, tested: bool) -> dict[str, Any]:
    """`status` and `drift`, `guarantee`: stands, refuted, unsupported or none, and all in words."""
    differing = [row for row in rows if row["differs"]]
    refuted = [row for row in differing if row["check"] in ("coverage", "error")]
    moved = list(dict.fromkeys(row["check"] for row in differing if row not in refuted))
    given = _promises(guarantee)
    if refuted:
        state = "refuted"
        words = f"The guarantee no longer stands: {'; '.join(row['says'] for row in refuted)}."
    elif moved and given:
        state = "unsupported"
        words = (
            "The guarantee no longer stands on its assumption: it speaks of samples like those that it was fitted on,"
            f" and the served ones differ in {' and '.join(moved)}."
            + (" The labels that came do not contradict it yet." if tested else " Labels would say what it is worth.")
        )
    elif moved:
        state, words = "none", f"The served samples differ from the evidence in {' and '.join(moved)}."
    elif given:
        state, words = "stands", "Nothing found speaks against the guarantee, which is no proof that it holds."
    else:
        state, words = "none", "No difference was found. The policy has no guarantee that could be tested."
    return {
        "status": Status.DRIFT if differing else Status.SAME,
        "drift": bool(differing),
        "guarantee": state,
        "text": words,
    }
