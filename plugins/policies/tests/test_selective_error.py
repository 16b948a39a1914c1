"""The error of the answers given keeps its target as often as promised, and infeasible targets say what they take."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roadwork_policies import Identity, SelectiveError, Temperature
from roadwork_policies.conformal import top_cut
from roadwork_policies.selective_error import answers_needed, fixed_sequence, largest, passes, sgr
from scipy import stats

from roadwork_core.errors import DataError, InfeasibleError
from roadwork_core.kinds import PolicyRestoreContext


def selective(**options: Any) -> SelectiveError:
    return SelectiveError(**({"calibrator": Identity()} | options))


def error_above(confidence: np.ndarray) -> np.ndarray:
    """True error among samples above a confidence in [0, 1], whose own error is .3 (1 - c)^2: its mean over (c, 1)."""
    return 0.1 * (1 - confidence) ** 2


def draws(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    confidence = rng.random(n)
    return confidence, rng.random(n) < 0.3 * (1 - confidence) ** 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(1, 400), st.floats(0.01, 0.4), st.floats(0.01, 0.4))
def test_the_test_is_the_exact_binomial_one(errors: int, answers: int, target: float, delta: float) -> None:
    p_value = stats.binom.cdf(errors, answers, target)
    if errors <= answers and abs(p_value - delta) > 1e-9:
        assert passes(errors, answers, target, delta) == (p_value <= delta and errors < target * answers)


@pytest.mark.parametrize("method", ["fixed_sequence", "sgr"])
@pytest.mark.parametrize(("n", "target", "delta"), [(300, 0.05, 0.1), (1000, 0.03, 0.05)])
def test_the_true_error_passes_the_target_no_more_often_than_delta(
    method: str, n: int, target: float, delta: float
) -> None:
    options = selective(method=method, target_error=target, delta=delta)
    rng = np.random.default_rng(n)
    violated = answered = 0
    none = np.zeros(n, dtype=np.uint64)
    for _ in range(500):
        confidence, wrong = draws(n, rng)
        k, _, _ = largest(options, confidence, none, wrong)
        if k is None:
            continue
        answered += 1
        cut = 0.0 if k > n else np.sort(confidence)[n - k]
        violated += int(error_above(np.asarray(cut)) > target)
    assert answered > (300 if method == "fixed_sequence" else 30)
    assert stats.binomtest(violated, 500, delta, "greater").pvalue > 0.001


def test_the_fixed_sequence_keeps_its_word_where_the_risk_crosses_the_target_again_and_again() -> None:
    """Risk .1 + .004 cos(6 pi u) min(1, 6u) among the share u of the surest: above the target, below it, above it."""

    def risk(share: np.ndarray) -> np.ndarray:
        return np.asarray(0.1 + 0.004 * np.cos(6 * np.pi * share) * np.minimum(1, 6 * share))

    ends = np.linspace(0, 1, 4001)
    own = np.diff(ends * risk(ends)) / np.diff(ends)
    rng, violated = np.random.default_rng(2), 0
    options, none = selective(target_error=0.1, start=0.05, step=0.01), np.zeros(1500, dtype=np.uint64)
    for _ in range(600):
        share = rng.random(1500)
        wrong = rng.random(1500) < np.interp(share, ends[1:], own)
        k, _, _ = largest(options, 1 - share, none, wrong)
        if k is not None:
            violated += int(risk(np.asarray(1.0 if k > 1500 else np.sort(share)[k - 1])) > 0.1 + 1e-12)
    assert violated > 0
    assert stats.binomtest(violated, 600, 0.1, "greater").pvalue > 0.001


def test_the_estimated_error_would_pass_the_target_in_half_of_all_draws() -> None:
    """What the policy is for: the largest share whose error on the samples keeps the target."""
    rng, violated = np.random.default_rng(0), 0
    for _ in range(400):
        confidence, wrong = draws(1000, rng)
        order = np.argsort(-confidence)
        kept = np.flatnonzero(np.cumsum(wrong[order]) / np.arange(1, 1001) <= 0.03)
        violated += bool(error_above(confidence[order][kept[-1]]) > 0.03)
    assert violated / 400 > 0.4


def test_the_fixed_sequence_answers_more_than_sgr() -> None:
    rng = np.random.default_rng(1)
    ranks: dict[str, list[int]] = {"fixed_sequence": [], "sgr": []}
    for _ in range(100):
        confidence, wrong = draws(500, rng)
        for method, found in ranks.items():
            k, _, _ = largest(selective(method=method), confidence, np.zeros(500, dtype=np.uint64), wrong)
            found.append(k or 0)
    assert np.mean(ranks["fixed_sequence"]) > np.mean(ranks["sgr"]) + 20


def test_the_sequence_is_fixed_and_ends_at_the_first_test_that_fails() -> None:
    asked: list[int] = []

    def keeps(answers: int) -> bool:
        asked.append(answers)
        return answers != 59

    assert fixed_sequence(99, 0.2, 0.1, keeps) == 50
    assert asked == [19, 29, 39, 49, 59]
    asked.clear()
    assert fixed_sequence(99, 0.75, 0.5, keeps) == 100
    assert asked == [74, 99]
    assert fixed_sequence(99, 0.2, 0.1, lambda _: False) is None


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 300))
def test_the_search_of_sgr_finds_the_last_rank_that_passes_where_there_is_one(n: int, last: int) -> None:
    found = sgr(n, lambda answers, tests: 0 < answers <= last)
    assert found == (min(last, n) + 1 if min(last, n) > 0 else None)


def test_answers_are_the_likeliest_label_of_the_most_confident_and_nothing_else_abstains(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    policy = selective(target_error=0.1).build(context(*draw(800, classes=3)))
    fresh = draw(4000, classes=3, seed=1)[0]
    decisions = policy.decide(fresh)
    answered = ~decisions.abstain
    assert np.array_equal(decisions.labels[answered], fresh[answered].argmax(axis=1))
    assert decisions.sets[~answered].all()
    assert (decisions.sets[answered].sum(axis=1) == 1).all()
    assert answered.mean() == pytest.approx(policy.guarantee()["selection"], abs=0.06)


def test_where_everything_keeps_the_target_everything_is_answered(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    policy = selective(target_error=0.3).build(context(*draw(400, distance=3)))
    assert policy.guarantee()["K"] == 401
    assert not policy.decide(draw(1000, seed=1)[0]).abstain.any()


def test_too_few_samples_are_infeasible_and_the_named_number_is_enough_without_an_error(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    logits, labels = draw(100, distance=8)
    with pytest.raises(InfeasibleError, match=r"INFEASIBLE.*0 errors among the 20 most confident of 100") as error:
        selective().build(context(logits, labels))
    named = int(re.search(r"at least (\d+) samples", error.value.message).group(1))  # type: ignore[union-attr]
    assert named == math.ceil(math.ceil(math.log(0.1) / math.log(0.95)) / 0.2)
    assert selective().build(context(*draw(named, distance=8))).guarantee()["n"] == named


def test_rows_that_no_cut_tells_apart_are_named_as_such(draw: Callable[..., Any], context: Callable[..., Any]) -> None:
    """A third of the rows are clipped to one: that is no matter of groups, and more samples will not do."""
    logits, labels = draw(600, distance=8)
    margins = logits[:, 1] - logits[:, 0]
    logits[margins > np.quantile(margins, 0.7)] = [-1000.0, 1000.0]
    with pytest.raises(InfeasibleError) as error:
        selective().build(context(logits, labels))
    assert "the 121 most confident of 600 samples have equal logits" in error.value.message
    assert "group" not in error.value.message
    assert "a larger start" in str(error.value.hint)
    assert selective(start=0.4, target_error=0.3).build(context(logits, labels)).guarantee()["answered"] > 0


@pytest.mark.parametrize("method", ["fixed_sequence", "sgr"])
def test_two_samples_or_one_that_may_be_tested_are_infeasible_and_nothing_worse(
    method: str, draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    logits, labels = np.asarray([[2.0, -2.0], [-2.0, 2.0]]), np.asarray([0, 1])
    with pytest.raises(InfeasibleError, match="INFEASIBLE"):
        selective(method=method).build(context(logits, labels))
    with pytest.raises(InfeasibleError, match="INFEASIBLE"):
        selective(method=method, calibrator=Temperature()).build(context(logits, labels))


def test_a_target_below_the_error_of_the_surest_answers_says_that_samples_will_not_do(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    logits, labels = draw(600, distance=0.2)
    with pytest.raises(InfeasibleError, match="more samples alone will not do") as error:
        selective().build(context(logits, labels))
    assert error.value.hint is not None
    assert "better model" in error.value.hint


@pytest.mark.parametrize(("rate", "target", "delta"), [(0.0, 0.05, 0.1), (0.02, 0.05, 0.1), (0.09, 0.1, 0.05)])
def test_the_answers_needed_at_a_rate_of_errors_are_within_5_percent_of_the_least(
    rate: float, target: float, delta: float
) -> None:
    needed = answers_needed(rate, target, delta)
    assert needed is not None

    def enough(answers: int) -> bool:
        return bool(stats.binom.cdf(math.floor(rate * answers), answers, target) <= delta)

    assert enough(needed)
    first = next(answers for answers in range(1, needed + 1) if enough(answers))
    assert first <= needed <= 1.05 * first + 1


def test_the_guarantee_is_stated_in_numbers_and_in_words(draw: Callable[..., Any], context: Callable[..., Any]) -> None:
    policy = selective().build(context(*draw(1000)))
    promise = policy.guarantee()
    upper = stats.beta.ppf(0.9, promise["errors"] + 1, promise["answered"] - promise["errors"])
    assert upper <= 0.05
    assert promise["n"] == promise["groups"] == 1000
    assert promise["K"] == promise["answered"] + 1
    assert "With probability at least 0.9 over calibration sets, at most 0.05 of the answers" in promise["text"]
    assert policy.summary()["tested"]["error_of_answers"]["n"] == promise["answered"]


def test_a_calibrator_is_fitted_to_a_part_that_is_not_tested(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    policy = selective(calibrator=Temperature(), fit_fraction=0.25).build(context(*draw(1000, classes=3)))
    assert policy.guarantee()["n"] == 750
    assert policy.summary()["n_fit"] == 250


def test_one_sample_a_group_is_tested_where_asked(draw: Callable[..., Any], context: Callable[..., Any]) -> None:
    ctx = context(*draw(4000), groups=np.arange(4000) // 4)
    promise = selective(per_group="one").build(ctx).guarantee()
    assert promise["n"] == promise["groups"] == 1000
    assert "approximation" in selective().build(ctx).guarantee()["text"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.booleans()), min_size=1, max_size=25))
def test_what_is_tested_is_exactly_what_the_cut_selects(rows: list[tuple[int, int, bool]]) -> None:
    """Also where rows are equal to the last bit, which a cut selects together or not at all."""
    confidence, wrong = np.asarray([float(row[0]) for row in rows]), np.asarray([row[2] for row in rows])
    jitters = np.asarray([row[1] for row in rows], dtype=np.uint64)
    _, above, errors = largest(selective(), confidence, jitters, wrong)
    for k in range(1, len(rows) + 2):
        selected = top_cut(confidence, jitters, k).selects(confidence, jitters)
        assert (above[k - 1], errors[k - 1]) == (selected.sum(), (selected & wrong).sum())


def test_a_file_with_a_cut_that_is_no_number_is_refused() -> None:
    state = {"cut": {"confidence": math.nan, "jitter": "0"}, "salt": "0", "calibrator": {}, "guarantee": {}}
    with pytest.raises(DataError, match="not a selective_error policy"):
        selective().restore(state, PolicyRestoreContext(classes=("a", "b"), positive=1))
