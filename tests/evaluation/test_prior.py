"""Figures at another prior against data drawn at that prior, and against weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from roadwork_core.decisions import ABSTAIN, Decisions
from roadwork_core.evaluation.prior import at_prior, estimated_reward
from roadwork_core.metrics.reward import expected_reward
from roadwork_core.report.evaluation import Judge


def decided(labels: np.ndarray) -> Decisions:
    sets = (labels[:, None] == np.arange(2)) | (labels[:, None] == ABSTAIN)
    return Decisions(labels=labels, scores=np.full(len(labels), 0.5), sets=sets, reasons=["because"] * len(labels))


def sample(abstaining: float = 0.0) -> tuple[Judge, Decisions]:
    rng = np.random.default_rng(4)
    truth = (rng.random(600) < 0.85).astype(np.int64)
    said = np.where(rng.random(600) < 0.1 + 0.1 * truth, 1 - truth, truth)
    said = np.where(rng.random(600) < abstaining * (2 - truth), ABSTAIN, said)
    groups = np.repeat(np.arange(200), 3)
    return Judge(labels=truth, groups=groups, classes=("a", "b"), positive=1, resamples=300), decided(said)


def test_the_metrics_are_scikit_learns_with_each_class_weighted_to_the_prior() -> None:
    judge, decisions = sample()
    found = at_prior(judge, decisions, 0.5)
    assert found is not None
    weight = np.where(judge.labels == 1, 0.5 / judge.labels.mean(), 0.5 / (1 - judge.labels.mean()))
    for name, metric in (("mcc", sk.matthews_corrcoef), ("accuracy", sk.accuracy_score), ("f1", sk.f1_score)):
        expected = metric(judge.labels, decisions.labels, sample_weight=weight)
        assert found["metrics"][name]["value"] == pytest.approx(expected, abs=1e-12)
        assert found["metrics"][name]["low"] < expected < found["metrics"][name]["high"]
    assert found["metrics"]["coverage"]["value"] == pytest.approx(1.0)


def test_at_the_samples_own_prior_nothing_changes() -> None:
    judge, decisions = sample(abstaining=0.2)
    found = at_prior(judge, decisions, float(judge.labels.mean()))
    assert found is not None
    answered = decisions.labels != ABSTAIN
    expected = sk.matthews_corrcoef(judge.labels[answered], decisions.labels[answered])
    assert found["metrics"]["mcc"]["value"] == pytest.approx(expected, abs=1e-12)
    assert found["metrics"]["coverage"]["value"] == pytest.approx(answered.mean(), abs=1e-12)


def test_a_class_that_abstains_more_lowers_the_coverage_where_it_is_more_common() -> None:
    judge, decisions = sample(abstaining=0.2)
    answered = decisions.labels != ABSTAIN
    found = at_prior(judge, decisions, 0.5)
    assert found is not None
    expected = 0.5 * answered[judge.labels == 1].mean() + 0.5 * answered[judge.labels == 0].mean()
    assert found["metrics"]["coverage"]["value"] == pytest.approx(expected, abs=1e-12)
    assert expected < answered.mean()


def test_the_reward_is_that_of_the_rates_found() -> None:
    judge, decisions = sample()
    found = estimated_reward(judge, decisions)
    assert found is not None
    truth = judge.labels == 1
    rates = (decisions.labels[truth] == 1).mean(), (decisions.labels[~truth] == 0).mean()
    assert found["value"] == pytest.approx(expected_reward(*rates)[0], abs=1e-12)
    assert found["low"] < found["value"] < found["high"]


def test_the_interval_covers_what_a_larger_sample_shows() -> None:
    """Of 60 samples of 300, nearly all intervals at 95 % hold the true balanced accuracy-like figure."""
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = (rng.random(300) < 0.8).astype(np.int64)
        said = np.where(rng.random(300) < np.where(truth == 1, 0.1, 0.25), 1 - truth, truth)
        judge = Judge(labels=truth, groups=None, classes=("a", "b"), positive=1, resamples=300, seed=seed)
        found = at_prior(judge, decided(said), 0.5)
        assert found is not None
        accuracy = found["metrics"]["accuracy"]
        hits += accuracy["low"] <= 0.5 * 0.9 + 0.5 * 0.75 <= accuracy["high"]
    # Binomial(60, .95) is below 51 once in 1,000 times.
    assert hits >= 51


def test_without_a_mistake_neither_the_metrics_nor_the_reward_are_certain() -> None:
    """Of 40 groups none erred: the exact interval of 0 of 40 says what share may."""
    groups = np.repeat(np.arange(40), 3)
    truth = (groups % 4 > 0).astype(np.int64)
    judge = Judge(labels=truth, groups=groups, classes=("a", "b"), positive=1, resamples=200)
    share = binomtest(0, 40).proportion_ci().high
    found = at_prior(judge, decided(truth), 0.5)
    reward = estimated_reward(judge, decided(truth))
    assert found is not None
    assert reward is not None
    accuracy, coverage = found["metrics"]["accuracy"], found["metrics"]["coverage"]
    assert [accuracy["low"], accuracy["high"]] == pytest.approx([1 - share, 1.0], abs=1e-9)
    assert [coverage["low"], coverage["high"]] == pytest.approx([1.0, 1.0], abs=1e-9)
    assert [reward["low"], reward["high"]] == pytest.approx([expected_reward(1 - share, 1 - share)[0], 1.0], abs=1e-9)


def test_without_one_class_nothing_is_claimed() -> None:
    judge = Judge(labels=np.ones(5, dtype=np.int64), groups=None, classes=("a", "b"), positive=1)
    assert at_prior(judge, decided(np.ones(5, dtype=np.int64)), 0.5) is None
    assert estimated_reward(judge, decided(np.ones(5, dtype=np.int64))) is None


def test_of_three_classes_no_accuracy_is_claimed() -> None:
    judge, decisions = sample()
    three = Judge(labels=judge.labels, groups=judge.groups, classes=("a", "b", "c"), positive=1, resamples=100)
    found = at_prior(three, decisions, 0.5)
    assert found is not None
    assert "accuracy" not in found["metrics"]
    assert "recall" in found["metrics"]
