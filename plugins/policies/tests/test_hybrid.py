"""The hybrid policy routes by distance from the cut, falls back with a reason, and promises nothing that is void."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roadwork_policies import Conformal, Hybrid, Identity, SelectiveError
from roadwork_policies.hybrid import routing_margin

from roadwork_core.bundle.deciding import Decider
from roadwork_core.decisions import ABSTAIN, Decisions
from roadwork_core.errors import DataError
from roadwork_core.kinds import PolicyRestoreContext
from roadwork_core.metrics import margin


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30), st.floats(0, 0.9))
def test_the_routing_margin_takes_the_most_samples_that_keep_the_target(
    rows: list[tuple[int, bool]], target: float
) -> None:
    distance, wrong = np.asarray([row[0] for row in rows], dtype=float), np.asarray([row[1] for row in rows])
    kept = [int((distance >= d).sum()) for d in np.unique(distance) if wrong[distance >= d].mean() <= target]
    chosen = routing_margin(distance, wrong, target)
    assert (0 if chosen is None else int((distance >= chosen).sum())) == max(kept, default=0)


class Faulty:
    """A robust member that breaks on the rows whose first logit is above 5."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def decide(self, logits: np.ndarray) -> Decisions:
        bad = logits[:, 0] > 5
        if self.fault == "raises" and bad.any():
            raise RuntimeError("lost its\ntables")
        sets = np.ones(logits.shape, dtype=np.bool_)
        scores = np.full(len(logits), 0.5)
        if self.fault == "empty":
            sets[bad] = False
        if self.fault == "not finite":
            scores[bad] = np.nan
        return Decisions(
            labels=np.full(len(logits), ABSTAIN), scores=scores, sets=sets, reasons=["set of 2 labels"] * len(logits)
        )


def with_robust(three: Callable[..., Any], samples: Any, robust: Any, **options: Any) -> Any:
    """A fitted hybrid whose robust member is replaced."""
    fitted = three(*samples, target_error=0.0, **options)["hybrid"][1]
    return attrs.evolve(fitted, robust=robust, routing_margin=1e9)


def test_clear_samples_get_the_fast_answer_and_the_others_the_robust_one(
    draw: Callable[..., Any], three: Callable[..., Any]
) -> None:
    fitted = three(*draw(600), target_error=0.02)
    fast, robust, hybrid = (fitted[name][1] for name in ("threshold", "scrc", "hybrid"))
    fresh, _ = draw(2000, seed=1)
    decisions = hybrid.decide(fresh)
    clear = np.abs(margin(fresh) - fast.threshold) >= hybrid.routing_margin
    assert 0.1 < clear.mean() < 0.95
    assert np.array_equal(decisions.labels[clear], fast.decide(fresh).labels[clear])
    for index in np.flatnonzero(~clear):
        expected = robust.decide(fresh[index : index + 1])
        if not decisions.reasons[index].startswith("fallback"):
            assert decisions.labels[index] == expected.labels[0]
            assert decisions.policies is not None
            assert decisions.policies[index] == "scrc"
    assert np.array_equal(decisions.scores, fast.decide(fresh).scores)


def test_the_error_of_the_fast_answers_on_val_calib_keeps_the_target(
    draw: Callable[..., Any], three: Callable[..., Any]
) -> None:
    logits, labels = draw(600, distance=1.5)
    hybrid = three(logits, labels, target_error=0.03)["hybrid"][1]
    shown = hybrid.summary()["in_sample"]
    assert shown["error_of_fast_alone"]["value"] <= 0.03
    assert "optimistic" in shown["note"]


def test_must_answer_never_abstains_and_agrees_with_the_fast_label_where_it_would_have(
    draw: Callable[..., Any], three: Callable[..., Any]
) -> None:
    samples = draw(600, distance=1.2)
    fresh, _ = draw(2000, distance=1.2, seed=1)
    free = three(*samples, target_error=0.02)["hybrid"][1].decide(fresh)
    fitted = three(*samples, target_error=0.02, must_answer=True)
    forced = fitted["hybrid"][1].decide(fresh)
    withheld = free.abstain
    assert withheld.any()
    assert not forced.abstain.any()
    assert np.array_equal(forced.labels[~withheld], free.labels[~withheld])
    assert np.array_equal(forced.labels[withheld], fitted["threshold"][1].decide(fresh).labels[withheld])
    assert all(forced.reasons[index].startswith("must answer: ") for index in np.flatnonzero(withheld))
    assert forced.sets[np.arange(len(fresh)), forced.labels].all()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raises", "fallback: policy scrc failed: RuntimeError: lost its tables; threshold: score"),
        ("empty", "fallback: policy scrc gave an empty set; threshold: score"),
        ("not finite", "fallback: policy scrc gave a score that is not finite; threshold: score"),
    ],
)
def test_only_the_rows_that_break_the_robust_member_fall_back_and_each_says_why(
    fault: str, reason: str, draw: Callable[..., Any], three: Callable[..., Any]
) -> None:
    hybrid = with_robust(three, draw(300), Faulty(fault))
    decisions = hybrid.decide(np.asarray([[0.0, 1.0], [6.0, 1.0], [1.0, 0.0]]))
    assert decisions.labels.tolist() == [ABSTAIN, 0, ABSTAIN]
    assert decisions.reasons[1].startswith(reason)
    assert decisions.policies == ["scrc", "threshold", "scrc"]
    assert "fallback" not in decisions.reasons[0] + decisions.reasons[2]


def test_where_asked_an_empty_set_abstains_unless_an_answer_must_be_given(
    draw: Callable[..., Any], three: Callable[..., Any]
) -> None:
    rows = np.asarray([[0.0, 1.0], [6.0, 1.0], [1.0, 0.0]])
    hybrid = attrs.evolve(with_robust(three, draw(300), Faulty("empty")), on_empty_set="abstain")
    decisions = hybrid.decide(rows)
    assert decisions.labels.tolist() == [ABSTAIN] * 3
    assert decisions.sets.all()
    assert decisions.reasons[1].startswith("empty set: ")
    forced = attrs.evolve(hybrid, must_answer=True).decide(rows)
    assert forced.labels[1] == 0
    assert forced.reasons[1].startswith("fallback: policy scrc gave an empty set")
    broken = attrs.evolve(hybrid, robust=Faulty("raises")).decide(rows)
    assert broken.labels.tolist() == [ABSTAIN, 0, ABSTAIN]


def test_a_bundle_counts_the_fallbacks_inside_a_hybrid_by_cause(
    draw: Callable[..., Any], three: Callable[..., Any]
) -> None:
    hybrid = with_robust(three, draw(300), Faulty("empty"))
    decider = Decider(policies={"hybrid": hybrid}, active="hybrid", fallback=None, num_classes=2, positive=1)
    rows = np.asarray([[0.0, 1.0], [6.0, 1.0], [7.0, 1.0]])
    assert decider.decide(rows).fallbacks == {"policy scrc gave an empty set": 2}


@pytest.mark.parametrize("robust", ["conformal", "selective_error"])
def test_any_policy_may_be_the_robust_member(
    robust: str, draw: Callable[..., Any], context: Callable[..., Any], three: Callable[..., Any]
) -> None:
    logits, labels = draw(600)
    component: dict[str, Any] = {
        "conformal": Conformal(calibrator=Identity()),
        "selective_error": SelectiveError(calibrator=Identity()),
    }
    members = {
        "threshold": three(logits, labels)["threshold"][1],
        robust: component[robust].build(context(logits, labels)),
    }
    hybrid = Hybrid(robust=robust, target_error=0.0).build(context(logits, labels, members=members))
    fresh = draw(500, seed=1)[0]
    decisions = hybrid.decide(fresh)
    routed = np.asarray([name == robust for name in decisions.policies or ()])
    assert routed.any()
    assert np.array_equal(decisions.labels[routed], members[robust].decide(fresh).labels[routed])


def test_a_missing_robust_member_falls_back_and_a_missing_fast_one_is_an_error(
    draw: Callable[..., Any], three: Callable[..., Any]
) -> None:
    fitted = three(*draw(300), target_error=0.0)
    component, policy = fitted["hybrid"]
    state = json.loads(json.dumps(policy.state())) | {"routing_margin": None}
    ctx = PolicyRestoreContext(classes=("a", "b"), positive=1, members={"threshold": fitted["threshold"][1]})
    decisions = component.restore(state, ctx).decide(np.asarray([[0.0, 9.0]]))
    assert decisions.labels.tolist() == [1]
    assert decisions.reasons[0].startswith("fallback: policy scrc is missing")
    with pytest.raises(DataError, match="needs the policy 'threshold'"):
        component.restore(state, PolicyRestoreContext(classes=("a", "b"), positive=1))


def test_a_fast_member_without_a_cut_is_refused_by_name(
    draw: Callable[..., Any], context: Callable[..., Any], three: Callable[..., Any]
) -> None:
    logits, labels = draw(300)
    members = {name: pair[1] for name, pair in three(logits, labels).items()}
    with pytest.raises(DataError, match="cannot route by the policy 'scrc'"):
        Hybrid(fast="scrc", robust="threshold").build(context(logits, labels, members=members))


def test_it_promises_none_of_what_its_parts_promise(draw: Callable[..., Any], three: Callable[..., Any]) -> None:
    promise = three(*draw(300))["hybrid"][1].guarantee()
    assert promise["kind"] == "none"
    assert "audit on test" in promise["text"]


def test_it_requires_both_members() -> None:
    assert Hybrid().requires() == ("threshold", "scrc")
