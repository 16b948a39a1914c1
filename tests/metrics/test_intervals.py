"""Intervals against scipy, published values and their own promise: coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from roadwork_core.metrics import (
    COUNT_METRICS,
    Estimate,
    InvalidScores,
    auroc,
    bootstrap,
    bootstrap_counts,
    clopper_pearson,
    clopper_pearson_upper,
    group_counts,
    mcc,
    paired_difference,
    wilson,
)
from roadwork_core.metrics.intervals import bca_interval, resampled_totals
from roadwork_core.metrics.special import beta_cdf, beta_quantile, normal_cdf

COUNTS = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(st.floats(0.05, 5000), st.floats(0.05, 5000), st.floats(1e-6, 1 - 1e-6))
def test_the_incomplete_beta_function_agrees_with_scipy(a: float, b: float, x: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-8, abs=1e-11)


@given(st.floats(0.5, 3000), st.floats(0.5, 3000), st.floats(1e-4, 1 - 1e-4))
def test_its_inverse_agrees_with_scipy(a: float, b: float, q: float) -> None:
    assert beta_quantile(q, a, b) == pytest.approx(stats.beta.ppf(q, a, b), rel=1e-7)


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
@pytest.mark.parametrize(("ours", "name"), [(clopper_pearson, "exact"), (wilson, "wilson")])
def test_intervals_of_proportions_agree_with_scipy(
    ours: object, name: str, counts: tuple[int, int], level: float
) -> None:
    k, n = counts
    expected = stats.binomtest(k, n).proportion_ci(level, method=name)
    got = ours(k, n, level)  # type: ignore[operator]
    assert (got.low, got.high) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))


def test_published_intervals() -> None:
    """Newcombe (1998), Statistics in Medicine 17:857, table I: 81 of 263 and 0 of 20."""
    exact, score = clopper_pearson(81, 263), wilson(81, 263)
    assert (round(exact.low, 4), round(exact.high, 4)) == (0.2527, 0.3676)
    assert (round(score.low, 4), round(score.high, 4)) == (0.2553, 0.3662)
    assert round(clopper_pearson(0, 20).high, 4) == 0.1684
    assert round(wilson(0, 20).high, 4) == 0.1611


def test_an_interval_of_no_trials_says_nothing() -> None:
    for interval in (clopper_pearson(0, 0), wilson(0, 0)):
        assert (interval.low, interval.high) == (0.0, 1.0)
        assert interval.to_json()["value"] is None
    assert clopper_pearson_upper(0, 0, 0.1) == 1.0


def test_clopper_pearson_covers_at_least_as_promised() -> None:
    n, p = 60, 0.13
    k = np.arange(n + 1)
    covered = [clopper_pearson(int(i), n, 0.9).low <= p <= clopper_pearson(int(i), n, 0.9).high for i in k]
    assert stats.binom.pmf(k, n, p)[covered].sum() >= 0.9
    above = [clopper_pearson_upper(int(i), n, 0.1) >= p for i in k]
    assert stats.binom.pmf(k, n, p)[above].sum() >= 0.9


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(InvalidScores, match="between 0 and 3"):
        clopper_pearson(4, 3)
    with pytest.raises(InvalidScores, match="level"):
        wilson(1, 3, level=1.0)


def test_normal_cdf_agrees_with_scipy() -> None:
    for x in (-8.0, -1.3, 0.0, 2.5, 8.0):
        assert normal_cdf(x) == pytest.approx(stats.norm.cdf(x), rel=1e-12)


def test_drawing_alike_rows_together_has_the_moments_of_drawing_rows_one_by_one() -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(0, 4, size=(50, 4)).astype(float)
    totals = resampled_totals(table, 40_000, np.random.default_rng(1))
    drawn = table[np.random.default_rng(2).integers(0, 50, size=(40_000, 50))].sum(axis=1)
    np.testing.assert_allclose(totals.mean(axis=0), drawn.mean(axis=0), rtol=0.01)
    np.testing.assert_allclose(np.cov(totals.T), np.cov(drawn.T), rtol=0.06, atol=1.5)


def test_the_percentile_bootstrap_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    labels = rng.random(300) < 0.4
    predictions = labels ^ (rng.random(300) < 0.2)
    ours = bootstrap_counts(group_counts(labels, predictions), mcc, method="percentile", resamples=8000)

    def statistic(y: np.ndarray, p: np.ndarray) -> float:
        return float(np.corrcoef(y, p)[0, 1])

    theirs = stats.bootstrap(
        (labels, predictions),
        statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(4),
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_bca_agrees_with_scipy_given_the_same_resamples() -> None:
    data = np.random.default_rng(5).lognormal(size=40)
    result = stats.bootstrap((data,), np.mean, method="BCa", n_resamples=4000, rng=np.random.default_rng(6))
    jackknife = (data.sum() - data) / 39
    low, high = bca_interval(result.bootstrap_distribution, float(data.mean()), jackknife, 0.95)
    assert low == pytest.approx(result.confidence_interval.low, rel=1e-6)
    assert high == pytest.approx(result.confidence_interval.high, rel=1e-6)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_bootstrap_covers_the_true_mcc_about_as_often_as_it_says(method: str) -> None:
    rng = np.random.default_rng(7)
    true = float(mcc_of_population(0.3, 0.85, 0.9))
    hits = 0
    for draw in range(400):
        labels = rng.random(300) < 0.3
        right = np.where(labels, rng.random(300) < 0.85, rng.random(300) < 0.9)
        estimate = bootstrap_counts(group_counts(labels, labels == right), mcc, seed=draw, resamples=500, method=method)
        hits += estimate.low <= true <= estimate.high
    assert 361 <= hits <= 393  # Binomial(400, .95), and .93 for the small sample: both tails below 1 %


def mcc_of_population(prior: float, tpr: float, tnr: float) -> float:
    tp, fn, tn, fp = prior * tpr, prior * (1 - tpr), (1 - prior) * tnr, (1 - prior) * (1 - tnr)
    return (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))


def test_groups_widen_the_interval_when_their_samples_go_together() -> None:
    rng = np.random.default_rng(8)
    groups = np.repeat(np.arange(40), 25)
    labels = np.repeat(rng.random(40) < 0.5, 25)
    predictions = labels ^ np.repeat(rng.random(40) < 0.15, 25)
    alone = bootstrap_counts(group_counts(labels, predictions), mcc)
    grouped = bootstrap_counts(group_counts(labels, predictions, groups), mcc)
    assert grouped.groups == 40
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)


def test_the_bootstrap_of_any_statistic_agrees_with_that_of_counts() -> None:
    rng = np.random.default_rng(9)
    labels = rng.random(200) < 0.5
    scores = rng.normal(size=200) + 1.5 * labels
    estimate = bootstrap(lambda w: auroc(scores, labels, w), np.arange(200), resamples=2000)
    se = (estimate.high - estimate.low) / 3.92
    area = auroc(scores, labels)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    n1, n0 = labels.sum(), (~labels).sum()
    hanley = math.sqrt((area * (1 - area) + (n1 - 1) * (q1 - area**2) + (n0 - 1) * (q2 - area**2)) / (n1 * n0))
    assert se == pytest.approx(hanley, rel=0.2)


def test_a_paired_difference_is_tighter_than_the_two_intervals_apart() -> None:
    rng = np.random.default_rng(10)
    labels = rng.random(2000) < 0.5
    first = labels ^ (rng.random(2000) < 0.15)
    second = np.where(rng.random(2000) < 0.05, labels, first)
    a, b = group_counts(labels, first), group_counts(labels, second)
    difference = paired_difference(a, b, mcc)
    assert difference.value == pytest.approx(bootstrap_counts(b, mcc).value - bootstrap_counts(a, mcc).value, abs=1e-12)
    assert difference.low > 0
    one = bootstrap_counts(a, mcc)
    assert difference.high - difference.low < 0.6 * (one.high - one.low)


@pytest.mark.parametrize("per_group", [1, 5])
def test_two_deciders_that_agree_on_all_samples_may_differ_on_others(per_group: int) -> None:
    """Of 40 groups none was decided otherwise: the exact interval of 0 of 40 says what share may be."""
    labels = np.repeat(np.arange(40) % 2 == 0, per_group)
    groups = np.repeat(np.arange(40), per_group)
    share = stats.binomtest(0, 40).proportion_ci().high
    for decided in (labels, labels ^ (groups < 6)):
        table = group_counts(labels, decided, groups)
        accuracy = paired_difference(table, table, COUNT_METRICS["accuracy"])
        assert [accuracy.low, accuracy.value, accuracy.high] == pytest.approx([-share, 0.0, share], abs=1e-9)
        # Only the 20 groups with positives say anything of the recall.
        recall = paired_difference(table, table, COUNT_METRICS["recall"])
        assert recall.high == -recall.low == pytest.approx(stats.binomtest(0, 20).proportion_ci().high, abs=1e-9)
    table = group_counts(labels, labels, groups)
    matthews = paired_difference(table, table, mcc)
    assert [matthews.low, matthews.high] == pytest.approx([-2 * share, 2 * share], abs=1e-9)


def test_a_side_of_which_no_group_speaks_is_not_taken_for_impossible() -> None:
    """One group of 50 gains and none loses; with a loss as well the resamples speak for themselves."""
    labels = np.arange(50) % 2 == 0
    first, second = labels.copy(), labels.copy()
    first[:4] ^= True
    second[1:4] ^= True
    a, b = group_counts(labels, first), group_counts(labels, second)
    share = stats.binomtest(0, 50).proportion_ci().high
    gain, loss = (paired_difference(*pair, COUNT_METRICS["accuracy"]) for pair in ((a, b), (b, a)))
    assert gain.low == pytest.approx((1 - share) * 0.02 - share, abs=1e-9)
    assert 0.02 < gain.high < share
    assert [loss.low, loss.high] == pytest.approx([-gain.high, -gain.low], abs=1e-9)
    second[4] ^= True
    both = paired_difference(a, group_counts(labels, second), COUNT_METRICS["accuracy"])
    assert -share < both.low < 0 < both.high < share


@pytest.mark.parametrize(("gains", "losses"), [(0.02, 0.0), (0.1, 0.01), (0.03, 0.03)])
def test_a_paired_interval_of_rare_differences_holds_as_often_as_it_says(gains: float, losses: float) -> None:
    rng = np.random.default_rng(11)
    labels, held = np.ones(60, dtype=bool), 0
    for _ in range(400):
        chance = rng.random(60)
        first = chance >= gains
        second = chance < 1.0 - losses
        tables = group_counts(labels, first), group_counts(labels, second)
        found = paired_difference(*tables, COUNT_METRICS["accuracy"], resamples=400)
        held += found.low <= gains - losses <= found.high
    # Three standard errors of 400 draws.
    assert held / 400 >= 0.95 - 3 * 0.011


def test_a_paired_difference_of_other_samples_is_refused() -> None:
    with pytest.raises(InvalidScores, match="same groups"):
        paired_difference(group_counts([0, 1], [0, 1]), group_counts([0], [0]), mcc)


def test_one_group_says_nothing_of_the_spread() -> None:
    estimate = bootstrap_counts(group_counts([0, 1, 1], [0, 1, 0], groups=["a", "a", "a"]), mcc)
    assert math.isnan(estimate.low)
    assert estimate.to_json()["low"] is None
    assert estimate.groups == 1


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_interval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = group_counts(rng.random(50) < 0.5, rng.random(50) < 0.5)
    first, second = (bootstrap_counts(table, mcc, seed=seed, resamples=100) for _ in range(2))
    assert first == second or (math.isnan(first.low) and math.isnan(second.low))


def test_an_estimate_is_plain_json() -> None:
    assert Estimate(0.5, 0.4, 0.6, method="wilson", n=10, groups=10).to_json() == {
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "level": 0.95,
        "method": "wilson",
        "n": 10,
        "groups": 10,
    }


@pytest.mark.parametrize("per_group", [1, 5])
def test_decisions_without_a_mistake_are_not_certain(per_group: int) -> None:
    """Of 40 groups none erred: the exact interval of 0 of 40 says what share may."""
    labels = np.repeat(np.arange(40) % 2 == 0, per_group)
    groups = np.repeat(np.arange(40), per_group)
    share = stats.binomtest(0, 40).proportion_ci().high
    table = group_counts(labels, labels, groups)
    accuracy = bootstrap_counts(table, COUNT_METRICS["accuracy"])
    assert [accuracy.low, accuracy.high] == pytest.approx([1 - share, 1.0], abs=1e-9)
    matthews = bootstrap_counts(table, COUNT_METRICS["mcc"])
    assert [matthews.low, matthews.high] == pytest.approx([1 - 2 * share, 1.0], abs=1e-9)
    # Only the 20 groups with positives say anything of the recall.
    recall = bootstrap_counts(table, COUNT_METRICS["recall"])
    assert recall.low == pytest.approx(1 - stats.binomtest(0, 20).proportion_ci().high, abs=1e-9)
    never = bootstrap_counts(group_counts(labels, ~labels, groups), COUNT_METRICS["accuracy"])
    assert [never.low, never.high] == pytest.approx([0.0, share], abs=1e-9)


@pytest.mark.parametrize("method", ["bca", "percentile"])
@pytest.mark.parametrize("name", ["mcc", "precision", "recall", "f1"])
def test_resamples_without_a_class_do_not_count_as_failures(name: str, method: str) -> None:
    """Of 40 groups three are positive, so that one resample in twenty has none; right is never less than half."""
    groups = np.repeat(np.arange(40), 10)
    labels = groups < 3
    predictions = labels & (np.arange(400) % 10 > groups)
    predictions[np.flatnonzero(~labels)[:2]] = True
    table = group_counts(labels, predictions, groups)
    assert bootstrap_counts(table, COUNT_METRICS[name], method=method).low > 0.5
    nothing = np.zeros_like(table)
    nothing[:, 2], nothing[:, 3] = table[:, [0, 2]].sum(axis=1), table[:, [1, 3]].sum(axis=1)
    assert paired_difference(nothing, table, COUNT_METRICS[name]).low > 0.5
