"""A stage's manifest that somebody damaged is none: the stage runs again, and nothing else falls over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roadwork_core.cli import main
from roadwork_core.runs.manifest import StageManifest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "r"
    (folder / "prepare").mkdir(parents=True)
    (folder / "run.json").write_text('{"result": null}')
    StageManifest(
        stage="prepare",
        fingerprint="0" * 64,
        inputs={},
        outputs={"report.json": {"sha256": "0" * 64, "size": 1}},
        metrics={},
        started="2025-01-01T00:00:00+00:00",
        seconds=1.0,
        versions={},
    ).write(folder / "prepare")
    return folder


@pytest.mark.parametrize(
    "key", ["stage", "fingerprint", "started", "seconds", "inputs", "outputs", "metrics", "versions"]
)
@pytest.mark.parametrize("value", [None, [1], {"a": 1}, "x", 3])
def test_a_value_of_another_type_is_no_manifest(
    run: Path, key: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "prepare" / "manifest.json"
    document = json.loads(path.read_text())
    same = type(document[key]) is type(value) and key != "outputs"
    path.write_text(json.dumps({**document, key: value}))
    number = key == "seconds" and value == 3
    assert (StageManifest.read(run / "prepare") is not None) == (same or number)
    for arguments in (["list"], ["show", "r"]):
        assert main(["runs", *arguments, "--runs-dir", str(run.parent)]) == 0
    assert "Error" not in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"])
def test_a_file_that_is_no_manifest_is_none(run: Path, content: bytes) -> None:
    (run / "prepare" / "manifest.json").write_bytes(content)
    assert StageManifest.read(run / "prepare") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_a_run_that_cannot_be_read_is_one_line(run: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "run.json").write_bytes(content)
    assert main(["runs", "list", "--runs-dir", str(run.parent)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {run}/run.json: cannot read this run: ")
