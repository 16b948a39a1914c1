"""`extends` and `unset`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .conftest import lines
from .toys import MINIMAL, resolve

Write = Callable[[str, str], Path]


def test_tables_merge_and_arrays_replace_and_origins_follow(write: Write) -> None:
    write("base.toml", MINIMAL + 'width = 4\nnorm = "group"\n[[augment]]\nuse = "flip"\n[[augment]]\nuse = "flip"\n')
    own = 'name = "child"\n[backbone]\nwidth = 16\n[[augment]]\nuse = "mixup"\non = "batch"'
    spec = write("spec.toml", f'extends = ["base.toml"]\n{own}')
    resolved = resolve(spec)
    assert (resolved.spec.name, resolved.spec.backbone.width, resolved.spec.backbone.norm) == ("child", 16, "group")
    assert [augment["use"] for augment in resolved.values["augment"]] == ["mixup"]
    assert str(resolved.origin("backbone.width")) == "spec.toml:4"
    assert str(resolved.origin("backbone")) == "spec.toml:3"
    assert str(resolved.origin("backbone.norm")) == "base.toml:9"
    assert str(resolved.origin("augment.0.use")) == "spec.toml:6"
    assert str(resolved.origin("backbone.pretrained")) == "default"


def test_later_bases_win_and_bases_stand_relative_to_the_file_that_names_them(write: Write) -> None:
    write("parts/low.toml", "seed = 1\n[train]\nepochs = 1")
    write("parts/high.toml", 'extends = "../common.toml"\n[train]\nepochs = 2')
    write("common.toml", "seed = 7")
    spec = write("spec.toml", 'extends = ["parts/low.toml", "parts/high.toml"]\n' + MINIMAL)
    resolved = resolve(spec)
    assert (resolved.spec.seed, resolved.spec.train.epochs) == (7, 2)
    assert str(resolved.origin("seed")) == "common.toml:1"
    assert str(resolved.origin("train.epochs")) == "parts/high.toml:3"


def test_one_base_may_be_reached_twice(write: Write) -> None:
    write("root.toml", "seed = 3")
    write("a.toml", 'extends = "root.toml"')
    write("b.toml", 'extends = "root.toml"')
    assert resolve(write("spec.toml", 'extends = ["a.toml", "b.toml"]\n' + MINIMAL)).spec.seed == 3


def test_unset_takes_a_key_of_the_bases_out(write: Write) -> None:
    write(
        "base.toml",
        MINIMAL + '[loss]\nuse = "focal"\ngamma = 5.0\n[[augment]]\nuse = "flip"\n[[augment]]\nuse = "mixup"\n',
    )
    spec = write("spec.toml", 'extends = ["base.toml"]\nunset = ["loss.gamma", "augment.1"]\n[loss]\nalpha = 0.5')
    resolved = resolve(spec)
    assert (resolved.spec.loss.gamma, resolved.spec.loss.alpha) == (2.0, 0.5)
    assert len(resolved.spec.augment) == 1


def test_unset_of_what_is_not_there_is_refused_with_the_nearest_name(write: Write) -> None:
    write("base.toml", MINIMAL + "[train]\nepochs = 3\n")
    spec = write("spec.toml", 'extends = ["base.toml"]\nunset = ["train.epoch", "a b"]')
    assert lines(spec) == [
        'spec.toml:2 train.epoch: unset: is not set, so it cannot be unset (did you mean "train.epochs"?)',
        'spec.toml:2: unset: "a b" is not a key (write a.b, or a.0.b in arrays)',
    ]
    assert lines(MINIMAL.replace("[data]", 'unset = ["seed"]\n[data]')) == [
        "<text>:3 seed: unset: is not set, so it cannot be unset"
        " (unset removes what a base sets; this file extends none)"
    ]


def test_a_circle_prints_its_chain(write: Write) -> None:
    write("a.toml", 'extends = ["sub/b.toml"]')
    write("sub/b.toml", 'seed = 1\nextends = ["../c.toml"]')
    write("c.toml", 'extends = ["a.toml"]')
    spec = write("spec.toml", 'extends = ["a.toml"]\n' + MINIMAL)
    assert lines(spec) == [
        "c.toml:1 extends: files extend each other in a circle: a.toml -> sub/b.toml -> c.toml -> a.toml"
        " (in a base of spec.toml)"
    ]
    assert "spec2.toml -> spec2.toml" in lines(write("spec2.toml", 'extends = "spec2.toml"\n' + MINIMAL))[0]


def test_missing_bases_are_all_reported_with_the_rest_and_absent_keys_are_not(write: Write) -> None:
    spec = write("spec.toml", 'extends = ["no.toml", "nor.toml"]\nname = "x"\n[train]\nepochs = true\n')
    assert lines(spec) == [
        'spec.toml:1 extends: the base "no.toml" does not exist (looked for no.toml)',
        'spec.toml:1 extends: the base "nor.toml" does not exist (looked for nor.toml)',
        "spec.toml:4 train.epochs: expected an integer, got true",
    ]


def test_a_base_of_an_impossible_name_does_not_exist(write: Write) -> None:
    write("loop.toml", "").unlink()
    Path("loop.toml").symlink_to("loop.toml")
    for name in ("a" * 5000, "loop.toml", "a\\u0000b"):
        (line,) = lines(write("spec.toml", f'extends = ["{name}"]\n' + MINIMAL))
        assert line.startswith("spec.toml:1 extends: the base ")
        assert "does not exist" in line


def test_a_problem_in_a_base_says_so(write: Write) -> None:
    write("base.toml", MINIMAL + "width = 0\n")
    assert lines(write("spec.toml", 'extends = ["base.toml"]')) == [
        "base.toml:8 backbone.width: must be at least 1, got 0 (in a base of spec.toml)"
    ]


def test_an_option_left_over_from_another_component_says_where_use_was_changed(write: Write) -> None:
    write("base.toml", MINIMAL + '[loss]\nuse = "focal"\ngamma = 1.0\n')
    spec = write("spec.toml", 'extends = ["base.toml"]\n[loss]\nuse = "cross_entropy"\n')
    assert lines(spec) == [
        'base.toml:10 loss.gamma: unknown key "gamma" of loss cross_entropy (known: class_weights;'
        " use is set at spec.toml:3: unset loss.gamma if it belongs to another; in a base of spec.toml)"
    ]


def test_variables_of_place_and_environment_stand_in_extends(write: Write) -> None:
    write("shared/base.toml", MINIMAL)
    spec = write("spec.toml", 'extends = ["${env:SHARED}/base.toml", "${spec_dir}/shared/base.toml"]')
    assert resolve(spec, env={"SHARED": "shared"}).spec.name == "toy"
    assert lines(spec) == [
        "spec.toml:1 extends: the environment variable SHARED is not set (set SHARED, or give the value here)"
    ]
    wrong = write("wrong.toml", 'extends = ["${a.b}"]\n' + MINIMAL)
    assert lines(wrong) == ["wrong.toml:1 extends: ${a.b} cannot stand here (only ${env:NAME} and ${spec_dir} can)"]


def test_extends_of_a_wrong_type_is_refused() -> None:
    assert (
        lines("extends = [1]\n" + MINIMAL)[0]
        == '<text>:1 extends: must be an array of strings (write extends = ["..."])'
    )


def test_the_text_of_a_broken_base_is_reported_in_its_own_line(write: Write) -> None:
    write("base.toml", "seed = 1\nseed = 2")
    spec = write("spec.toml", 'extends = ["base.toml"]\n' + MINIMAL)
    assert lines(spec) == ['base.toml:2: is not TOML: "seed" is given twice (keep one of them; in a base of spec.toml)']
