"""`roadwork predict`: a line per picture in a stable order, errors among them, exit codes as promised."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from roadwork_core.bundle import Predictor
from roadwork_core.cli import main
from roadwork_core.plugins import Plugins
from tests.bundle import toy


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.make(tmp_path_factory.mktemp("toy"))


@pytest.fixture(autouse=True)
def _toy_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, only=None: toy.plugins()))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, margin in enumerate((-5.0, 0.3, 6.0)):
        Image.fromarray(toy.picture(margin)).save(folder / f"{index}.png")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = main(["predict", *(str(argument) for argument in arguments), "--device", "cpu"])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def test_one_json_object_a_line(bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, bundle, pictures, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [line["path"] for line in lines] == [str(pictures / f"{index}.png") for index in range(3)]
    assert [line["label"] for line in lines] == ["no_roadwork", None, "roadwork"]
    assert all(list(line) == ["path", "label", "abstain", "score", "set", "policy", "reason"] for line in lines)


def test_a_bad_picture_is_a_line_and_the_rest_go_through(
    bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "1.png").write_bytes(b"no picture")
    code, out, err = run(capsys, bundle, pictures, pictures / "gone.png", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert ["error" in line for line in lines] == [False, True, False, True]
    assert err == "warning: 2 of 4 could not be predicted\n"


def test_people_get_aligned_lines(bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "3.png").touch()
    _, out, _ = run(capsys, bundle, pictures)
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["no_roadwork", "abstain", "roadwork", "error"]
    assert len({line.index(str(pictures)) for line in lines}) == 1


def test_csv(bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "3.png").touch()
    _, out, _ = run(capsys, bundle, pictures, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["label"] for row in rows] == ["no_roadwork", "", "roadwork", ""]
    assert [row["set"] for row in rows[:3]] == ["no_roadwork", "no_roadwork|roadwork", "roadwork"]
    assert rows[3]["error"]


def test_mode_policy_and_must_answer(bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for choice in (["--mode", "fast"], ["--policy", "threshold"], ["--must-answer"]):
        code, out, _ = run(capsys, bundle, pictures / "1.png", "--json", *choice)
        line = json.loads(out)
        assert (code, line["label"], line["abstain"], line["policy"]) == (0, "roadwork", False, "threshold")
    assert "must answer" in line["reason"]


def test_a_mode_that_no_policy_serves_is_refused(
    bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, bundle, pictures, "--mode", "hybrid")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "'hybrid'" in err
    code, _, err = run(capsys, bundle, pictures, "--policy", "nope")
    assert code == 2
    assert "careful, threshold" in err


def test_paths_on_standard_input(
    bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{pictures}/2.png\n{pictures}/0.png\n"))
    code, out, _ = run(capsys, bundle, "-", "--json", "--batch-size", "1")
    assert code == 0
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["roadwork", "no_roadwork"]


def test_a_quoted_pattern(bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, bundle, f"{pictures}/[02].png", "--json")
    assert (code, len(out.splitlines())) == (0, 2)


def test_a_damaged_bundle_predicts_nothing(
    bundle: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = toy.copy(bundle, tmp_path / "damaged")
    content = bytearray((damaged / "model/weights.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "model/weights.safetensors").write_bytes(content)
    code, out, err = run(capsys, damaged, pictures)
    assert (code, out) == (4, "")
    assert "model/weights.safetensors: has changed" in err


@pytest.mark.parametrize("wrong", [["--batch-size", "0"], ["--mode", "slow"], ["--mode", "fast", "--policy", "x"]])
def test_wrong_arguments(bundle: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, bundle, "x.png", *wrong)[0] == 2


@pytest.mark.parametrize("device", ["quantum", "meta"])
def test_a_device_that_cannot_compute(bundle: Path, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["predict", str(bundle), "x.png", "--device", device])
    err = capsys.readouterr().err
    assert code == 2
    assert len(err.splitlines()) == 1
    assert f"the device {device!r}" in err


def test_a_path_is_one_line_whatever_it_holds(bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = (pictures / "0.png").rename(pictures / "new\nline\x1b[2J.png")
    code, out, _ = run(capsys, bundle, odd, pictures / "go\rne.png")
    assert code == 1
    assert len(out.splitlines()) == 2
    assert "new\\nline\\x1b[2J.png" in out.splitlines()[0]
    assert "go\\rne.png" in out.splitlines()[1]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "9" * 5000])
def test_a_wrong_batch_size_says_what_is_right(bundle: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, bundle, "x.png", "--batch-size", text)
    assert code == 2
    assert "--batch-size: must be a whole number of at least 1" in err


def test_a_folder_that_cannot_be_listed_is_a_line(
    bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "closed").mkdir()
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    code, out, _ = run(capsys, bundle, pictures, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert len(lines) == 4
    assert lines[3] == {"path": str(pictures / "closed"), "error": "cannot be listed: Permission denied"}


def test_a_folder_stands_for_every_format_that_is_decoded() -> None:
    from roadwork_core.bundle.images import SUFFIXES
    from roadwork_core.data import decode

    Image.init()
    read = {suffix for suffix, name in Image.registered_extensions().items() if name in decode.FORMATS}
    missing = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".ppm"} & read - SUFFIXES
    assert not missing


# --- into a file ---


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return [{k: v for k, v in row.items() if k != "error"} for row in pq.read_table(path).to_pylist()]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [
                {
                    **{name: row[name] for name in ("path", "policy", "reason")},
                    "label": row["label"] or None,
                    "abstain": row["abstain"] == "True",
                    "score": float(row["score"]),
                    "set": row["set"].split("|"),
                }
                for row in csv.DictReader(file)
            ]
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_file_of_each_form_holds_what_is_printed(
    bundle: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    _, printed, _ = run(capsys, bundle, pictures, "--json")
    out = tmp_path / f"answers{suffix}"
    code, said, _ = run(capsys, bundle, pictures, "--out", out, "--json")
    assert (code, json.loads(said)) == (
        0,
        {"schema": "roadwork.predict/1", "out": str(out), "answered": 3, "failed": 0},
    )
    assert rows_of(out) == [json.loads(line) for line in printed.splitlines()]
    assert [path.name for path in tmp_path.iterdir() if path.name != "pictures"] == [out.name]
    code, _, err = run(capsys, bundle, pictures, "--out", out)
    assert code == 2
    assert "is there already" in err


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_what_a_killed_run_answered_is_not_asked_again(
    bundle: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    cut: int,
) -> None:
    from roadwork_core.bundle.journal import Journal

    whole, out = tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    (pictures / "1.png").write_bytes(b"no picture")
    assert run(capsys, bundle, pictures, "--out", whole)[0] == 1
    write, written = Journal.write, 0

    def killed(self: Journal, row: Any) -> None:
        nonlocal written
        if written == 2:
            raise KeyboardInterrupt
        written += 1
        write(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", killed)
        assert main(["predict", str(bundle), str(pictures), "--device", "cpu", "--out", str(out)]) != 0
    part = tmp_path / "answers.jsonl.part"
    assert not out.exists()
    # A kill may leave a part of the last line.
    part.write_bytes(part.read_bytes()[: -cut or None])
    asked: list[str] = []
    decode = Predictor._decode_source

    def watched(self: Predictor, source: Any) -> Any:
        asked.append(source.path)
        return decode(self, source)

    monkeypatch.setattr(Predictor, "_decode_source", watched)
    capsys.readouterr()
    code, _, err = run(capsys, bundle, pictures, "--out", out)
    assert (code, out.read_bytes()) == (1, whole.read_bytes())
    assert [Path(path).name for path in asked] == (["2.png"] if cut == 0 else ["1.png", "2.png"])
    assert "1 of 3 could not be predicted" in err
    assert not part.exists()


def test_answers_to_something_else_are_not_gone_on_with(
    bundle: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from roadwork_core.bundle.journal import Journal

    out = tmp_path / "answers.csv"
    asked = {"must_answer": False, "device": "cpu", "batch_size": None, "threads": 1}
    bundle_id = json.loads((bundle / "bundle.json").read_bytes())["bundle_id"]
    journal = Journal(out, {"bundle_id": bundle_id, "policy": "careful", **asked})
    journal.write({"path": str(pictures / "1.png"), "error": "x"})
    journal.close()
    before = journal.part.read_bytes()
    for words, told in ((["--must-answer"], "to other options"), ([], "its answer 1 is to another picture")):
        code, _, err = run(capsys, bundle, pictures, "--out", out, *words)
        assert code == 2
        assert told in err
        assert journal.part.read_bytes() == before
    assert run(capsys, bundle, pictures, "--out", tmp_path / "answers.xls")[0] == 2
