"""Policies are fitted after what they need, and their documents decide as they did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from roadwork_core import component, hookimpl, option
from roadwork_core.decisions import Decisions
from roadwork_core.errors import DataError, RoadworkError, SpecError
from roadwork_core.plugins import Plugins
from roadwork_core.policies import Scores, fit_policies, load_policies, sweep_csv


class Constant:
    """Always answers one class."""

    def __init__(self, label: int, members: Mapping[str, Any]) -> None:
        self.label = label
        self.members = members

    def decide(self, logits: np.ndarray) -> Decisions:
        n = len(logits)
        return Decisions(
            labels=np.full(n, self.label),
            scores=np.full(n, 0.5),
            sets=np.ones(logits.shape, dtype=np.bool_),
            reasons=["constant"] * n,
        )

    def state(self) -> Mapping[str, Any]:
        return {"label": self.label}

    def summary(self) -> Mapping[str, Any]:
        return {"members": sorted(self.members)}

    def guarantee(self) -> None:
        return None


@component("policy", "constant")
class ConstantComponent:
    """A policy for tests."""

    mode: ClassVar[str] = "fast"

    label: int = option(default=0, minimum=0, help="the answer")
    ceiling: float | None = option(default=None, help="an option that may be absent")
    needs: tuple[str, ...] = option(default=(), help="required policies")

    def build(self, ctx: Any) -> Constant:
        return Constant(self.label, ctx.members)

    def restore(self, state: Mapping[str, Any], ctx: Any) -> Constant:
        return Constant(state["label"], ctx.members)

    def requires(self) -> Sequence[str]:
        return self.needs


class Toy:
    @staticmethod
    @hookimpl
    def roadwork_components() -> list[type]:
        return [ConstantComponent]


PLUGINS = Plugins.of({"toy": Toy()})
SCORES = Scores(logits=np.asarray([[0.0, 1.0], [1.0, 0.0]]), labels=np.asarray([1, 0]), groups=np.asarray([0, 1]))


def fit(components: Mapping[str, Any], scores: Scores = SCORES) -> dict[str, Any]:
    return fit_policies(
        components, scores, classes=["no", "yes"], positive=1, seed=0, plugins=PLUGINS, split="val_calib", tta="0" * 64
    )


def documents(components: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: document for name, (document, _) in fit(components).items()}
    return json.loads(json.dumps(made, allow_nan=False))


def test_a_policy_is_fitted_after_those_it_requires_whatever_the_order_of_the_spec() -> None:
    components = {
        "last": ConstantComponent(needs=("middle", "first")),
        "middle": ConstantComponent(needs=("first",)),
        "first": ConstantComponent(label=1),
    }
    fitted = fit(components)
    assert list(fitted) == ["first", "middle", "last"]
    assert fitted["last"][0]["summary"] == {"members": ["first", "middle"]}


def test_a_circle_is_shown_as_a_chain() -> None:
    components = {
        "a": ConstantComponent(needs=("b",)),
        "b": ConstantComponent(needs=("c",)),
        "c": ConstantComponent(needs=("b",)),
    }
    with pytest.raises(SpecError, match="in a circle: b -> c -> b"):
        fit(components)


def test_every_missing_member_is_named_at_once_with_what_there_is() -> None:
    components = {"a": ConstantComponent(needs=("x",)), "b": ConstantComponent(needs=("y", "a"))}
    with pytest.raises(SpecError) as error:
        fit(components)
    lines = str(error.value).splitlines()
    assert lines == [
        "policy.a: requires the policy 'x', which is not there (policies: b)",
        "policy.b: requires the policy 'y', which is not there (policies: a)",
    ]


def test_the_document_says_what_the_policy_is_and_what_it_was_fitted_on() -> None:
    made = documents({"only": ConstantComponent(label=1)})["only"]
    assert made == {
        "schema": "roadwork.policy/1",
        "name": "only",
        "use": "constant",
        "options": {"label": 1, "ceiling": None, "needs": []},
        "classes": ["no", "yes"],
        "positive": 1,
        "state": {"label": 1},
        "summary": {"members": []},
        "guarantee": None,
        "members": [],
        "fitted_on": {"split": "val_calib", "n": 2, "groups": 2, "digest": SCORES.digest},
        "tta": "0" * 64,
    }


def test_documents_are_restored_in_any_order_with_their_members() -> None:
    made = documents({"top": ConstantComponent(needs=("base",)), "base": ConstantComponent(label=1)})
    loaded = load_policies(dict(sorted(made.items(), reverse=True)), PLUGINS)
    assert list(loaded) == ["top", "base"]
    assert loaded["base"].decide(SCORES.logits).labels.tolist() == [1, 1]
    assert loaded["top"].summary() == {"members": ["base"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "roadwork.policy/2"}, "not a roadwork.policy/1 document but 'roadwork.policy/2'"),
        ({"state": {}}, "its state is not one that constant wrote"),
        ({"state": None}, "state is not an object"),
        ({"positive": 2}, "positive is not the index"),
        ({"positive": True}, "positive is not a whole number"),
        ({"classes": ["no", 1]}, "classes and members must be names"),
        ({"use": "constnt"}, 'unknown policy "constnt".*constant'),
        ({"options": {"lable": 1}}, 'unknown key "lable"'),
        ({"members": ["gone"]}, "requires the policy 'gone'"),
    ],
)
def test_a_document_that_is_not_right_is_one_clear_line(change: dict[str, Any], message: str) -> None:
    made = {"only": {**documents({"only": ConstantComponent()})["only"], **change}}
    with pytest.raises(RoadworkError, match=message) as error:
        load_policies(made, PLUGINS)
    assert "\n" not in str(error.value)


def test_what_is_no_document_at_all_is_refused() -> None:
    with pytest.raises(RoadworkError, match="but 'list'"):
        load_policies({"x": []}, PLUGINS)  # type: ignore[dict-item]


def test_scores_that_cannot_be_fitted_to_are_refused() -> None:
    without = Scores(logits=SCORES.logits, labels=None, groups=None)
    with pytest.raises(DataError, match="without labels"):
        fit({"a": ConstantComponent()}, without)
    with pytest.raises(DataError, match="3 logits per sample, there are 2 classes"):
        fit(
            {"a": ConstantComponent()}, Scores(logits=np.zeros((1, 3)), labels=np.zeros(1, dtype=np.int64), groups=None)
        )


def test_a_curve_is_written_as_csv_with_floats_that_read_back_exactly() -> None:
    class Curved(Constant):
        def curve(self) -> dict[str, np.ndarray]:
            return {"threshold": np.asarray([0.1, 1 / 3]), "value": np.asarray([1.0, 0.5])}

    content = sweep_csv(Curved(0, {}))
    assert content is not None
    rows = [line.split(",") for line in content.decode().splitlines()]
    assert rows[0] == ["threshold", "value"]
    assert [float(cell) for cell in rows[2]] == [1 / 3, 0.5]
    assert sweep_csv(Constant(0, {})) is None
