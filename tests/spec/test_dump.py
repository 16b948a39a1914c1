"""Resolved values written as TOML come back the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from roadwork_core.spec import dump_toml
from roadwork_core.spec.findings import Findings
from roadwork_core.spec.read import read_text
from roadwork_core.spec.variables import expand_variables

from .toys import MINIMAL, resolve

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
LEAVES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.text("${}a\"'\\\n", max_size=8),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


@given(st.dictionaries(KEYS, VALUES, max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_values_come_back(values: dict[str, Any]) -> None:
    text = dump_toml(values)
    found = Findings()
    assert expand_variables(read_text(text, "x", Path()), {}, found).plain() == values
    assert not found.problems
    assert dump_toml(values) == text


def test_a_resolved_spec_comes_back() -> None:
    text = MINIMAL + '[policy."a.b"]\nuse = "scrc"\n[[augment]]\nuse = "flip"\n[[augment]]\nuse = "flip"\np = 1\n'
    resolved = resolve(text + "[bundle]\ndescription = 'costs $${HOME}'\n")
    again = resolve(dump_toml(resolved.values))
    assert again.values == resolved.values
    assert again.spec == resolved.spec


def test_none_is_left_out_and_tables_come_after_scalars() -> None:
    assert dump_toml({"a": {"x": None}, "b": None, "c": {"d": {"e": 1}}, "f": [], "g": 1e-07, "h": [{"i": 1}, {}]}) == (
        "f = []\ng = 1e-07\n\n[a]\n\n[c.d]\ne = 1\n\n[[h]]\ni = 1\n\n[[h]]\n"
    )


def test_notes_stand_behind_the_lines_that_set_a_key() -> None:
    text = dump_toml({"a": 1, "t": {"b": "#"}, "u": [{"c": [1]}]}, note=lambda path: ".".join(map(str, path)))
    assert text == 'a = 1  # a\n\n[t]\nb = "#"  # t.b\n\n[[u]]\nc = [1]  # u.0.c\n'
    assert tomli.loads(text) == {"a": 1, "t": {"b": "#"}, "u": [{"c": [1]}]}


def test_negative_zero_survives() -> None:
    assert math.copysign(1, tomli.loads(dump_toml({"a": -0.0}))["a"]) == -1
