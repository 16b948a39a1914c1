"""`roadwork runs compare`: two runs on disk, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from roadwork_core.cli import main
from roadwork_core.data.sample import Row
from roadwork_core.data.table import write_rows
from roadwork_core.plugins import Plugins
from roadwork_core.policies import scores_csv
from tests.bundle import toy

TRUTH = np.arange(80) % 2


@pytest.fixture(autouse=True)
def _toy_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, only=None: toy.plugins()))


def margins(quality: float) -> np.ndarray[Any, Any]:
    return quality * (2 * TRUTH - 1) + np.random.default_rng(1).normal(size=80)


def make_run(folder: Path, values: np.ndarray[Any, Any], *, finished: bool = True, band: float = 0.0) -> Path:
    """A run directory as far as a comparison reads it."""
    rows = [
        Row(
            index=index,
            path=f"{index}.png",
            label=toy.LABELS[target],
            target=int(target),
            split="test",
            group=f"g{index // 2}",
            sha256=f"{index:064x}",
            phash="0" * 16,
            width=8,
            height=8,
        )
        for index, target in enumerate(TRUTH)
    ]
    write = {
        "run.json": {"result": None},
        "prepare/classes.json": {"classes": toy.LABELS, "positive": 1},
        "fit/policies/threshold.json": toy.policy_document("threshold", "cut"),
        "fit/policies/careful.json": toy.policy_document("careful", "band", band=band, member="threshold"),
        "evaluate/metrics.json": {"active": "careful", "fallback": "threshold"},
    }
    if finished:
        write["evaluate/manifest.json"] = {}
    for name, document in write.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(document))
    (folder / "prepare" / "samples").mkdir()
    write_rows(folder / "prepare" / "samples" / "test.jsonl", rows)
    (folder / "score").mkdir()
    (folder / "score" / "test.csv").write_bytes(scores_csv(rows, np.stack([np.zeros(80), values], axis=1)))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = main(["runs", "compare", *(str(argument) for argument in arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def test_two_runs_by_name_or_by_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "weak", margins(0.3))
    make_run(tmp_path / "strong", margins(1.5), band=0.5)
    code, out, err = run(capsys, "weak", tmp_path / "strong", "--runs-dir", tmp_path, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    mcc = found["metrics"]["mcc"]
    assert mcc["first"] == pytest.approx(matthews_corrcoef(TRUTH, margins(0.3) >= 0))
    assert mcc["second"] == pytest.approx(matthews_corrcoef(TRUTH, margins(1.5) >= 0))
    assert (found["n"], found["groups"]) == (80, 40)
    assert found["metrics"]["coverage"]["first"] == 1.0
    assert found["metrics"]["coverage"]["second"] == pytest.approx((np.abs(margins(1.5)) >= 0.5).mean())
    code, out, _ = run(capsys, "weak", "strong", "--runs-dir", tmp_path)
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("mcc"))
    assert f"{mcc['first']:.3f}" in line
    assert line.endswith("*")


def test_a_run_against_itself_differs_in_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "one", margins(1.0))
    _, out, _ = run(capsys, "one", "one", "--runs-dir", tmp_path, "--json")
    found = json.loads(out)
    for name, line in found["metrics"].items():
        low, value, high = (line["difference"][key] for key in ("low", "value", "high"))
        assert value == 0.0
        # Two that agree here may differ elsewhere, but for answering, where neither can abstain.
        assert low == high == 0.0 if name == "coverage" else low < 0.0 < high
    assert found["mcnemar"] == {"gained": 0, "lost": 0, "p_value": 1.0}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["one", "tow"], 2, "no run 'tow'"),
        (["one", "half"], 2, "this run has no finished evaluation to compare (let the run finish first)"),
        (["one", "one", "--policy", "x"], 2, "this run has no policy 'x' (policies: careful, threshold)"),
        (["one", "one", "--level", "1"], 2, "--level between 0.5 and 1"),
        (["one", "other"], 1, "the runs do not have the same classes"),
        (["one", "torn"], 1, "cannot read this output of the run"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "one", margins(1.0))
    make_run(tmp_path / "half", margins(1.0), finished=False)
    other = make_run(tmp_path / "other", margins(1.0))
    (other / "prepare" / "classes.json").write_text(json.dumps({"classes": ["a", "b"], "positive": 1}))
    torn = make_run(tmp_path / "torn", margins(1.0))
    (torn / "prepare" / "classes.json").write_text("{")
    found, out, err = run(capsys, *arguments, "--runs-dir", tmp_path)
    assert (found, out) == (code, "")
    assert words in err
    assert len(err.splitlines()) == 1
