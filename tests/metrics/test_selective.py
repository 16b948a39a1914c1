"""Risk against coverage by brute force, with ties averaged over all orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadwork_core.metrics import (
    InvalidScores,
    aurc,
    coverage_by_class,
    mean_set_size,
    risk_at_coverage,
    risk_coverage,
    selective_counts,
    set_coverage,
)

SCORED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=6)


@given(SCORED)
def test_aurc_is_the_mean_over_every_order_of_tied_samples(rows: list[tuple[int, int]]) -> None:
    areas = []
    for order in itertools.permutations(rows):
        if any(a[0] < b[0] for a, b in itertools.pairwise(order)):
            continue
        losses = np.asarray([loss for _, loss in order], dtype=float)
        areas.append(np.mean(np.cumsum(losses) / np.arange(1, losses.size + 1)))
    confidence, outcomes = zip(*rows, strict=True)
    assert aurc(confidence, outcomes) == pytest.approx(np.mean(areas), abs=1e-12)


@given(SCORED)
def test_every_point_of_the_curve_is_the_mean_loss_at_or_above_its_confidence(rows: list[tuple[int, int]]) -> None:
    confidence, losses = (np.asarray(column, dtype=float) for column in zip(*rows, strict=True))
    curve = risk_coverage(confidence, losses)
    for cut, coverage, risk in zip(curve.confidence, curve.coverage, curve.risk, strict=True):
        assert coverage == (confidence >= cut).mean()
        assert risk == pytest.approx(losses[confidence >= cut].mean())


def test_aurc_of_a_perfect_ranking_of_one_error_in_four() -> None:
    assert aurc([4, 3, 2, 1], [0, 0, 0, 1]) == pytest.approx((0 + 0 + 0 + 1 / 4) / 4)


def test_risk_at_a_coverage_takes_the_first_point_that_reaches_it() -> None:
    confidence, losses = [4, 3, 2, 1], [0, 1, 0, 1]
    assert risk_at_coverage(confidence, losses, 0.5) == 0.5
    assert risk_at_coverage(confidence, losses, 0.51) == pytest.approx(1 / 3)
    assert risk_at_coverage(confidence, losses, 1.0) == 0.5
    with pytest.raises(InvalidScores, match="coverage"):
        risk_at_coverage(confidence, losses, 0.0)


def test_abstentions_count_neither_as_right_nor_as_wrong() -> None:
    counts = selective_counts([1, 0, 1, 1], [1, 1, 0, 1], [False, True, False, False])
    assert (counts.n, counts.answered, counts.wrong) == (4, 3, 1)
    assert (counts.coverage, counts.abstention) == (0.75, 0.25)
    assert counts.risk == pytest.approx(1 / 3)


def test_the_risk_of_no_answers_is_nan_not_zero() -> None:
    assert math.isnan(selective_counts([1], [1], [True]).risk)


def test_set_metrics() -> None:
    sets = np.asarray([[True, False], [True, True], [False, False], [False, True]])
    labels = [0, 1, 1, 0]
    assert set_coverage(sets, labels) == 0.5
    assert coverage_by_class(sets, labels).tolist() == [0.5, 0.5]
    assert mean_set_size(sets) == 1.0
    assert math.isnan(coverage_by_class(sets, [0, 0, 0, 0])[1])


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=12).filter(
        lambda rows: sum(weight for *_, weight in rows) > 0
    )
)
def test_aurc_counts_a_sample_as_often_as_its_weight_says(rows: list[tuple[int, bool, int]]) -> None:
    confidence, losses, weights = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    times = weights.astype(np.int64)
    expected = aurc(np.repeat(confidence, times), np.repeat(losses, times))
    assert aurc(confidence, losses, weights) == pytest.approx(expected, abs=1e-12)
