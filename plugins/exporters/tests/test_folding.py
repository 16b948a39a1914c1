"""The folded layer's softmax is the served score, whichever class is the positive one."""

from __future__ import annotations

import numpy as np
import pytest
from roadwork_exporters.folding import Rule, fold
from scipy.special import expit, logit, softmax


@pytest.mark.parametrize("positive", [0, 1])
def test_the_negative_class_comes_first_and_the_cut_lands_on_one_half(positive: int) -> None:
    rng = np.random.default_rng(positive)
    weight, bias, features = rng.normal(size=(2, 5)), rng.normal(size=2), rng.normal(size=(50, 5))
    rule = Rule("threshold", cut=0.7, temperature=2.5)
    logits = features @ weight.T + bias
    folded = fold(weight, bias, rule, positive)
    score = softmax(features @ folded[0].T + folded[1], axis=1)[:, 1]
    probability = softmax(logits, axis=1)[:, positive]
    assert score == pytest.approx(expit((logit(probability) - 0.7) / 2.5))
    assert score == pytest.approx(rule.scores(logits, positive))
