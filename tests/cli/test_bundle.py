"""`roadwork bundle verify | show | diff` on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from roadwork_core.cli import main
from roadwork_core.plugins import Plugins
from tests.bundle import toy


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.make(tmp_path_factory.mktemp("toy"))


@pytest.fixture(autouse=True)
def _toy_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, only=None: toy.plugins()))


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    return toy.copy(pristine, tmp_path / "bundle")


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def test_a_sound_bundle_is_verified_at_replay_by_default(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "bundle", "verify", bundle)
    assert code == 0
    assert out == f"{bundle}: verified at replay\n"
    assert [line.split() for line in err.splitlines()] == [
        [level, "ok"] for level in ("files", "schema", "plugins", "load", "replay")
    ]


def test_every_failure_is_a_line_and_the_code_is_4(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "README.md").unlink()
    (bundle / "extra").write_text("x")
    code, out, err = run(capsys, "bundle", "verify", bundle)
    assert code == 4
    assert out == ""
    assert sorted(err.splitlines()) == [
        f"error: {bundle}/README.md: is missing",
        f"error: {bundle}/extra: is not listed in bundle.json",
    ]


def test_verify_as_json(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "bundle", "verify", bundle, "--level", "schema", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["ok"] is True
    assert document["levels"] == {"files": "ok", "schema": "ok"}
    (bundle / "spec.toml").write_text("changed = 1")
    code, out, err = run(capsys, "bundle", "verify", bundle, "--json")
    document = json.loads(out)
    assert code == 4
    assert err == ""
    assert document["ok"] is False
    assert [failure["file"] for failure in document["failures"]] == ["spec.toml"]
    assert document["levels"]["replay"] == "skipped"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"NaN", b'{"a":1,"a":2}', b"[]", b'{"x": 1e999}']
)
def test_a_manifest_that_cannot_be_read_is_4_and_one_line(
    bundle: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "bundle.json").write_bytes(content)
    for command in (("bundle", "verify"), ("bundle", "show")):
        code, _, err = run(capsys, *command, bundle)
        assert code == 4
        assert len(err.splitlines()) == 1
        assert str(bundle / "bundle.json") in err
    code, _, err = run(capsys, "predict", bundle, bundle / "x.png")
    assert code == 4
    assert len(err.splitlines()) == 1


def test_no_bundle_at_all_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "bundle", "verify", tmp_path / "gone")
    assert code == 2
    assert err == f"error: {tmp_path}/gone: there is no such bundle\n"


def test_an_unknown_level_is_a_usage_error(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "bundle", "verify", bundle, "--level", "deep")[0] == 2


def test_show_says_what_is_in_it(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "bundle", "show", bundle)
    assert code == 0
    for text in ("no_roadwork, roadwork*", "policy careful (band, active)", "policy threshold (cut, fallback)"):
        assert text in out
    assert "test mcc                0.9000  [0.8000, 0.9500]" in out
    code, out, _ = run(capsys, "bundle", "show", bundle, "--json")
    document = json.loads(out)
    assert document["active"] == "careful"
    assert document["guarantees"] == {"careful": None, "threshold": None}


def test_diff_of_the_same_and_of_another(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = tmp_path / "same"
    shutil.copytree(bundle, same)
    assert run(capsys, "bundle", "diff", bundle, same)[:2] == (0, "the bundles are the same\n")
    policies = {"threshold": toy.policy_document("threshold", "cut", cut=0.25)}
    other = toy.make(tmp_path / "other", policies=policies, active="threshold", fallback=None)
    code, out, _ = run(capsys, "bundle", "diff", bundle, other)
    assert code == 0
    assert "~ bundle.json  active: careful -> threshold" in out
    assert "~ policies/threshold.json  state.cut: 0.0 -> 0.25" in out
    document = json.loads(run(capsys, "bundle", "diff", bundle, other, "--json")[1])
    assert document["identical"] is False
    assert {"document": "bundle.json", "key": "active", "before": "careful", "after": "threshold"} in document[
        "differences"
    ]
