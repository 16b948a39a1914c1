"""What every policy keeps: the same decisions after JSON, in any batch, and from any seed twice."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import roadwork_policies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from roadwork_policies import (
    Conformal,
    DirichletCalibration,
    Identity,
    IsotonicCalibration,
    Platt,
    Scrc,
    SelectiveError,
    Threshold,
    VectorScaling,
)

from roadwork_core.decisions import Decisions
from roadwork_core.errors import DataError
from roadwork_core.kinds import Policy, PolicyRestoreContext

NAMES = ("threshold", "scrc", "hybrid", "conformal", "selective_error")


@pytest.fixture(scope="session")
def every(three: Callable[..., Any], context: Callable[..., Any]) -> Callable[..., Any]:
    """Every policy of this package by name, each with its component, fitted to the same samples."""

    def fitted(logits: np.ndarray, labels: np.ndarray) -> dict[str, tuple[Any, Policy]]:
        others: dict[str, Any] = {
            "conformal": Conformal(
                score="raps", calibrator=IsotonicCalibration() if logits.shape[1] == 2 else VectorScaling()
            ),
            "selective_error": SelectiveError(target_error=0.2, calibrator=DirichletCalibration()),
        }
        built = {name: (component, component.build(context(logits, labels))) for name, component in others.items()}
        fitted_to_both: dict[str, tuple[Any, Policy]] = three(logits, labels) | built
        return fitted_to_both

    return fitted


def same(first: Decisions, second: Decisions) -> bool:
    return (
        np.array_equal(first.labels, second.labels)
        and np.array_equal(first.scores, second.scores)
        and np.array_equal(first.sets, second.sets)
        and list(first.reasons) == list(second.reasons)
        and list(first.policies or ()) == list(second.policies or ())
    )


def restored(fitted: dict[str, tuple[Any, Policy]], classes: int) -> dict[str, Policy]:
    """All policies read back from JSON text, members included."""
    again: dict[str, Policy] = {}
    for name, (component, policy) in fitted.items():
        ctx = PolicyRestoreContext(
            classes=tuple(f"class_{index}" for index in range(classes)), positive=1, members=dict(again)
        )
        again[name] = component.restore(json.loads(json.dumps(policy.state(), allow_nan=False)), ctx)
    return again


@pytest.mark.parametrize("classes", [2, 4])
def test_a_policy_read_back_from_json_decides_identically(
    classes: int, draw: Callable[..., Any], every: Callable[..., Any]
) -> None:
    fitted = every(*draw(400, classes=classes))
    again = restored(fitted, classes)
    fresh, _ = draw(3000, classes=classes, seed=1)
    for name in NAMES:
        assert same(fitted[name][1].decide(fresh), again[name].decide(fresh))
        assert again[name].summary() == json.loads(json.dumps(fitted[name][1].summary(), allow_nan=False))
        assert again[name].guarantee() == json.loads(json.dumps(fitted[name][1].guarantee()))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("classes", [2, 3])
def test_a_batch_of_any_size_gives_the_decisions_of_its_rows_alone(
    classes: int, data: st.DataObject, draw: Callable[..., Any], every: Callable[..., Any]
) -> None:
    if classes not in CACHE:
        CACHE[classes] = every(*draw(300, classes=classes))
    number = st.one_of(st.floats(-40, 40, width=32), st.integers(-3, 3).map(float))
    logits = data.draw(hnp.arrays(np.float64, st.tuples(st.integers(1, 33), st.just(classes)), elements=number))
    for name in NAMES:
        policy = CACHE[classes][name][1]
        whole = list(policy.decide(logits).rows())
        for row in range(len(whole)):
            alone = next(policy.decide(logits[row : row + 1]).rows())
            assert {**alone, "row": row} == whole[row]
        assert list(policy.decide(np.asfortranarray(logits)).rows()) == whole


CACHE: dict[int, dict[str, tuple[Any, Policy]]] = {}


def test_fitting_twice_with_one_seed_gives_the_same_file(draw: Callable[..., Any], every: Callable[..., Any]) -> None:
    logits, labels = draw(300)
    first, second = (
        {name: json.dumps(policy.state()) for name, (_, policy) in every(logits, labels).items()} for _ in range(2)
    )
    assert first == second


def test_decisions_have_the_shapes_and_types_of_the_contract(
    draw: Callable[..., Any], every: Callable[..., Any]
) -> None:
    fitted = every(*draw(300, classes=3))
    for size in (0, 1, 7):
        logits = draw(max(size, 1), classes=3, seed=2)[0][:size]
        for name in NAMES:
            decisions = fitted[name][1].decide(logits)
            assert decisions.labels.dtype == np.int64
            assert decisions.scores.dtype == np.float64
            assert decisions.sets.dtype == np.bool_
            assert decisions.sets.shape == (size, 3)
            assert len(decisions.reasons) == len(decisions.labels) == size
            assert ((decisions.scores >= 0) & (decisions.scores <= 1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_score_that_is_not_finite_is_an_error_and_not_a_decision(
    name: str, draw: Callable[..., Any], every: Callable[..., Any]
) -> None:
    policy = every(*draw(300))[name][1]
    with pytest.raises(DataError, match="must be finite"):
        policy.decide(np.asarray([[0.0, 1.0], [np.nan, 0.0]]))
    with pytest.raises(DataError, match="2 classes, the logits have 3 columns"):
        policy.decide(np.zeros((2, 3)))


@pytest.mark.parametrize(
    "component",
    [Threshold(calibrator=Platt()), *(kind(calibrator=Identity()) for kind in (Scrc, Conformal, SelectiveError))],
)
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.empty((0, 2)), np.empty(0, dtype=np.int64), "without samples"),
        (np.asarray([[0.0, 1.0], [1.0, 0.0]]), np.asarray([1, 1]), "are of one class"),
        (np.asarray([[0.0, np.inf], [1.0, 0.0]]), np.asarray([0, 1]), "must be finite"),
        (np.asarray([[0.0, 1.0], [1.0, 0.0]]), np.asarray([0, 2]), "whole numbers from 0 to 1"),
    ],
)
def test_what_cannot_be_fitted_is_a_clear_error(
    component: Any,
    logits: np.ndarray,
    labels: np.ndarray,
    message: str,
    context: Callable[..., Any],
) -> None:
    with pytest.raises(DataError, match=message):
        component.build(context(logits, labels))


def test_every_option_is_read_by_the_code_that_fits_or_decides() -> None:
    folder = Path(roadwork_policies.__file__).parent
    read = {
        node.attr
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("options", "self", "self.options")
    }
    components: tuple[Any, ...] = (*roadwork_policies.CALIBRATORS, *roadwork_policies.POLICIES)
    for component in components:
        for field in attrs.fields(component):
            assert field.name in read
            assert field.metadata["help"]
