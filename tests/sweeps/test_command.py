"""`roadwork sweep` whole: real trials, one of which cannot work, again, and without doing anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roadwork_core.cli import main
from roadwork_core.files import sha256_file
from tests.e2e.tiny import tiny_spec

SWEEP = """
select_by = "auroc"
[evaluate]
bootstrap = 100
[sweep.parameters]
"optimizer.lr" = { values = [0.003, 1e30] }
"""


def test_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tiny_spec(tmp_path)
    assert main(["sweep", str(spec)]) == 2
    assert "has no [sweep]" in capsys.readouterr().err
    assert main(["sweep", str(tiny_spec(tmp_path, extra=SWEEP)), "--jobs", "0"]) == 2


@pytest.mark.slow
def test_a_sweep_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, runs = tiny_spec(tmp_path, n=160, epochs=1, extra=SWEEP), tmp_path / "runs"
    command = ["sweep", str(spec), "--runs-dir", str(runs), "--json"]
    assert main([*command, "--dry-run"]) == 0
    assert [trial["status"] for trial in json.loads(capsys.readouterr().out)["trials"]] == ["pending", "pending"]

    assert main(command) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    good, bad = found["trials"]
    assert (good["status"], bad["status"], bad["exit_code"]) == ("finished", "failed", 3)
    assert "warning: tiny-1 failed with exit code 3: the loss is nan" in said.err
    assert found["best"]["name"] == "tiny-0"
    assert found["best"]["test"]["mcc"] is not None
    assert Path(found["report"]).is_file()
    # An ordinary run, chosen by what its own training measured on val_select.
    manifest = json.loads((runs / "tiny-0" / "train" / "manifest.json").read_bytes())
    assert good["val_select"]["value"] == pytest.approx(manifest["metrics"]["val_select"]["auroc"], abs=0.03)
    assert main(["bundle", "verify", str(runs / "tiny-0" / "bundle" / "tiny-0"), "--level", "schema"]) == 0
    capsys.readouterr()

    before = {path: sha256_file(path) for path in (runs / "tiny-0").rglob("*") if path.is_file()}
    assert main([*command, "--set", "sweep.parameters.'optimizer.lr'.values=[0.003]"]) == 0
    said = capsys.readouterr()
    assert "1 trials, 1 finished before" in said.err
    assert {path: sha256_file(path) for path in (runs / "tiny-0").rglob("*") if path.is_file()} == before
