"""Margins and probabilities against scipy, and independent of the batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

from roadwork_core.metrics import InvalidScores, class_log_odds, log_softmax, logit, margin, sigmoid, softmax

LOGITS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.integers(2, 6)),
    elements=st.floats(-500, 500, allow_nan=False),
)


@given(LOGITS)
def test_log_softmax_agrees_with_scipy(logits: np.ndarray) -> None:
    np.testing.assert_allclose(log_softmax(logits), special.log_softmax(logits, axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(softmax(logits).sum(axis=1), 1.0, rtol=1e-12)


@given(LOGITS)
def test_every_row_gives_the_same_bits_alone_and_in_a_batch(logits: np.ndarray) -> None:
    whole = class_log_odds(logits)
    for row in range(logits.shape[0]):
        assert np.array_equal(class_log_odds(logits[row : row + 1])[0], whole[row])
        assert np.array_equal(softmax(logits[row : row + 1])[0], softmax(logits)[row])


def test_the_margin_of_two_classes_is_their_exact_difference() -> None:
    logits = np.asarray([[0.1, 0.3], [1e3, -1e3]])
    assert margin(logits).tolist() == [0.3 - 0.1, -2e3]
    assert margin(logits, positive=0).tolist() == [0.1 - 0.3, 2e3]


def test_the_margin_of_more_classes_is_the_log_odds_and_does_not_saturate() -> None:
    logits = np.asarray([[1.0, 2.0, 3.0], [0.0, 800.0, 1.0]])
    p = special.softmax(logits[0])
    assert margin(logits, positive=2)[0] == pytest.approx(np.log(p[2] / (1 - p[2])), rel=1e-14)
    assert margin(logits, positive=0)[0] == pytest.approx(np.log(p[0] / (1 - p[0])), rel=1e-14)
    assert margin(logits, positive=1)[1] == pytest.approx(800 - np.logaddexp(0, 1), rel=1e-15)


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-700, 700)))
def test_sigmoid_agrees_with_scipy_and_logit_inverts_it(x: np.ndarray) -> None:
    np.testing.assert_allclose(sigmoid(x), special.expit(x), rtol=1e-14)
    inner = x[np.abs(x) < 10]
    np.testing.assert_allclose(logit(sigmoid(inner)), inner, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    logits = np.zeros((4, 2))
    logits[2, 1] = bad
    with pytest.raises(InvalidScores, match=r"1 of 8 are not, the first at index \(2, 1\)"):
        margin(logits)


def test_logits_of_one_column_are_refused() -> None:
    with pytest.raises(InvalidScores, match="classes >= 2"):
        margin(np.zeros((3, 1)))
