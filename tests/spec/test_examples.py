"""The example specs, and whatever text: with the plugins that are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema.exceptions import best_match

from roadwork_core.errors import SpecError
from roadwork_core.plugins import Plugins
from roadwork_core.spec import dump_toml, load_spec, spec_schema

from .toys import MINIMAL, resolve

SPECS = Path(__file__).parents[2] / "specs"
EXAMPLES = sorted(SPECS.glob("*.toml"))
ENVIRONMENT = {"ROADWORK_DATA": "/data"}


@pytest.fixture(scope="module")
def installed() -> Plugins:
    return Plugins.load()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_checks_and_survives_being_written_out(path: Path, installed: Plugins) -> None:
    resolved = load_spec(path, installed, env=ENVIRONMENT)
    assert not resolved.warnings
    again = load_spec(dump_toml(resolved.values), installed, env={})
    assert again.values == resolved.values
    assert again.spec == resolved.spec


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_schema_takes_an_example(path: Path, installed: Plugins) -> None:
    validator = jsonschema.Draft202012Validator(spec_schema(installed))
    error = best_match(validator.iter_errors(tomli.loads(path.read_text(encoding="utf-8"))))
    assert error is None, error.message


def test_the_schema_of_what_is_installed_is_one(installed: Plugins) -> None:
    jsonschema.Draft202012Validator.check_schema(spec_schema(installed))


FULL = MINIMAL + (
    '[[augment]]\nuse = "flip"\np = 0.5\n[loss]\nuse = "focal"\ngamma = 2.0\n[train]\nepochs = 3 # three\n'
    '[policy.a]\nuse = "scrc"\ncalibrator = { use = "temperature" }\n[bundle]\ndescription = "${name}"\n'
)
SNIPPETS = st.sampled_from(
    [
        "\n",
        '"',
        "[",
        "]",
        "{",
        "}",
        "=",
        "${",
        "}",
        ".",
        "#",
        "'''",
        "use",
        "1",
        "true",
        "nan",
        "-",
        ",",
        "\\",
        "\x00",
        "é",
    ]
)


@given(st.lists(st.tuples(st.integers(0, len(FULL)), st.integers(0, 6), SNIPPETS), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_text_ends_in_anything_but_a_spec_or_its_problems(edits: list[tuple[int, int, str]]) -> None:
    text = FULL
    for place, cut, snippet in edits:
        text = text[:place] + snippet + text[place + cut :]
    try:
        resolve(text)
    except SpecError as error:
        for problem in error.problems():
            assert "\n" not in str(problem)
            assert problem.origin is not None


NAMES = st.sampled_from(["use", "name", "data", "splits", "policy", "augment", "loss", "backbone", "x"])
VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
)
TOP_LEVEL = ["loss", "data", "augment", "policy", "tracker", "adapt", "extends", "unset", "spec_version"]


@given(st.dictionaries(st.sampled_from(TOP_LEVEL), VALUES, max_size=3))
@settings(max_examples=150, deadline=None)
def test_no_value_of_any_key_ends_in_anything_else(values: dict[str, Any]) -> None:
    try:
        resolve(dump_toml({"name": "x", **values}))
    except SpecError as error:
        assert error.found  # noqa: PT017 - whether it resolves does not matter here
