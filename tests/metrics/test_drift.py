"""Statistics of drift against scipy and by hand, and p-values that keep their promise, groups included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from roadwork_core.metrics.drift import (
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


@given(st.lists(st.integers(0, 6), min_size=4, max_size=40), st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_kolmogorov_smirnov_is_scipys_with_ties_too(values: list[int], split: int) -> None:
    array = np.asarray(values, dtype=float)
    served = np.arange(len(array)) >= len(array) - split
    expected = stats.ks_2samp(array[~served], array[served]).statistic
    assert kolmogorov_smirnov(array)(served[None])[0] == pytest.approx(expected)


def test_population_stability_by_hand() -> None:
    # Two bins, of mass 1/2 each: 3 and 1 of the reference, 1 and 3 of the served, half a sample more each.
    values = np.array([0.0, 1.0, 2.0, 8.0, 3.0, 7.0, 9.0, 10.0])
    served = np.arange(8) >= 4
    p, q = np.array([3.5, 1.5]) / 5, np.array([1.5, 3.5]) / 5
    assert population_stability(values, bins=2)(served[None])[0] == pytest.approx(((q - p) * np.log(q / p)).sum())


def test_the_discrepancy_is_the_mean_of_the_kernels() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 3))
    served = np.arange(12) >= 7
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    squares = np.array([[((a - b) ** 2).sum() for b in scaled] for a in scaled])
    kernel = np.exp(-squares / np.median(squares[np.triu_indices(12, 1)]))
    inside, outside, across = (
        kernel[np.ix_(served, served)].mean(),
        kernel[np.ix_(~served, ~served)].mean(),
        kernel[np.ix_(served, ~served)].mean(),
    )
    assert squared_mmd(features)(served[None])[0] == pytest.approx(inside + outside - 2 * across)


def test_the_difference_of_means() -> None:
    served = np.array([False, False, True])
    assert difference_of_means(np.array([0.0, 1.0, 1.0]))(served[None])[0] == pytest.approx(0.5)


@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.5, 300), st.floats(0.5, 300))
@settings(max_examples=150, deadline=None)
def test_beta_binomial_is_scipys(successes: int, n: int, a: float, b: float) -> None:
    assert beta_binomial_cdf(successes, n, a, b) == pytest.approx(stats.betabinom.cdf(successes, n, a, b), abs=1e-9)


@given(st.integers(0, 50), st.integers(1, 50), st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_binomial_is_scipys(successes: int, n: int, rate: float) -> None:
    expected = stats.binom.sf(successes - 1, n, rate)
    assert binomial_at_least(min(successes, n + 1), n, rate) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 40), st.integers(1, 40), st.data())
@settings(max_examples=80, deadline=None)
def test_fishers_test_is_scipys(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    expected = stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
    assert fisher_exact((a, n), (b, m)) == pytest.approx(expected, abs=1e-6)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_alarms_are_as_rare_as_promised_and_groups_are_kept_whole() -> None:
    # 30 groups of 8 nearly equal values: taken as 240 single samples they would differ far too often.
    alarms = {True: 0, False: 0}
    for seed in range(120):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.normal(size=30), 8) + 0.01 * rng.normal(size=240)
        groups = np.repeat(np.arange(30), 8)
        for whole in alarms:
            codes = groups if whole else np.arange(240)
            _, p = permutation_test(kolmogorov_smirnov(values), codes, groups >= 15, permutations=99, seed=seed)
            alarms[whole] += p <= 0.1
    assert stats.binomtest(alarms[True], 120, 0.1, alternative="greater").pvalue > 1e-3
    assert alarms[False] > 60


@pytest.mark.parametrize("make", [kolmogorov_smirnov, population_stability, lambda v: squared_mmd(v[:, None])])
def test_a_shift_is_found(make: object) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(size=150), rng.normal(size=150) + 1.0])
    served = np.arange(300) >= 150
    _, p = permutation_test(make(values), np.arange(300), served, permutations=199)  # type: ignore[operator]
    assert p == pytest.approx(1 / 200)
