"""Conformal sets keep their promise, overall and within classes, and say so when they cannot."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from roadwork_policies import Conformal, Identity, Temperature
from roadwork_policies.conformal import conformal_rank
from roadwork_policies.folds import one_per_group
from roadwork_policies.nonconformity import aps, raps
from scipy import stats

from roadwork_core.decisions import ABSTAIN
from roadwork_core.errors import DataError, InfeasibleError
from roadwork_core.kinds import PolicyRestoreContext
from roadwork_core.metrics import softmax

LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-8, 8, width=32))


def conformal(**options: Any) -> Conformal:
    return Conformal(**({"calibrator": Identity()} | options))


@settings(max_examples=80, deadline=None)
@given(LOGITS, st.floats(0, 1), st.floats(0, 0.5), st.integers(0, 4))
def test_aps_and_raps_are_what_their_papers_say_label_by_label(
    logits: np.ndarray, u: float, penalty: float, k_reg: int
) -> None:
    """Romano et al., eq. 5-7 and Angelopoulos et al., Algorithm 2, written out with loops over labels."""
    found = raps(logits, np.full(len(logits), u), penalty, k_reg)
    plain = aps(logits, np.full(len(logits), u))
    for row, p in enumerate(softmax(logits)):
        order = sorted(range(p.size), key=lambda label: (-p[label], label))
        for rank, label in enumerate(order, start=1):
            above = math.fsum(p[other] for other in order[: rank - 1])
            expected = above + p[label] - u * p[label]
            assert 1 + plain[row, label] == pytest.approx(expected, abs=1e-12)
            assert 1 + found[row, label] == pytest.approx(expected + penalty * max(rank - k_reg, 0), abs=1e-12)


def test_aps_orders_labels_whose_probabilities_are_rounded_away_against_1() -> None:
    scores = aps(np.asarray([[60.0, 0.0, -10.0], [80.0, 0.0, -10.0]]), None)
    assert -1e-10 < scores[0, 1] < scores[1, 1] < 0


VARIANTS = [
    {"score": "lac"},
    {"score": "aps"},
    {"score": "raps", "penalty": 0.05, "k_reg": 2},
    {"score": "aps", "randomized": False},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_a_fresh_sample_is_covered_exactly_as_often_as_the_rank_says(
    options: dict[str, Any], draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    """1,500 draws of 39 samples and one new: covered with probability 36/40 exactly."""
    logits, labels = draw(1500 * 40, classes=4, distance=1.5, scale=1.0, seed=11)
    hits = 0
    component = conformal(alpha=0.1, **options)
    for draw_of in range(1500):
        rows = slice(40 * draw_of, 40 * draw_of + 40)
        z, y = logits[rows], labels[rows]
        policy = component.build(context(z[:39], y[:39], seed=draw_of))
        hits += int(policy.decide(z[39:]).sets[0, y[39]])
    assert stats.binomtest(hits, 1500, 0.9).pvalue > 0.001
    assert policy.guarantee()["coverage_without_ties"] == 0.9


def test_samples_drawn_with_the_class_shares_of_the_data_cover_no_less_and_vary_less() -> None:
    """val_calib is stratified, so not quite exchangeable with a new sample. Two normal scores, 85 % positives, n = 100,
    40,000 draws either way; the coverage of a bound is known in closed form."""
    rng, n, k = np.random.default_rng(0), 100, conformal_rank(100, 0.1)
    covered = {}
    for stratified in (False, True):
        found = []
        for _ in range(40):
            fixed = np.broadcast_to(np.arange(n) < 85, (1000, n))
            positive = fixed if stratified else rng.random((1000, n)) < 0.85
            bounds = np.partition(rng.normal(size=(1000, n)) + 1.5 * ~positive, k - 1, axis=1)[:, k - 1]
            found.append(0.85 * stats.norm.cdf(bounds) + 0.15 * stats.norm.cdf(bounds - 1.5))
        covered[stratified] = np.concatenate(found)
    assert covered[False].mean() == pytest.approx(k / (n + 1), abs=0.0005)
    assert k / (n + 1) < covered[True].mean() < k / (n + 1) + 0.002
    assert covered[True].std() < covered[False].std()


def test_within_each_class_the_promise_holds_that_the_overall_one_neglects(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    """10 % positives, and logits that lean to the negatives: without classes the rare one is covered far less."""
    covered: dict[bool, list[float]] = {False: [], True: []}
    exact = []
    for seed in range(80):
        logits, labels = draw(2000, prior=0.1, distance=1.5, scale=1.0, seed=seed)
        logits[:, 1] -= 2.0
        for by_class, found in covered.items():
            policy = conformal(class_conditional=by_class).build(context(logits[:800], labels[:800]))
            sets = policy.decide(logits[800:]).sets[labels[800:] == 1]
            found.append(float(sets[:, 1].mean()))
        exact.append(policy.guarantee()["coverage_without_ties"][1])
    kept = np.asarray(covered[True])
    assert kept.mean() == pytest.approx(np.mean(exact), abs=4 * kept.std() / math.sqrt(kept.size))
    assert np.mean(covered[False]) < 0.75


def test_two_class_lac_answers_are_one_cut_on_the_confidence_whatever_the_temperature(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    logits, labels = draw(400)
    fresh = draw(3000, seed=1)[0]
    distance = np.abs(fresh[:, 1] - fresh[:, 0])
    for sharpness in (0.2, 1.0, 5.0):
        answered = ~conformal().build(context(sharpness * logits, labels)).decide(sharpness * fresh).abstain
        assert distance[answered].min() > distance[~answered].max()
        assert answered.sum() == conformal().build(context(logits, labels)).decide(fresh).abstain.sum() * -1 + 3000


def test_an_empty_set_abstains_and_filling_it_only_adds_the_likeliest_label(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    samples, fresh = context(*draw(400, distance=3)), draw(2000, distance=3, seed=1)[0]
    plain, filled = (conformal(alpha=0.2, fill_empty=fill).build(samples).decide(fresh) for fill in (False, True))
    empty = ~plain.sets.any(axis=1)
    assert empty.any()
    assert (plain.labels[empty] == ABSTAIN).all()
    assert np.array_equal(plain.sets[~empty], filled.sets[~empty])
    assert np.array_equal(filled.labels[empty], fresh[empty].argmax(axis=1))
    assert plain.reasons[int(np.flatnonzero(empty)[0])].startswith("empty set")


def test_random_parts_differ_by_seed_and_are_a_function_of_the_row(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    logits, labels = draw(400, classes=4, scale=0.7)
    fresh = draw(2000, classes=4, scale=0.7, seed=1)[0]
    first, again, other = (
        conformal(score="aps").build(context(logits, labels, seed=seed)).decide(fresh).sets for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    policy = conformal(score="aps").build(context(logits, labels))
    assert np.array_equal(policy.decide(fresh[::-1]).sets[::-1], first)


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 9), (0.05, 19), (0.01, 99)])
def test_too_few_samples_are_infeasible_and_the_named_number_is_enough(
    alpha: float, least: int, draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    logits, labels = draw(least)
    with pytest.raises(InfeasibleError, match=f"INFEASIBLE.*at least {least} conformal samples"):
        conformal(alpha=alpha).build(context(logits[:-1], labels[:-1]))
    assert conformal(alpha=alpha).build(context(logits, labels)).guarantee()["n"] == least


def test_a_class_without_enough_samples_is_named(draw: Callable[..., Any], context: Callable[..., Any]) -> None:
    logits, labels = draw(300, prior=0.02, seed=2)
    with pytest.raises(
        InfeasibleError, match=r"'class_1' from \d of its samples; it takes at least 9 .* of that class"
    ):
        conformal(class_conditional=True).build(context(logits, labels))


def test_the_calibrator_never_sees_the_samples_that_give_the_bound(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    logits, labels = draw(400, classes=3)
    groups = np.arange(400) // 8
    seen: list[np.ndarray] = []

    class Watching:
        def build(self, ctx: Any) -> Any:
            seen.append(ctx.logits)
            return Temperature().build(ctx)

    policy = conformal(calibrator=Watching()).build(context(logits, labels, groups=groups))
    fits = (logits[:, None] == seen[0][None]).all(axis=2).any(axis=1)
    assert not set(groups[fits]) & set(groups[~fits])
    assert policy.guarantee()["n"] == (~fits).sum() == 200
    assert policy.summary()["held_out"]["coverage"]["n"] == 200


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40), st.integers(0, 99))
def test_one_sample_is_drawn_from_every_group_that_has_any_to_draw_from(
    rows: list[tuple[int, bool]], seed: int
) -> None:
    codes, among = np.asarray([row[0] for row in rows]), np.asarray([row[1] for row in rows])
    chosen = one_per_group(codes, among, seed)
    assert not (chosen & ~among).any()
    assert sorted(codes[chosen]) == sorted(set(codes[among].tolist()))


def test_each_sample_of_a_group_is_drawn_as_often_as_the_others() -> None:
    codes, among = np.repeat(np.arange(3), 4), np.arange(12) != 5
    counts = np.sum([one_per_group(codes, among, seed) for seed in range(1200)], axis=0)
    expected = np.where(codes == 1, 400, 300) * among
    assert stats.chisquare(counts[among], expected[among]).pvalue > 0.001


def test_one_sample_a_group_comes_from_the_groups_that_did_not_fit_the_calibrator(
    draw: Callable[..., Any], context: Callable[..., Any]
) -> None:
    ctx = context(*draw(400), groups=np.arange(400) // 4)
    promise = conformal(calibrator=Temperature(), per_group="one").build(ctx).guarantee()
    assert promise["n"] == promise["groups"] == 50
    assert "random sample of a new group" in promise["text"]


def test_the_guarantee_is_stated_in_numbers_and_in_words(draw: Callable[..., Any], context: Callable[..., Any]) -> None:
    promise = conformal(score="aps").build(context(*draw(500))).guarantee()
    stated = {key: promise[key] for key in ("kind", "score", "alpha", "n", "groups", "coverage_at_least", "assumption")}
    assert stated == {
        "kind": "split_conformal",
        "score": "aps",
        "alpha": 0.1,
        "n": 500,
        "groups": 500,
        "coverage_at_least": 0.9,
        "assumption": "exchangeability",
    }
    assert promise["coverage_without_ties"] == 451 / 501
    assert "at least 0.9 (and at most 0.9002" in promise["text"]
    by_class = conformal(class_conditional=True).build(context(*draw(500))).guarantee()
    assert by_class["kind"] == "mondrian"
    assert sum(by_class["n_by_class"]) == 500
    assert by_class["text"].startswith("Within each true class")


@pytest.mark.parametrize("bounds", [[1.0], [1.0, math.inf], [math.nan, 0.0]])
def test_a_conformal_file_without_a_finite_bound_for_each_class_is_refused(bounds: list[float]) -> None:
    ctx = PolicyRestoreContext(classes=("a", "b"), positive=1)
    with pytest.raises(DataError, match="not a conformal policy of 2 classes"):
        conformal().restore({"bounds": bounds, "salt": "0", "calibrator": {}, "guarantee": {}}, ctx)
