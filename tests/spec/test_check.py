"""Every key, type and bound is held against the components' own fields, and all that is wrong is said at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roadwork_core.component import component, option, section, slot
from roadwork_core.errors import Origin, Problem, RoadworkError, SpecError
from roadwork_core.hookspecs import hookimpl
from roadwork_core.plugins import Plugins
from roadwork_core.spec import Spec, format_key, load_spec, walk

from .conftest import lines, problems
from .toys import MINIMAL, TOYS, Colliding, Focal, Moved, OtherFocal, StrictHead, Untyped, plugin, resolve, toys


def test_every_problem_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = MINIMAL + (
        "witdh = 1\n[loss]\nuse = 'focl'\n[train]\nepochs = true\nbatch_size = 0\n[tran]\n"
        "[head]\nuse = 'linear'\ndropout = 1.5\n[policy.x]\nuse = 'hybrid'\nfast = 1\n"
    )
    assert lines(text) == [
        '<text>:8 backbone.witdh: unknown key "witdh" of backbone tiny (did you mean "width"?)',
        '<text>:10 loss.use: unknown loss "focl" (did you mean "focal"?)',
        "<text>:12 train.epochs: expected an integer, got true",
        "<text>:13 train.batch_size: must be at least 1, got 0",
        '<text>:14 tran: unknown key "tran" of the spec (did you mean "train"?)',
        "<text>:17 head.dropout: must be below 1, got 1.5",
        '<text>:18 policy.x.robust: missing key "robust" (a string: decides the rest)',
        "<text>:20 policy.x.fast: expected a string, got the integer 1 (strings need quotes)",
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("width = 3.9", "expected an integer, got the float 3.9"),
        ("width = 3.0", "expected an integer, got the float 3.0 (write 3)"),
        ("width = true", "expected an integer, got true"),
        ('width = "3"', 'expected an integer, got the string "3" (write 3 without quotes)'),
        ("width = [3]", "expected an integer, got an array"),
        ("width = {a = 1}", "expected an integer, got a table"),
        ("width = 1979-05-27", "expected an integer, got a date or time"),
        ("width = 65", "must be at most 64, got 65"),
        ("width = 9223372036854775808", "the integer does not fit into 64 bits"),
        ("pretrained = 1", "expected true or false, got the integer 1 (write true)"),
        ('pretrained = "True"', 'expected true or false, got the string "True" (write true without quotes)'),
        ("norm = true", 'expected one of "batch", "group", got true'),
        ('norm = "bacth"', 'expected one of "batch", "group", got the string "bacth" (did you mean "batch"?)'),
        ("image_size = 32", "expected an array of 2 integers, got the integer 32"),
        ("image_size = [32]", "expected an array of 2 integers, got 1"),
        ("image_size = [32, 4]", "must be at least 8, got 4"),
        ('width = "05"', 'expected an integer, got the string "05"'),
        ('width = "٣"', 'expected an integer, got the string "٣"'),
        ('width = "3 # 4"', 'expected an integer, got the string "3 # 4"'),
        ("width = 1e300", "expected an integer, got the float 1e+300"),
        ("use = 3", "<duplicate>"),
    ],
)
def test_nothing_is_coerced(line: str, reason: str) -> None:
    (said,) = lines(MINIMAL + line)
    assert reason == "<duplicate>" or said.endswith(f": {reason}")
    assert "twice" in said if reason == "<duplicate>" else said.startswith(f"<text>:8 backbone.{line.split()[0]}: ")


def test_an_item_of_an_array_is_named_by_its_index_and_line() -> None:
    assert lines(MINIMAL + "image_size = [\n  32,\n  3.5,\n]") == [
        "<text>:10 backbone.image_size.1: expected an integer, got the float 3.5"
    ]


def test_an_integer_may_stand_for_a_number_and_becomes_one() -> None:
    spec = resolve(MINIMAL + "[optimizer]\nuse = 'adamw'\nlr = 1\nbetas = [0, 0.5]\n")
    assert spec.values["optimizer"]["lr"] == 1.0
    assert all(isinstance(beta, float) for beta in spec.spec.optimizer.component.betas)


@pytest.mark.parametrize("number", ["nan", "-nan", "inf", "-inf", "1e999"])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    (line,) = lines(MINIMAL + f"[optimizer]\nuse = 'adamw'\nlr = {number}\n")
    assert ": must be a finite number, got " in line


def test_alternatives_of_a_type() -> None:
    def weights(text: str) -> str:
        return MINIMAL + f"[loss]\nuse = 'cross_entropy'\nclass_weights = {text}\n"

    assert resolve(weights("[1, 2.5]")).spec.loss.class_weights == (1.0, 2.5)
    assert resolve(weights('"balanced"')).spec.loss.class_weights == "balanced"
    assert resolve(MINIMAL).spec.loss.class_weights is None
    assert lines(weights("[true]")) == [
        '<text>:10 loss.class_weights: expected an array of numbers or "balanced", got an array'
    ]


def test_an_integer_stays_one_where_the_type_has_both() -> None:
    plugins = toys(acme=plugin(Moved))
    for written, kind in (("3", int), ("3.0", float), ('"all"', str)):
        spec = resolve(MINIMAL + f"[loss]\nuse = 'moved'\nscale = 1.0\nsteps = {written}\n", plugins=plugins).spec
        assert type(spec.loss.steps) is kind


def test_missing_tables_and_keys_say_what_belongs_there() -> None:
    assert lines("seed = 1\n[data]\nuse = 'folder'\n[policy.a]\nmetric = 'f1'\n") == [
        '<text>:1 name: missing key "name" (a string: names the run directory and the bundle)',
        '<text>:1 backbone: missing table [backbone] (write [backbone] with use = "..."; known: patches, tiny)',
        '<text>:2 data.root: missing key "root" (a string: where the pictures are)',
        '<text>:4 policy.a.use: missing "use" (policy can be: hybrid, scrc, threshold)',
    ]
    assert lines("name = 'x'\n[backbone]\nuse = 'tiny'\n") == ["<text>:1 data: missing table [data]"]


def test_tables_and_arrays_are_not_mixed_up() -> None:
    assert lines(MINIMAL.replace("[data]", "[[data]]"))[0] == "<text>:3 data: expected a table, got an array"
    assert lines(MINIMAL + "[augment]\nuse = 'flip'") == ["<text>:8 augment: expected an array of tables, got a table"]
    assert lines(MINIMAL + "[policy]\nuse = 'threshold'") == [
        '<text>:9 policy.use: expected a table, got the string "threshold"'
    ]
    assert lines(MINIMAL + "[loss]\nuse = true") == ["<text>:9 loss.use: expected the name of a loss, got true"]


def test_a_table_without_use_is_the_default_component() -> None:
    spec = resolve(MINIMAL + "[optimizer]\nlr = 0.5\n[head]\ndropout = 0.25\n")
    assert (spec.values["optimizer"]["use"], spec.spec.optimizer.component.lr) == ("adamw", 0.5)
    assert (spec.values["head"], str(spec.origin("head.use"))) == ({"use": "linear", "dropout": 0.25}, "default")


def test_nested_components_and_sections_are_filled_with_defaults() -> None:
    spec = resolve(MINIMAL + "[policy.s]\nuse = 'scrc'\n[policy.s.calibrator.limits]\nlow = 0.5\n")
    assert spec.spec.policy["s"].calibrator.limits.low == 0.5
    assert spec.values["policy"]["s"]["calibrator"] == {"use": "temperature", "limits": {"low": 0.5, "high": 10.0}}
    assert spec.counts()["calibrator"] == 1


def test_a_components_own_validators_report_like_the_rest() -> None:
    plugins = toys(acme=plugin(StrictHead))

    def said(options: str) -> str:
        (line,) = lines(MINIMAL + f"[head]\nuse = 'strict'\n{options}\n", plugins=plugins)
        return line

    assert said("layers = 3").startswith("<text>:10 head.layers: 'layers' must be in [1, 2] (got 3)")
    assert said("hidden = 3") == "<text>:10 head.hidden: hidden must be even"
    assert said("boom = true") == "<text>:8 head: StrictHead cannot be made: KeyError: inside"
    limits = "[policy.s]\nuse = 'scrc'\ncalibrator = { use = 'temperature', limits = { low = 5.0, high = 2.0 } }"
    assert lines(MINIMAL + limits) == ["<text>:10 policy.s.calibrator.limits.low: low must be below high"]


def test_a_plugin_whose_option_collides_with_a_section_is_named() -> None:
    (line,) = lines(MINIMAL.replace('"folder"', '"colliding"'), plugins=toys(acme=plugin(Colliding)))
    assert line.startswith(
        "<text>:4 data.use: dataset colliding: its option workers collides with [data]'s own (the plugin must rename it"
    )


def test_a_field_that_toml_cannot_fill_is_the_plugins_problem() -> None:
    (line,) = lines(MINIMAL + "[head]\nuse = 'untyped'", plugins=toys(acme=plugin(Untyped)))
    assert "head untyped cannot be used: Untyped.callback: the type Path is none that TOML can fill" in line


def test_ambiguous_names_want_the_plugin() -> None:
    plugins = toys(acme=plugin(OtherFocal))
    assert lines(MINIMAL + "[loss]\nuse = 'focal'", plugins=plugins) == [
        '<text>:9 loss.use: loss "focal" is ambiguous (write "acme/focal" or "toys/focal")'
    ] or lines(MINIMAL + "[loss]\nuse = 'focal'", plugins=plugins) == [
        '<text>:9 loss.use: loss "focal" is ambiguous (write "toys/focal" or "acme/focal")'
    ]
    assert isinstance(resolve(MINIMAL + "[loss]\nuse = 'toys/focal'", plugins=plugins).spec.loss, Focal)
    assert resolve(MINIMAL + "[loss]\nuse = 'acme/focal'", plugins=plugins).values["loss"]["use"] == "acme/focal"


def test_a_renamed_option_is_taken_with_a_warning_and_both_names_are_refused() -> None:
    resolved = resolve(MINIMAL + "[loss]\nuse = 'focal'\nfocus = 3.0\n")
    assert resolved.spec.loss.gamma == 3.0
    assert [str(warning) for warning in resolved.warnings] == [
        '<text>:10 loss.focus: is deprecated: it is now called "gamma"'
    ]
    assert str(resolved.origin("loss.gamma")) == "<text>:10"
    assert lines(MINIMAL + "[loss]\nuse = 'focal'\nfocus = 3.0\ngamma = 3.0\n") == [
        '<text>:10 loss.focus: is the old name of "gamma", which is given as well (keep "gamma")'
    ]


def test_a_default_that_no_plugin_supplies_says_that_it_is_one() -> None:
    plugins = Plugins.of({"toys": plugin(*(cls for cls in TOYS if cls.__name__ != "NoTta"))})
    assert lines(MINIMAL, plugins=plugins) == [
        '<text>:1 tta.use: unknown tta "none" (no plugin supplies any tta; is one installed?; this is a default)'
    ]


def test_values_are_json_and_hold_every_key() -> None:
    values = resolve(MINIMAL).values
    assert json.loads(json.dumps(values)) == values
    assert set(values) == {field.name for field in Spec.__attrs_attrs__}  # type: ignore[attr-defined]
    assert values["adapt"] is None


def test_every_leaf_and_table_has_an_origin() -> None:
    text = MINIMAL + "[policy.'a.b']\nuse = 'scrc'\n[[augment]]\nuse = 'flip'\n[[augment]]\nuse = 'flip'\n"
    for resolved in (resolve(MINIMAL), resolve(text)):
        for path, _ in walk(resolved.values):
            for size in range(1, len(path) + 1):
                assert resolved.origin(format_key(path[:size])).source in ("<text>", "default")


def test_plugins_may_refuse_a_spec_that_checked() -> None:
    seen: list[Spec] = []

    @hookimpl
    def refuse(spec: Spec) -> list[Problem]:
        seen.append(spec)
        return [Problem("too slow", key="train.epochs"), Problem("odd", key="loss", origin=Origin("elsewhere", 3))]

    plugins = toys(acme=plugin(roadwork_spec_resolved=refuse))
    assert lines(MINIMAL + "[train]\nepochs = 999\n", plugins=plugins) == [
        "<text>:9 train.epochs: too slow",
        "elsewhere:3 loss: odd",
    ]
    assert len(seen) == 1
    lines(MINIMAL + "[train]\nepochs = 0\n", plugins=plugins)
    assert len(seen) == 1


def test_a_plugin_that_fails_while_it_looks_is_one_line() -> None:
    @hookimpl
    def fail(spec: Spec) -> list[Problem]:
        raise RuntimeError("no network")

    with pytest.raises(RoadworkError, match=r"the plugin acme failed in roadwork_spec_resolved.*no network"):
        resolve(MINIMAL, plugins=toys(acme=plugin(roadwork_spec_resolved=fail)))

    @hookimpl
    def mumble(spec: Spec) -> list[str]:
        return ["no"]

    assert lines(MINIMAL, plugins=toys(acme=plugin(roadwork_spec_resolved=mumble))) == [
        "a plugin's roadwork_spec_resolved answers 'no', which is no Problem"
    ]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ('"1."', ""),
        ('".5"', ""),
        ('"nan"', ""),
        ('"0.5"', " (write 0.5 without quotes)"),
        ('"2"', " (write 2 without quotes)"),
    ],
)
def test_what_a_hint_tells_to_write_would_be_taken(value: str, hint: str) -> None:
    (said,) = lines(f"{MINIMAL}[train]\nclip_norm = {value}\n")
    assert said == f"<text>:9 train.clip_norm: expected a number, got the string {value}{hint}"
    if hint:
        resolve(f"{MINIMAL}[train]\nclip_norm = {value.strip(chr(34))}\n")


@pytest.mark.parametrize(("value", "got"), [("[1]", "an array"), ("{a = 1}", "a table")])
def test_an_array_or_table_in_place_of_a_string_is_not_told_to_take_quotes(value: str, got: str) -> None:
    assert lines(f"description = {value}\n{MINIMAL}") == [f"<text>:1 description: expected a string, got {got}"]


def test_bytes_that_no_file_could_carry_are_refused_before_one_is_written() -> None:
    said = "holds bytes that are no UTF-8, which no file of ours could carry"
    given = "\udcff"
    (line,) = lines(MINIMAL, overrides=[f'description="{given}"'])
    assert line.endswith(f" description: {said}")
    assert lines(f'description = "${{env:X}}"\n{MINIMAL}', env={"X": given}) == [f"<text>:1 description: {said}"]


@section
class Number:
    """One way."""

    value: int = option(help="a number")


@section
class Lossy:
    """Another, with a component."""

    loss: Any = slot("loss", help="a loss")


@component("head", "either")
class EitherHead:
    """Takes one of two tables."""

    part: Number | Lossy = option(help="one of both")

    def build(self, ctx: Any) -> Any:
        return self


def test_a_component_in_one_of_two_tables_counts_and_warns_like_any_other() -> None:
    text = f'{MINIMAL}[head]\nuse = "either"\npart = {{ loss = {{ use = "focal", focus = 1.0 }} }}\n'
    resolved = resolve(text, plugins=toys(acme=plugin(EitherHead)))
    assert resolved.counts()["loss"] == 2
    assert [str(warning) for warning in resolved.warnings] == [
        '<text>:10 head.part.loss.focus: is deprecated: it is now called "gamma"'
    ]


def test_problems_hold_data() -> None:
    (problem,) = problems(MINIMAL + "wdth = 1")
    assert problem.to_json() == {
        "message": 'unknown key "wdth" of backbone tiny',
        "key": "backbone.wdth",
        "file": "<text>",
        "line": 8,
        "hint": 'did you mean "width"?',
    }


def test_origin_of_a_key_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        resolve(MINIMAL).origin("nothing.here")


def test_load_spec_raises_what_the_command_line_renders(plugins: Plugins) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec("name = 1\n", plugins)
    assert caught.value.exit_code == 2
