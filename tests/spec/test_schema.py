"""The JSON Schema says of a document what the checker says, for whatever is not decided in code."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema.exceptions import best_match

from roadwork_core.errors import Origin
from roadwork_core.plugins import Plugins
from roadwork_core.spec import Spec, spec_schema
from roadwork_core.spec.check import Checker
from roadwork_core.spec.findings import Findings
from roadwork_core.spec.tree import node_of

from .toys import Moved, OtherFocal, plugin, resolve, toys

PLUGINS = toys(acme=plugin(OtherFocal, Moved))
SCHEMA = spec_schema(PLUGINS)
# TOML tells 3 from 3.0, JSON Schema does not.
Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)
VALIDATOR = Validator(SCHEMA)


def checker_says(document: Any) -> list[str]:
    found = Findings()
    Checker(PLUGINS, found).section(Spec, node_of(document, Origin("x", 1), Path()), ())
    return [str(problem) for problem in found.problems]


def one_of(*options: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(options)


def table(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


def unit(**bounds: Any) -> st.SearchStrategy[float]:
    return st.one_of(st.floats(0.01, 0.99, allow_nan=False), **bounds)


# Written by hand from the meaning of the toys and of the spec, not derived from their classes.
WORD = st.text(alphabet="abcxyz", min_size=1, max_size=4)
THRESHOLD = table(
    {"use": one_of("threshold", "toys/threshold")},
    {"metric": one_of("mcc", "f1"), "costs": st.dictionaries(WORD, unit(), max_size=2)},
)
LIMITS = table({}, {"low": st.floats(0.1, 1.0), "high": st.integers(2, 9)})
SCRC = table(
    {"use": st.just("scrc")},
    {"alpha": unit(), "calibrator": table({}, {"use": st.just("temperature"), "limits": LIMITS})},
)
HYBRID = table({"use": st.just("hybrid"), "fast": WORD, "robust": WORD}, {})
FOCAL = table(
    {"use": st.just("toys/focal")}, {"alpha": unit(), "gamma": st.floats(0, 9)}
) | table({"use": st.just("toys/focal"), "focus": st.integers(0, 5)}, {"alpha": unit()})  # fmt: skip
LOSS = st.one_of(
    FOCAL,
    table({"use": st.just("acme/focal")}, {"extra": st.integers(-3, 3)}),
    table({}, {"use": st.just("cross_entropy"), "class_weights": st.just("balanced") | st.lists(unit(), max_size=2)}),
)
AUGMENT = st.one_of(
    table({"use": st.just("flip")}, {"p": st.integers(0, 1), "on": one_of("sample", "batch")}),
    table({"use": st.just("mixup")}, {"alpha": unit(), "on": one_of("sample", "batch")}),
)
DATA = table(
    {"use": st.just("folder"), "root": WORD},
    {
        "extensions": st.lists(WORD, min_size=1, max_size=2),
        "classes": st.lists(WORD, min_size=2, max_size=3),
        "on_bad_image": one_of("error", "skip"),
        "near_duplicate_distance": st.integers(0, 16),
        "splits": table(
            {}, {"train": unit(), "assign": st.dictionaries(WORD, st.lists(one_of("train", "test"), max_size=2))}
        ),
    },
)
BACKBONE = table(
    {"use": st.just("tiny")},
    {
        "width": st.integers(1, 64),
        "image_size": st.tuples(st.integers(8, 99), st.integers(8, 99)).map(list),
        "norm": one_of("batch", "group"),
        "pretrained": st.booleans(),
    },
)
ADAPTER = one_of({"use": "full"}, {"use": "dora"}, {"use": "dora", "rank": 4}, {})
SPEC = table(
    {"name": one_of("a", "A-1._x"), "data": DATA, "backbone": BACKBONE},
    {
        "spec_version": st.just(1),
        "seed": st.integers(0, 2**32 - 1),
        "augment": st.lists(AUGMENT, max_size=2),
        "adapt": table(
            {"objective": st.just({"use": "vicreg"}), "adapter": one_of({"use": "full"}), "epochs": st.integers(1, 3)},
            {"optimizer": st.just({"use": "adamw", "lr": 0.5})},
        ),
        "adapter": ADAPTER,
        "loss": LOSS,
        "optimizer": table({}, {"use": st.just("adamw"), "lr": unit(), "lr_scale": table({}, {"head": unit()})}),
        "train": table({}, {"epochs": st.integers(1, 9), "ema": unit(), "precision": one_of("bf16", "auto")}),
        "policy": st.dictionaries(WORD, st.one_of(THRESHOLD, SCRC, HYBRID), max_size=2)
        | st.fixed_dictionaries({"threshold": table({}, {"metric": one_of("mcc", "f1")}) | SCRC}),
        "evaluate": table({}, {"level": st.just(0.9)}),
        "bundle": table({}, {"active": WORD, "golden": st.integers(1, 64)}),
        "tracker": st.lists(table({"use": st.just("csv")}, {"path": one_of("a.csv", "log.csv")}), max_size=2),
    },
)
ANYTHING = st.one_of(
    one_of(-1, 0, 1, 2, 3, 65, 2**32, True, False, 0.0, 1.0, 3.0, 0.5, -0.5, 3.9, 1e300, "", "a", "batch", "a\n"),
    one_of("toys/focal", "focal", "log.csv", "log.csv\n", "xlog.csv", "train", "temperature", "dora"),
    one_of([], [1], [1, 2], [0.5, 0.5], [1, 2, 3], ["a"], ["a", "b"], [[1]], [{}], {}, {"use": "flip"}, {"x": 1}),
)
NAMES = one_of(
    "use", "gamma", "focus", "alpha", "width", "seed", "epochs", "on", "p", "splits", "zzz", "rank", "tracker"
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    if isinstance(value, dict):
        return [(value, key) for key in value] + [place for item in value.values() for place in places(item)]
    if isinstance(value, list):
        return [(value, i) for i in range(len(value))] + [place for item in value for place in places(item)]
    return []


def like(old: Any) -> st.SearchStrategy[Any]:
    """Another value of the same type, so that bounds and choices decide."""
    return ANYTHING.filter(lambda value: type(value) is type(old))


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    document = copy.deepcopy(draw(SPEC))
    for _ in range(draw(st.integers(1, 2))):
        container, key = draw(st.sampled_from(places(document) or [(document, "name")]))
        what = draw(one_of("nudge", "nudge", "nudge", "replace", "delete", "add", "rename"))
        if what == "replace":
            container[key] = copy.deepcopy(draw(ANYTHING))
        elif what == "nudge":
            container[key] = copy.deepcopy(draw(like(container[key])))
        elif what == "delete":
            del container[key]
        elif isinstance(container, list):
            container.append(copy.deepcopy(draw(ANYTHING)))
        elif what == "add":
            container[draw(NAMES)] = copy.deepcopy(draw(ANYTHING))
        else:
            container[draw(NAMES)] = container.pop(key)
    return document


@given(SPEC)
@settings(max_examples=60, deadline=None)
def test_a_valid_spec_is_valid_to_both(document: Any) -> None:
    assert checker_says(document) == []
    assert best_match(VALIDATOR.iter_errors(document)) is None


@given(mutated())
@settings(max_examples=300, deadline=None)
def test_a_mutated_spec_has_one_verdict(document: Any) -> None:
    problems = [problem for problem in checker_says(document) if "low must be below high" not in problem]
    assert VALIDATOR.is_valid(document) == (not problems), problems


NUMBERS = [-1, -0.5, 0, 0.0, 0.01, 0.1, 0.5, 0.95, 1, 1.0, 2, 7, 8, 16, 17, 64, 65, 99, 100, 2**32 - 1, 2**32]
BOUNDED = [
    ("seed",),
    ("data", "near_duplicate_distance"),
    ("data", "splits", "train"),
    ("augment", 0, "p"),
    ("augment", 1, "alpha"),
    ("backbone", "width"),
    ("backbone", "image_size", 1),
    ("head", "dropout"),
    ("loss", "gamma"),
    ("loss", "alpha"),
    ("optimizer", "lr"),
    ("optimizer", "betas", 0),
    ("train", "epochs"),
    ("train", "ema"),
    ("evaluate", "level"),
    ("bundle", "golden"),
]


@pytest.mark.parametrize("path", BOUNDED, ids=lambda path: ".".join(map(str, path)))
def test_both_draw_each_bound_at_the_same_number(path: tuple[Any, ...]) -> None:
    verdicts = set()
    for number in NUMBERS:
        document: Any = {
            "name": "a",
            "data": {"use": "folder", "root": "x", "splits": {}},
            "augment": [{"use": "flip"}, {"use": "mixup"}],
            "backbone": {"use": "tiny", "image_size": [8, 8]},
            "head": {},
            "loss": {"use": "toys/focal"},
            "optimizer": {"betas": [0.5, 0.5]},
            "train": {},
            "evaluate": {},
            "bundle": {},
        }
        table = document
        for part in path[:-1]:
            table = table[part]
        table[path[-1]] = number
        problems = checker_says(document)
        assert VALIDATOR.is_valid(document) == (not problems), (number, problems)
        verdicts.add(not problems)
    assert verdicts == {True, False}


def test_the_schema_is_a_2020_12_schema_and_plain_json() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_descriptions_defaults_and_bounds_come_from_the_components() -> None:
    tiny = SCHEMA["$defs"]["backbone.tiny"]
    assert tiny["description"] == "A small network."
    width = tiny["properties"]["width"]
    assert (width["description"], width["default"]) == ("channels", 8)
    assert width["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 64}
    focal = SCHEMA["$defs"]["loss.toys.focal"]["properties"]
    assert focal["focus"]["deprecated"] is True


@pytest.mark.parametrize(
    ("options", "valid"),
    [({}, False), ({"scale": 1}, True), ({"weight": 1}, True), ({"scale": 1, "weight": 1}, False)],
)
def test_a_required_option_may_have_its_old_name_but_not_both(options: dict[str, int], valid: bool) -> None:
    document = {
        "name": "a",
        "data": {"use": "folder", "root": "x"},
        "backbone": {"use": "tiny"},
        "loss": {"use": "moved", **options},
    }
    assert VALIDATOR.is_valid(document) == valid
    assert (not checker_says(document)) == valid


def test_variables_are_not_judged_before_they_are_expanded() -> None:
    document = {
        "name": "a",
        "data": {"use": "folder", "root": "${env:DATA}/x", "on_bad_image": "${bundle.description}"},
        "backbone": {"use": "tiny", "width": "${seed}", "pretrained": "${head.x}", "image_size": "${a.b}"},
    }
    assert VALIDATOR.is_valid(document)
    document["backbone"]["width"] = "x ${seed}"  # type: ignore[index]
    assert not VALIDATOR.is_valid(document)


def test_a_file_with_bases_is_held_to_its_top_level_keys_only() -> None:
    assert VALIDATOR.is_valid({"extends": ["a.toml"], "unset": ["loss.x"], "loss": {"gamma": 1}})
    assert not VALIDATOR.is_valid({"extends": ["a.toml"], "los": {}})


def test_a_kind_that_no_plugin_supplies_has_no_valid_table() -> None:
    schema = spec_schema(Plugins.of({}))
    assert not jsonschema.Draft202012Validator(schema).is_valid(
        {"name": "a", "data": {"use": "x"}, "backbone": {"use": "y"}}
    )


def test_resolved_values_without_their_nulls_are_valid() -> None:
    def dense(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: dense(item) for key, item in value.items() if item is not None}
        return [dense(item) for item in value] if isinstance(value, list) else value

    text = "name = 'a'\n[data]\nuse = 'folder'\nroot = 'x'\n[backbone]\nuse = 'tiny'\n"
    assert best_match(VALIDATOR.iter_errors(dense(resolve(text, plugins=PLUGINS).values))) is None


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "a\n", "a" * 101])
def test_names_that_are_no_folder_names_are_refused_by_both(name: str) -> None:
    document = {"name": name, "data": {"use": "folder", "root": "x"}, "backbone": {"use": "tiny"}}
    assert not VALIDATOR.is_valid(document)
    assert checker_says(document)
