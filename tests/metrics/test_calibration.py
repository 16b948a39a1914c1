"""Calibration error against plain loops, scikit-learn and closed forms; its null against theory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import calibration, metrics

from roadwork_core.metrics import (
    InvalidScores,
    brier,
    classwise_ece,
    debiased_ece,
    ece,
    ece_with_null,
    nll,
    positive_class,
    reliability,
    softmax,
    top_label,
)

#: scikit-learn, whose stubs lag behind it.
oracle: Any = metrics
curves: Any = calibration


@st.composite
def calibrated(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    p = draw(hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1)))
    return p, draw(hnp.arrays(np.bool_, p.shape))


@given(calibrated(), st.integers(1, 20))
def test_ece_agrees_with_a_plain_loop_over_the_bins(data: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    p, y = data
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for b in range(bins):
        inside = (p > edges[b]) & (p <= edges[b + 1]) | ((b == 0) & (p == 0))
        if inside.any():
            total += inside.mean() * abs(p[inside].mean() - y[inside].mean())
    assert ece(p, y, bins=bins) == pytest.approx(total, abs=1e-9)


@given(calibrated())
def test_the_reliability_table_agrees_with_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = data
    rows = reliability(p, y, bins=10).rows()
    if y.all() or not y.any():
        return
    outcome, confidence = curves.calibration_curve(y, p, n_bins=10)
    np.testing.assert_allclose([row["outcome"] for row in rows], outcome, atol=1e-12)
    np.testing.assert_allclose([row["confidence"] for row in rows], confidence, atol=1e-12)


@given(calibrated(), st.randoms(use_true_random=False))
@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_the_order_of_the_samples_is_no_matter(
    binning: str, data: tuple[np.ndarray, np.ndarray], random: object
) -> None:
    p, y = data
    order = np.asarray(random.sample(range(p.size), p.size))  # type: ignore[attr-defined]
    first = ece(p, y, bins=5, binning=binning)  # type: ignore[arg-type]
    assert first == pytest.approx(ece(p[order], y[order], bins=5, binning=binning), abs=1e-12)  # type: ignore[arg-type]


def test_bins_of_equal_mass_hold_equal_counts() -> None:
    p = np.random.default_rng(0).random(1500) ** 4
    table = reliability(p, np.zeros(1500, dtype=int), bins=15, binning="equal_mass")  # type: ignore[arg-type]
    assert table.count.tolist() == [100] * 15


def test_the_null_of_ece_follows_its_theory() -> None:
    """With n_b per bin and uniform p, E|gap| = sqrt(2/pi) sd of a bin's mean (normal approximation)."""
    rng = np.random.default_rng(3)
    for n in (1000, 5000):
        p = rng.random(n)
        table = reliability(p, p < 2, bins=15)
        var = np.asarray(
            [
                (p[(p > low) & (p <= high)] * (1 - p[(p > low) & (p <= high)])).sum()
                for low, high in zip(table.low, table.high, strict=True)
            ]
        )
        theory = math.sqrt(2 / math.pi) * np.sqrt(var).sum() / n
        null = ece_with_null(p, rng.random(n) < p, draws=800, seed=4)
        assert null.null_mean == pytest.approx(theory, rel=0.03)


def test_a_calibrated_model_is_rejected_at_the_nominal_rate() -> None:
    rng = np.random.default_rng(5)
    rejected = 0
    for draw in range(300):
        p = rng.beta(0.5, 0.5, size=200)
        rejected += ece_with_null(p, rng.random(200) < p, draws=99, seed=draw).p_value <= 0.1
    assert 15 <= rejected <= 47  # Binomial(300, 0.1): mean 30, both tails below 0.2 %


def test_a_miscalibrated_model_is_told_from_a_small_sample() -> None:
    rng = np.random.default_rng(6)
    p = rng.random(1000)
    result = ece_with_null(np.clip(2 * p - 0.5, 0.01, 0.99), rng.random(1000) < p)
    assert result.p_value == pytest.approx(1 / 501)
    assert result.value > result.null_95


def test_the_debiased_error_is_free_of_the_bias_that_the_plain_one_shows() -> None:
    rng = np.random.default_rng(7)
    squared, plain = [], []
    for _ in range(200):
        p = rng.random(300)
        y = rng.random(300) < p
        table = reliability(p, y, bins=15, binning="equal_mass")  # type: ignore[arg-type]
        squared.append(debiased_ece(p, y) ** 2)
        plain.append(float(np.average((table.confidence - table.outcome) ** 2, weights=table.count)))
    assert np.mean(squared) < 0.5 * np.mean(plain)


def test_the_debiased_error_finds_a_known_miscalibration() -> None:
    rng = np.random.default_rng(8)
    p = np.full(20_000, 0.7)
    assert debiased_ece(p, rng.random(20_000) < 0.5, bins=1) == pytest.approx(0.2, abs=0.01)


@given(calibrated())
def test_brier_agrees_with_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = data
    expected = oracle.brier_score_loss(y.astype(int), p, pos_label=1)
    assert brier(p, y) == pytest.approx(expected, abs=1e-12)


def test_nll_agrees_with_scikit_learn_and_survives_saturation() -> None:
    rng = np.random.default_rng(9)
    logits = rng.normal(size=(200, 4)) * 3
    labels = rng.integers(0, 4, 200)
    assert nll(logits, labels) == pytest.approx(oracle.log_loss(labels, softmax(logits), labels=range(4)), rel=1e-10)
    assert nll([[0.0, 2000.0]], [0]) == 2000.0


def test_the_two_views_of_calibration_differ_as_they_are_named() -> None:
    logits = np.asarray([[2.0, 0.0], [0.0, 3.0]])
    confidence, outcome = positive_class(logits, [0, 0])
    assert confidence == pytest.approx(softmax(logits)[:, 1])
    assert outcome.tolist() == [0.0, 0.0]
    confidence, outcome = top_label(logits, [0, 0])
    assert confidence == pytest.approx(softmax(logits).max(axis=1))
    assert outcome.tolist() == [1.0, 0.0]


def test_confidences_outside_zero_and_one_are_refused() -> None:
    with pytest.raises(InvalidScores, match=r"\[0, 1\]"):
        ece([1.2], [1])


def test_the_classwise_error_is_the_mean_of_plain_loops_over_classes_and_bins() -> None:
    rng = np.random.default_rng(5)
    logits, labels = rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    errors = []
    for index in range(3):
        total = 0.0
        for bin_ in range(10):
            inside = (p[:, index] > bin_ / 10) & (p[:, index] <= (bin_ + 1) / 10)
            total += abs(p[inside, index].sum() - (labels[inside] == index).sum())
        errors.append(total / 200)
    assert classwise_ece(logits, labels, bins=10) == pytest.approx(np.mean(errors), abs=1e-12)


def test_the_classwise_error_sees_what_the_top_label_hides() -> None:
    """One class is always given .3 and never comes, another .1 and comes three times in ten: the top label is right."""
    logits = np.log(np.tile([0.6, 0.3, 0.1], (1000, 1)))
    labels = np.repeat([0, 2], [600, 400])
    confidence, correct = top_label(logits, labels)
    assert ece(confidence, correct) == pytest.approx(0.0, abs=1e-12)
    assert classwise_ece(logits, labels) == pytest.approx((0.0 + 0.3 + 0.3) / 3)
