"""The same decision path in evaluation and in serving: fallbacks and answers that must be given say their reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadwork_core.bundle.deciding import Decider, decider_of

from . import toy

LOGITS = np.array([[0.0, -5.0], [0.0, -0.4], [0.0, 0.3], [0.0, 6.0]])


def decider(fault: str = "", fallback: str | None = "threshold", band: float = 1.0, cut: float = 0.0) -> Decider:
    policies = {
        "threshold": toy.policy_document("threshold", "cut"),
        "careful": toy.policy_document("careful", "band", band=band, cut=cut, fault=fault),
    }
    return decider_of(policies, toy.plugins(), active="careful", fallback=fallback, num_classes=2, positive=1)


def test_the_active_policy_decides_unless_another_is_asked() -> None:
    plain = decider().decide(LOGITS)
    assert plain.decisions.labels.tolist() == [0, -1, -1, 1]
    assert plain.decisions.policies == ["careful"] * 4
    assert decider().decide(LOGITS, policy="threshold").decisions.labels.tolist() == [0, 0, 1, 1]
    assert not plain.fallbacks
    assert not plain.errors


def test_an_abstention_that_must_be_answered_is_answered_by_the_fallback_with_a_reason() -> None:
    decided = decider().decide(LOGITS, must_answer=True).decisions
    assert decided.labels.tolist() == [0, 0, 1, 1]
    assert decided.policies == ["careful", "threshold", "threshold", "careful"]
    assert decided.reasons[1].startswith("must answer: careful abstained")
    assert decided.reasons[0] == "cut 0.0"


def test_without_a_fallback_the_more_probable_side_answers() -> None:
    decided = decider(fallback=None).decide(LOGITS, must_answer=True).decisions
    assert decided.labels.tolist() == [0, 0, 1, 1]
    assert decided.reasons[1].endswith("score 0.4013 < 0.5")
    assert decided.reasons[2].endswith("score 0.5744 >= 0.5")


def test_a_tie_that_must_be_answered_is_positive() -> None:
    assert decider(fallback=None).decide(np.zeros((1, 2)), must_answer=True).decisions.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("fault", "reason", "rows"),
    [
        ("raise", "careful failed: ValueError: out of order", [0, 1, 2, 3]),
        ("raise_on_large", "careful failed: ValueError: a large margin", [3]),
        ("nan_score", "careful gave a score that is not finite", [0, 1, 2, 3]),
        ("empty_set", "careful gave an empty set", [1, 2]),
        ("restore", "careful could not be restored: policy 'careful': its state", [0, 1, 2, 3]),
    ],
)
def test_the_fallback_answers_for_what_goes_wrong_and_counts_it(fault: str, reason: str, rows: list[int]) -> None:
    decided = decider(fault).decide(LOGITS)
    assert len(decided.fallbacks) == 1
    cause, count = next(iter(decided.fallbacks.items()))
    assert reason in cause
    assert count == len(rows)
    assert not decided.errors
    for row in range(4):
        if row in rows:
            assert decided.decisions.policies is not None
            assert decided.decisions.policies[row] == "threshold"
            assert decided.decisions.reasons[row].startswith(f"fallback: {cause}; ")
            assert decided.decisions.labels[row] == int(LOGITS[row, 1] >= 0)
        else:
            assert "fallback" not in decided.decisions.reasons[row]


def test_without_a_fallback_what_goes_wrong_is_an_error_of_that_row_alone() -> None:
    decided = decider("raise_on_large", fallback=None).decide(LOGITS)
    assert decided.errors == {3: "careful failed: ValueError: a large margin, and the bundle names no fallback"}
    assert decided.decisions.labels[:3].tolist() == [0, -1, -1]


def test_without_a_fallback_an_empty_set_stays_an_abstention() -> None:
    decided = decider("empty_set", fallback=None).decide(LOGITS)
    assert decided.decisions.labels.tolist() == [0, -1, -1, 1]
    assert not decided.decisions.sets[1].any()


def test_a_fallback_that_fails_as_well_is_an_error_with_both_reasons() -> None:
    policies = {
        "threshold": toy.policy_document("threshold", "cut", fault="raise"),
        "careful": toy.policy_document("careful", "band", fault="nan_score"),
    }
    both = decider_of(policies, toy.plugins(), active="careful", fallback="threshold", num_classes=2, positive=1)
    assert both.decide(LOGITS[:1]).errors == {
        0: "careful gave a score that is not finite; the fallback threshold failed: ValueError: out of order"
    }


def test_a_policy_that_is_not_there_goes_to_the_fallback() -> None:
    assert decider().decide(LOGITS, policy="gone").fallbacks == {"gone is not in the bundle": 4}


def test_logits_that_are_not_finite_are_an_error_of_their_row() -> None:
    logits = np.vstack([LOGITS, [[np.nan, 0.0], [0.0, np.inf]]])
    decided = decider().decide(logits, must_answer=True)
    assert decided.errors == dict.fromkeys((4, 5), "the model's logits are not finite")
    assert decided.decisions.labels[:4].tolist() == [0, 0, 1, 1]


def test_a_member_that_is_missing_breaks_only_what_needs_it() -> None:
    policies = {
        "threshold": toy.policy_document("threshold", "cut"),
        "careful": toy.policy_document("careful", "band", member="gone"),
    }
    made = decider_of(policies, toy.plugins(), active="careful", fallback="threshold", num_classes=2, positive=1)
    assert set(made.policies) == {"threshold"}
    assert made.broken == {"careful": "it needs the policy 'gone', which is not in the bundle"}


def test_no_samples() -> None:
    assert len(decider().decide(np.zeros((0, 2))).decisions) == 0


@settings(max_examples=60, deadline=None)
@given(
    margins=st.lists(st.floats(-20, 20), min_size=1, max_size=12),
    fault=st.sampled_from(["", "raise_on_large", "empty_set"]),
    must_answer=st.booleans(),
    cut=st.floats(-3, 3),
)
def test_a_batch_decides_like_its_rows_alone(margins: list[float], fault: str, must_answer: bool, cut: float) -> None:
    logits = np.array([[0.0, margin] for margin in margins])
    made = decider(fault, cut=cut)
    whole = list(made.decide(logits, must_answer=must_answer).decisions.rows())
    alone = [
        next(made.decide(logits[row : row + 1], must_answer=must_answer).decisions.rows()) for row in range(len(logits))
    ]
    assert [without_row(row) for row in whole] == [without_row(row) for row in alone]
    if must_answer:
        assert not any(row["abstain"] for row in whole)


def without_row(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "row"}
