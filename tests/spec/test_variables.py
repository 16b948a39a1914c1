"""`${env:X}`, `${spec_dir}`, `${a.b}`; nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadwork_core.errors import Origin
from roadwork_core.spec.findings import Findings
from roadwork_core.spec.tree import node_of
from roadwork_core.spec.variables import escape, expand_variables

from .conftest import lines
from .toys import MINIMAL, resolve


def test_each_form_in_a_string() -> None:
    text = MINIMAL.replace('"pictures"', '"${env:DATA}/${name}/${seed}"') + "[bundle]\ndescription='${spec_dir}'"
    resolved = resolve(text.replace("[data]", "seed = 4\n[data]"), env={"DATA": "/data"})
    assert resolved.spec.data.component.root == "/data/toy/4"
    assert resolved.spec.bundle.description == str(Path.cwd())
    assert str(resolved.origin("data.root")) == "<text>:6"


def test_a_whole_reference_keeps_the_type() -> None:
    text = MINIMAL + (
        '[train]\nepochs = "${seed}"\nema = "${head.dropout}"\n[head]\nuse = "linear"\ndropout = 0.5\n'
        '[[augment]]\nuse = "flip"\np = "${augment.1.p}"\n[[augment]]\nuse = "flip"\np = 0.75\n'
        '[policy.a]\nuse = "threshold"\n[policy.b]\nuse = "${policy.a.use}"\n[bundle]\nactive = "a"\n'
    )
    spec = resolve(text.replace("[data]", "seed = 4\n[data]", 1)).spec
    assert (spec.train.epochs, spec.train.ema, spec.augment[0].component.p) == (4, 0.5, 0.75)


def test_a_reference_may_take_a_table_or_an_array_and_go_through_it() -> None:
    text = MINIMAL + (
        '[optimizer]\nuse = "adamw"\nlr = 0.5\n[adapt]\nobjective = {use = "vicreg"}\nadapter = "${adapter}"\n'
        'optimizer = {use = "adamw", lr = "${adapt.adapter.rank}"}\nepochs = 1\n[adapter]\nuse = "dora"\nrank = 3\n'
    )
    spec = resolve(text).spec
    assert spec.adapt is not None
    assert spec.adapt.adapter == spec.adapter
    assert spec.adapt.optimizer.lr == 3.0


def test_spec_dir_is_the_folder_of_the_file_in_which_the_text_stands(write: Callable[[str, str], Path]) -> None:
    write("shared/base.toml", MINIMAL.replace('"pictures"', '"${spec_dir}/pictures"'))
    spec = write("own/spec.toml", 'extends = ["../shared/base.toml"]\n[bundle]\ndescription = "${spec_dir}"')
    resolved = resolve(spec)
    assert resolved.spec.data.component.root == str(Path.cwd() / "shared/pictures")
    assert resolved.spec.bundle.description == str(Path.cwd() / "own")


def test_references_see_the_overrides() -> None:
    text = MINIMAL.replace('"pictures"', '"/${name}"')
    assert resolve(text, overrides=['name="x"']).spec.data.component.root == "/x"


FORMS = "(write ${env:NAME}, ${spec_dir} or ${a.b}; a plain ${ is written $${)"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${env:NOPE}", "the environment variable NOPE is not set (set NOPE, or give the value here)"),
        ("${nmae}", '${nmae}: nmae is not set (did you mean "name"?)'),
        (
            "${train.epochs}",
            "${train.epochs}: train.epochs is not set (only keys that are written can be referred to, not defaults)",
        ),
        ("${name", "${name has no closing brace " + FORMS),
        ("${}", "${} is no variable " + FORMS),
        ("${git:sha}", "${git:sha} is no variable " + FORMS),
        ("${env:}", "${env:} is no variable " + FORMS),
        ("a ${data}", "${data} is a table (inside a longer string only a string, number or boolean can stand)"),
        ("${name.x}", '${name.x}: name.x is not set (did you mean "name"?)'),
    ],
)  # fmt: skip
def test_what_cannot_be_expanded_is_one_line(value: str, expected: str) -> None:
    assert lines(MINIMAL + f"[bundle]\ndescription = '{value}'") == [f"<text>:9 bundle.description: {expected}"]


def test_the_environment_is_not_read_as_toml() -> None:
    assert lines(MINIMAL + '[train]\nepochs = "${env:N}"', env={"N": "3"}) == [
        '<text>:9 train.epochs: expected an integer, got the string "3" (write 3 without quotes)'
    ]


def test_circles_are_reported_once_with_their_chain() -> None:
    text = MINIMAL + '[bundle]\ndescription = "${bundle.license}"\nlicense = "a ${description}"\n'
    text = text.replace("[data]", 'description = "${bundle.description}"\n[data]')
    (line,) = lines(text)
    assert line.endswith(
        "variables refer to each other in a circle: description -> bundle.description -> bundle.license -> description"
    )
    (line,) = lines(MINIMAL + '[bundle]\ndescription = "${bundle.description}"')
    assert line.endswith("in a circle: bundle.description -> bundle.description")
    (line,) = lines(MINIMAL + '[bundle]\ndescription = "${bundle}"')
    assert line.endswith("in a circle: bundle -> bundle.description -> bundle")


def test_an_escaped_variable_is_text() -> None:
    assert (
        resolve(MINIMAL + "[bundle]\ndescription = '$${name} $ {x} $$'").spec.bundle.description == "${name} $ {x} $$"
    )


@given(st.text(alphabet="${}ab:.", max_size=12))
def test_escaped_text_expands_to_itself(text: str) -> None:
    found = Findings()
    document = node_of({"a": escape(text)}, Origin("x"), Path())
    assert expand_variables(document, {}, found).plain() == {"a": text}
    assert not found.problems
