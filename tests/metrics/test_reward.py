"""The expected reward against every outcome counted one by one, and against windows that were drawn."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, matthews_corrcoef

from roadwork_core.metrics import InvalidScores
from roadwork_core.metrics.reward import expected_reward


def window_reward(truth: list[int], said: list[int]) -> float:
    one_class = len(set(truth)) < 2
    mcc = 0.0 if one_class else max(0.0, float(matthews_corrcoef(truth, said)))
    return float((0.5 * mcc + 0.5 * accuracy_score(truth, said)) ** 3)


@pytest.mark.parametrize(("recall", "specificity", "prior"), [(0.9, 0.6, 0.5), (0.5, 0.5, 0.3), (1.0, 0.8, 0.5)])
def test_a_window_of_five_is_the_sum_over_all_its_outcomes(recall: float, specificity: float, prior: float) -> None:
    expected = 0.0
    for positives in range(6):
        for tp, tn in product(range(positives + 1), range(6 - positives)):
            chance = comb(5, positives) * prior**positives * (1 - prior) ** (5 - positives)
            chance *= comb(positives, tp) * recall**tp * (1 - recall) ** (positives - tp)
            chance *= comb(5 - positives, tn) * specificity**tn * (1 - specificity) ** (5 - positives - tn)
            truth = [1] * positives + [0] * (5 - positives)
            said = [1] * tp + [0] * (positives - tp) + [0] * tn + [1] * (5 - positives - tn)
            expected += chance * window_reward(truth, said)
    assert expected_reward(recall, specificity, window=5, prior=prior) == pytest.approx([expected], abs=1e-12)


def test_windows_of_a_hundred_that_were_drawn_agree() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((3000, 100)) < 0.5
    right = rng.random((3000, 100)) < np.where(truth, 0.93, 0.88)
    drawn = [window_reward(list(t), list(np.where(r, t, ~t))) for t, r in zip(truth, right, strict=True)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert abs(expected_reward(0.93, 0.88)[0] - np.mean(drawn)) < 4 * error


def test_the_ends() -> None:
    assert expected_reward([1.0], [1.0])[0] == pytest.approx(1.0, abs=1e-9)
    # Always the same answer: accuracy one half, correlation none.
    assert expected_reward([1.0], [0.0])[0] == pytest.approx(
        np.mean(np.random.default_rng(0).binomial(100, 0.5, 10**6) ** 3.0) / 200**3, rel=1e-3
    )
    assert (np.diff(expected_reward(np.linspace(0.5, 1, 11), np.linspace(0.5, 1, 11))) > 0).all()


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidScores, match="between 0 and 1"):
        expected_reward([1.2], [0.5])
