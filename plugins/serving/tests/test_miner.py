"""The number for the miner is finite and on the decision's side of one half, with the fitted cut at one half."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roadwork_serving.miner import balanced, cut_of

from roadwork_core.bundle import Prediction

LABELS = ("no_roadwork", "roadwork")


def of(cut: float) -> Any:
    policies = {"threshold": {"summary": {"threshold": cut}}, "hybrid": {"summary": {"fast": "threshold"}}}
    return SimpleNamespace(labels=LABELS, positive=1, policies=policies)


def said(score: float, label: str, policy: str = "threshold") -> Prediction:
    return Prediction(path=None, label=label, score=score, policy=policy)


@given(
    score=st.floats(0, 1),
    cut=st.one_of(st.floats(-800, 800), st.just(math.inf), st.just(math.nan)),
    label=st.sampled_from(LABELS),
    policy=st.sampled_from(["threshold", "hybrid", "another"]),
)
def test_it_is_finite_and_rounds_to_the_decision(score: float, cut: float, label: str, policy: str) -> None:
    value = balanced(said(score, label, policy), of(cut))
    assert 0 <= value <= 1
    assert np.round(value) == (label == "roadwork")


@given(score=st.floats(1e-9, 1 - 1e-9), threshold=st.floats(1e-6, 1 - 1e-6))
def test_it_moves_the_cut_to_one_half(score: float, threshold: float) -> None:
    # Bayes: odds divided by the odds of the cut, an independent way to the same number.
    odds = score / (1 - score) * (1 - threshold) / threshold
    label = "roadwork" if score >= threshold else "no_roadwork"
    cut = math.log(threshold / (1 - threshold))
    for policy in ("threshold", "hybrid"):
        assert balanced(said(score, label, policy), of(cut)) == pytest.approx(odds / (1 + odds), rel=1e-6)


def test_a_tie_goes_to_the_side_of_its_decision() -> None:
    assert balanced(said(0.5, "roadwork"), of(0.0)) == math.nextafter(0.5, 1)
    assert balanced(said(0.5, "no_roadwork"), of(0.0)) == math.nextafter(0.5, 0)


def test_a_policy_without_a_cut_is_cut_at_one_half() -> None:
    assert cut_of({"scrc": {"summary": {"bound": 0.3}}}, "scrc") == 0
    assert cut_of({"odd": {"summary": {"threshold": True}}}, "odd") == 0
    assert cut_of({"self": {"summary": {"fast": "self"}}}, "self") == 0
