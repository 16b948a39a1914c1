"""`roadwork runs`: trials, pruned ones and challengers are told from one another, in the order of their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roadwork_core.cli import main
from roadwork_core.runs import Run
from roadwork_core.runs.engine import mark_pruned


def make(runs: Path, name: str, status: str, **result: Any) -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    document = {"name": name, "result": {"status": status, **result}}
    (folder / "run.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    figure = {"test": {"mcc": {"value": 0.5, "low": 0.4, "high": 0.6}}}
    specs = tmp_path / "tuned-sweep" / "specs"
    specs.mkdir(parents=True)
    for number in (0, 9, 10):
        make(tmp_path, f"tuned-{number}", "ok", metrics=figure)
        (specs / f"tuned-{number}.toml").touch()
    mark_pruned(Run(name="tuned-10", path=tmp_path / "tuned-10"), epoch=2, metric="mcc", value=0.125)
    for name, promoted in (("street-aa", True), ("street-bb", False)):
        folder = make(tmp_path, name, "ok", metrics=figure)
        verdict = {"promoted": promoted, "reason": "the interval of the difference holds 0"}
        (folder / "challenge.json").write_text(json.dumps(verdict))
    make(tmp_path, "odd-1", "failed")
    return tmp_path


def test_each_run_says_what_it_was_made_for(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", "--runs-dir", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["odd-1", "failed"],
        ["street-aa", "ok"],
        ["street-bb", "ok"],
        ["tuned-0", "ok"],
        ["tuned-9", "ok"],
        ["tuned-10", "pruned"],
    ]
    assert lines[0].rstrip().endswith("-")
    assert lines[1].endswith("test mcc 0.500  [0.400, 0.600]  challenger, promoted")
    assert lines[2].endswith("challenger, not promoted")
    assert lines[4].endswith("trial of tuned-sweep")
    assert lines[5].endswith("trial of tuned-sweep, pruned after epoch 2 at mcc 0.125")


def test_json_has_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "tuned-10", "--runs-dir", str(runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "pruned"
    assert found["sweep"] == "tuned-sweep"
    assert found["pruned"] == {"epoch": 2, "metric": "mcc", "value": 0.125}
    assert found["challenge"] is None


def test_show_gives_the_reason_of_a_verdict(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "street-bb", "--runs-dir", str(runs)]) == 0
    assert "holds 0" in capsys.readouterr().out


def test_a_pruned_run_is_not_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", "tuned-0", "tuned-10", "--runs-dir", str(runs)]) == 2
    assert "no finished evaluation" in capsys.readouterr().err
