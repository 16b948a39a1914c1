"""`--set` and `--unset`."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadwork_core.errors import SpecError

from .conftest import lines
from .toys import MINIMAL, resolve


def test_values_are_toml_and_their_origin_is_the_command_line() -> None:
    resolved = resolve(
        MINIMAL + '[[augment]]\nuse = "flip"\n',
        overrides=["train.epochs=3", 'name="other"', "augment.0.p = 0.25", "backbone.image_size=[16, 24]", "seed=1"],
    )
    assert (resolved.spec.train.epochs, resolved.spec.name, resolved.spec.seed) == (3, "other", 1)
    assert resolved.spec.augment[0].component.p == 0.25
    assert resolved.spec.backbone.image_size == (16, 24)
    assert str(resolved.origin("train.epochs")) == "command line (--set train.epochs=3)"
    assert str(resolved.origin("augment.0.p")) == "command line (--set augment.0.p = 0.25)"
    assert str(resolved.origin("augment.0.use")) == "<text>:9"


def test_a_set_table_replaces_the_one_that_was_there() -> None:
    text = MINIMAL + '[loss]\nuse = "focal"\ngamma = 1.0\n'
    assert resolve(text, overrides=['loss={use="cross_entropy"}']).values["loss"]["use"] == "cross_entropy"


def test_later_settings_win_and_unset_goes_first() -> None:
    text = MINIMAL + "[train]\nepochs = 5\n"
    assert resolve(text, overrides=["train.epochs=6", "train.epochs=7"]).spec.train.epochs == 7
    assert resolve(text, unset=["train.epochs"]).spec.train.epochs == 10
    assert resolve(text, unset=["train"], overrides=["train.ema=0.5"]).values["train"]["epochs"] == 10


def test_a_problem_in_a_set_value_names_the_command_line() -> None:
    assert lines(MINIMAL, overrides=["train.epochs=3.9", "train.epoch=1"]) == [
        'command line (--set train.epoch=1) train.epoch: unknown key "epoch" of [train] (did you mean "epochs"?)',
        "command line (--set train.epochs=3.9) train.epochs: expected an integer, got the float 3.9",
    ]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("name=other", "name: 'other' is not a TOML value (a string needs quotes: --set 'name=\"other\"')"),
        ("name=a b", "name: 'a b' is not a TOML value (a string needs quotes: --set 'name=\"a b\"')"),
        ("train.compile=True", "train.compile: 'True' is not a TOML value (write train.compile=true)"),
        ("name=", "name: '' is not a TOML value (write 'name=\"\"' for an empty string, or --unset name)"),
        (
            "name=1\nseed=2",
            "name: '1\\nseed=2' is not a TOML value (a string needs TOML quotes, inside the shell's own)",
        ),
        ("name", "is not KEY=VALUE (for example --set train.epochs=3)"),
        ("=3", "is not KEY=VALUE (for example --set train.epochs=3)"),
        ("a..b=3", "is not KEY=VALUE (for example --set train.epochs=3)"),
        ("name.x=3", "name.x: name is not a table (<text>:2)"),
        ("augment.5.p=1.0", "augment.5.p: augment has 1 item (indices start at 0)"),
        (
            "augment.first.p=1.0",
            'augment.first.p: augment is an array: "first" is no index (write augment.0 for its first item)',
        ),
        ('extends="a.toml"', "extends: extends belongs in a file, not on the command line"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(setting: str, expected: str) -> None:
    escaped = setting.replace("\n", "\\n")
    (line,) = lines(MINIMAL + '[[augment]]\nuse = "flip"\n', overrides=[setting])
    place = f"command line (--set {escaped})"
    assert line.removeprefix(place).removeprefix(" ").removeprefix(": ") == expected


def test_unset_of_nothing_is_refused() -> None:
    assert lines(MINIMAL, unset=["train.epochs"]) == [
        "command line (--unset train.epochs) train.epochs: is not set, so it cannot be unset"
        " (known: spec_version, name, data, backbone)"
    ]


def test_a_quoted_part_of_a_key_may_hold_dots_and_equals() -> None:
    assert lines(MINIMAL, overrides=['policy."a=b".use="threshold"'])[0].endswith(
        'the policy name "a=b" cannot be a file name (it must match [A-Za-z0-9][A-Za-z0-9._-]{0,99})'
    )
    resolved = resolve(MINIMAL, overrides=['policy."a.b".use="threshold"'])
    assert list(resolved.spec.policy) == ["a.b"]
    assert str(resolved.origin('policy."a.b".use')).startswith("command line")


def test_spec_dir_on_the_command_line_is_the_specs_folder(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(MINIMAL)
    assert resolve(spec, overrides=['data.root="${spec_dir}/x"']).spec.data.component.root == str(tmp_path / "x")


def test_one_option_of_a_default_policy_can_be_set_alone() -> None:
    resolved = resolve(MINIMAL, overrides=["policy.threshold.metric = 'f1'"])
    assert resolved.values["policy"] == {"threshold": {"use": "threshold", "metric": "f1", "costs": {}}}


def test_a_policy_of_another_name_needs_its_use() -> None:
    with pytest.raises(SpecError, match=r'policy.other.use: missing "use"'):
        resolve(MINIMAL, overrides=["policy.other.metric = 'f1'"])
