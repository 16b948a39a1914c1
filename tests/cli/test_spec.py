"""`roadwork spec` on the command line, with what is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import tomli

from roadwork_core.cli import main

SPEC = """\
spec_version = 1
name = "small"

[data]
use = "image_folder"
root = "${spec_dir}/images"

[backbone]
use = "small_cnn"
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["spec", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_check_says_ok_and_counts_components(run: Run) -> None:
    code, out, err = run("check", "spec.toml")
    assert (code, err) == (0, "")
    assert out.startswith("ok: spec.toml: small, ")
    assert "1 dataset" in out
    assert "1 policy" in out
    code, out, _ = run("check", "spec.toml", "--json")
    said = json.loads(out)
    assert (said["ok"], said["name"], said["components"]["backbone"], said["warnings"]) == (True, "small", 1, [])


def test_check_says_every_problem_on_its_own_line_and_exits_2(run: Run) -> None:
    Path("bad.toml").write_text(SPEC + "widht = 1\n[train]\nepochs = 0.5\n")
    code, out, err = run("check", "bad.toml", "--set", "seed=-1")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        'error: bad.toml:10 backbone.widht: unknown key "widht" of backbone small_cnn (did you mean "width"?)',
        "error: bad.toml:12 train.epochs: expected an integer, got the float 0.5",
        "error: command line (--set seed=-1) seed: must be at least 0, got -1",
    ]
    code, out, err = run("check", "bad.toml", "--json")
    errors = json.loads(out)["errors"]
    assert code == 2
    assert [(error["file"], error["line"], error["key"]) for error in errors] == [
        ("bad.toml", 10, "backbone.widht"),
        ("bad.toml", 12, "train.epochs"),
    ]
    assert set(errors[0]) == {"message", "key", "file", "line", "hint"}


def test_show_prints_toml_that_resolves_to_itself(run: Run) -> None:
    code, out, _ = run("show", "spec.toml", "--set", "train.epochs=3")
    assert code == 0
    Path("again.toml").write_text(out)
    assert run("show", "again.toml")[1] == out
    values = tomli.loads(out)
    assert values["train"]["epochs"] == 3
    assert values["data"]["root"] == str(Path("images").absolute())
    assert json.loads(run("show", "again.toml", "--json")[1])["train"]["epochs"] == 3


def test_show_with_origins_says_where_each_value_was_written(run: Run) -> None:
    Path("child.toml").write_text('extends = ["spec.toml"]\n[train]\nema = 0.5\n')
    _, out, _ = run("show", "child.toml", "--origin", "--set", "seed=7")
    lines = out.splitlines()
    assert "ema = 0.5  # child.toml:3" in lines
    assert 'name = "small"  # spec.toml:2' in lines
    assert "seed = 7  # command line (--set seed=7)" in lines
    assert "epochs = 10  # default" in lines
    assert tomli.loads(out)["seed"] == 7
    rows = json.loads(run("show", "child.toml", "--origin", "--json")[1])
    assert rows["train.ema"] == {"value": 0.5, "file": "child.toml", "line": 3}


def test_schema_accepts_the_spec_and_not_a_wrong_one(run: Run) -> None:
    code, out, _ = run("schema")
    schema = json.loads(out)
    assert code == 0
    assert json.loads(run("schema", "--json")[1]) == schema
    validator = jsonschema.Draft202012Validator(schema)
    document = tomli.loads(SPEC)
    assert validator.is_valid(document)
    document["backbone"]["widht"] = 1
    assert not validator.is_valid(document)


def test_diff_compares_values(run: Run) -> None:
    Path("same.toml").write_text("# another text\n" + SPEC + "[train]\nepochs = 10\n")
    code, out, err = run("diff", "spec.toml", "same.toml")
    assert (code, out) == (0, "")
    assert "resolve to the same spec" in err
    Path("other.toml").write_text(SPEC + '[train]\nepochs = 5\nema = 0.5\n[data.splits]\ngroup_by = "sequence"\n')
    _, out, _ = run("diff", "spec.toml", "other.toml")
    assert out.splitlines() == [
        "~ train.epochs = 10 -> 5",
        '+ data.splits.group_by = "sequence"',
        "+ train.ema = 0.5",
    ]
    said = json.loads(run("diff", "other.toml", "spec.toml", "--json")[1])
    assert {"key": "train.ema", "change": "removed", "before": 0.5, "after": None} in said["differences"]


def test_diff_says_the_problems_of_both(run: Run) -> None:
    Path("a.toml").write_text(SPEC + "a = 1\n")
    Path("b.toml").write_text(SPEC + "b = 1\n")
    code, _, err = run("diff", "a.toml", "b.toml")
    assert code == 2
    assert "a.toml:10 backbone.a" in err
    assert "b.toml:10 backbone.b" in err


def test_new_writes_a_spec_that_checks_and_overwrites_only_when_forced(run: Run) -> None:
    code, out, err = run("new", "mine/first try.toml")
    assert (code, out.strip()) == (0, "mine/first try.toml")
    assert "next: " in err
    assert run("check", "mine/first try.toml")[0] == 0
    Path("mine/first try.toml").write_text("mine")
    code, _, err = run("new", "mine/first try.toml")
    assert code == 2
    assert err == "error: mine/first try.toml: is there already (--force overwrites it, or give another path)\n"
    assert Path("mine/first try.toml").read_text() == "mine"
    assert run("new", "mine/first try.toml", "--force")[0] == 0
    assert run("check", "mine/first try.toml")[0] == 0


def test_new_explains_what_is_commented_out_and_that_checks_too(run: Run) -> None:
    run("new", "spec2.toml")
    text = Path("spec2.toml").read_text()
    for line in ["# on_bad_image", "# group_by", "# lr_scale", "# ema", "# positive"]:
        assert line in text
        text = text.replace(line, line.removeprefix("# "))
    text = text.replace("# [policy.scrc]", "[policy.scrc]").replace('# use = "scrc"', 'use = "scrc"')
    text = text.replace("# alpha", "alpha").replace('use = "small_cnn"', "#")
    for line in ['# use = "torchvision"', '# name = "resnet18"', '# weights = "default"']:
        assert line in text
        text = text.replace(line, line.removeprefix("# "))
    Path("all.toml").write_text(text.replace("# [bundle]", "[bundle]").replace("# active", "active"))
    code, _, err = run("check", "all.toml")
    assert (code, err) == (0, "")


def test_a_missing_file_is_one_line(run: Run) -> None:
    code, _, err = run("check", "absent.toml")
    assert (code, err) == (2, "error: absent.toml: the file does not exist\n")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["spec", "--help"], ["spec", "check", "spec.toml"], ["plugins", "list"], ["spec", "schema"]],
)
def test_nothing_heavy_is_imported_to_look_at_a_spec(arguments: list[str], run: Run) -> None:
    program = (
        "import sys; from roadwork_core.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'torchvision', 'sklearn', 'numpy', 'PIL', 'scipy', 'pyarrow', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
