"""Intervals of metrics of scores: against scipy, and by their own promise in simulations where errors are rare."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from roadwork_core.metrics import aurc, auroc, average_precision, brier, score_estimates, sigmoid

Drawn = tuple[NDArray[np.float64], NDArray[np.bool_]]


def normal_scores(n: int, separation: float, rng: np.random.Generator, sharpness: float = 1.0) -> Drawn:
    """P(positive), calibrated where `sharpness` is 1, of two normal classes `separation` standard deviations apart."""
    positive = rng.random(n) < 0.5
    margin = separation * rng.normal(size=n) + np.where(positive, 1, -1) * separation**2 / 2
    return sigmoid(sharpness * margin), positive


def test_values_are_those_of_each_metric() -> None:
    scores, positive = normal_scores(300, 1.5, np.random.default_rng(0))
    found = {name: estimate.value for name, estimate in score_estimates(scores, positive, resamples=20).items()}
    wrong = ((scores >= 0.5) != positive).astype(float)
    assert found["auroc"] == auroc(scores, positive)
    assert found["average_precision"] == average_precision(scores, positive)
    assert found["brier"] == pytest.approx(brier(scores, positive), abs=1e-15)
    assert found["nll"] == pytest.approx(-np.log(np.where(positive, scores, 1 - scores)).mean(), abs=1e-12)
    assert found["aurc"] == aurc(np.maximum(scores, 1 - scores), wrong)


def test_the_interval_of_a_mean_is_the_bca_interval_of_scipy() -> None:
    scores, positive = normal_scores(150, 1.5, np.random.default_rng(1))
    ours = score_estimates(scores, positive, resamples=4000)["brier"]
    theirs = stats.bootstrap(
        ((scores - positive) ** 2,), np.mean, method="BCa", n_resamples=8000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], rel=0.03)


@pytest.mark.parametrize("per_group", [1, 5])
def test_perfect_scores_are_not_certain(per_group: int) -> None:
    """Of 40 groups none erred, and 20 pairs of groups are in order: the exact bounds of 0 of 40 and of 20 of 20."""
    positive = np.repeat(np.arange(40) % 2 == 0, per_group)
    groups = np.repeat(np.arange(40), per_group)
    found = score_estimates(positive.astype(float), positive, groups, resamples=50)
    share = stats.binomtest(0, 40).proportion_ci().high
    assert [found["auroc"].low, found["auroc"].high] == pytest.approx([stats.binomtest(20, 20).proportion_ci().low, 1])
    assert found["average_precision"].low < found["average_precision"].high == 1.0
    for name in ("brier", "ece", "aurc"):
        assert [found[name].low, found[name].high] == pytest.approx([0.0, share], abs=1e-9)
    assert found["nll"].high == pytest.approx(share * -math.log(1e-300))


def test_scores_that_are_always_wrong_are_no_more_certain() -> None:
    positive = np.arange(40) % 2 == 0
    found = score_estimates(1.0 - positive, positive, resamples=50)
    assert found["auroc"].value == 0.0
    assert found["auroc"].high == pytest.approx(stats.binomtest(0, 20).proportion_ci().high)
    assert found["brier"].low == pytest.approx(stats.binomtest(40, 40).proportion_ci().low)


def test_pairs_are_of_two_groups_each() -> None:
    """Three groups that hold both classes make one pair, so that next to nothing is known of the AUROC."""
    found = score_estimates([0.1, 0.9] * 3, [0, 1] * 3, ["a", "a", "b", "b", "c", "c"], resamples=20)
    assert found["auroc"].low == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("n", "separation", "sharpness"),
    [(60, 2.0, 1.0), (60, 2.0, 2.0), (60, 5.0, 1.0)],
    ids=["calibrated", "overconfident", "hardly ever wrong"],
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(n: int, separation: float, sharpness: float) -> None:
    rng = np.random.default_rng(3)
    everyone = score_estimates(*normal_scores(200_000, separation, rng, sharpness), np.zeros(200_000, dtype=np.int64))
    draws = 80
    held = dict.fromkeys(everyone, 0)
    for seed in range(draws):
        found = score_estimates(*normal_scores(n, separation, rng, sharpness), resamples=100, seed=seed)
        for name, estimate in found.items():
            held[name] += estimate.low <= everyone[name].value <= estimate.high
    # 67 of 80 is what a coverage of .92 undershoots in one of a hundred simulations: BCa falls short by so much here.
    assert {name: count for name, count in held.items() if count < 67} == {}


def test_the_calibration_error_of_a_calibrated_model_may_be_nothing() -> None:
    """With 15 bins and 60 samples it shows about .11, which noise alone explains."""
    scores, positive = normal_scores(60, 2.0, np.random.default_rng(4))
    found = score_estimates(scores, positive, resamples=300)["ece"]
    assert found.value > 0.05
    assert found.low == 0.0 < found.value < found.high


def test_one_group_or_one_class_says_nothing() -> None:
    found = score_estimates([0.1, 0.9], [0, 1], ["a", "a"])
    assert all(math.isnan(estimate.low) for estimate in found.values())
    one = score_estimates([0.2, 0.9, 0.8], [1, 1, 1], resamples=20)
    assert math.isnan(one["auroc"].value)
    assert one["brier"].high > one["brier"].value
