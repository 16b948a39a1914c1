"""Pictures to adapt to without labels: nothing held out is among them, nothing is lost, and the report says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from roadwork_core.data.sample import Row
from roadwork_core.data.table import read_rows
from roadwork_core.errors import DataError, SpecError
from roadwork_core.stages import prepare

from .staged import Prepared, context
from .test_prepare import folder_of, picture

HELD_OUT = ("val_select", "val_calib", "test")


class Adapting(Prepared):
    """`prepare` with [adapt.data] beside its labelled pictures."""

    def __init__(self, folder: Path, table: str, *, attempt: str = "prepare") -> None:
        super().__init__(context(folder, table, attempt=attempt))
        self.unlabelled: list[Row] = read_rows(self.folder / "samples" / "unlabelled.jsonl")
        self.left_out: list[dict[str, Any]] = [
            json.loads(line) for line in (self.folder / "left_out.jsonl").read_text().splitlines()
        ]

    def reasons(self) -> dict[str, str]:
        return {Path(entry["path"]).name: entry["reason"] for entry in self.left_out}


def table_of(data: str, root: Path, *, more: str = "", adapt: str = "") -> str:
    return (
        f'{data}\n[adapt]\nobjective = {{ use = "vicreg" }}\nadapter = {{ use = "full" }}\nepochs = 1\n{adapt}\n'
        f'[adapt.data]\nuse = "unlabelled_folder"\nroot = "{root}"\n{more}'
    )


@pytest.fixture
def data(tmp_path: Path) -> str:
    return folder_of(tmp_path / "data", {"clear": 30, "roadwork": 30})


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Six pictures that are nowhere else, at two depths."""
    root = tmp_path / "street"
    for number in range(6):
        path = root / ("drive" if number % 2 else "") / f"new{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(500 + number).save(path)
    return root


def first_of(prepared: Prepared, split: str) -> Path:
    return Path(prepared.rows[split][0].path)


def like(path: Path, target: Path) -> None:
    """The same view a little brighter, recompressed and smaller: other bytes."""
    found = ImageEnhance.Brightness(Image.open(path).convert("RGB")).enhance(1.05)
    found.resize((60, 45)).save(target, quality=90)


def test_they_go_into_a_table_of_their_own_without_label_or_class(tmp_path: Path, data: str, street: Path) -> None:
    plain = Prepared(context(tmp_path, data, attempt="plain"))
    prepared = Adapting(tmp_path, table_of(data, street))
    assert sorted(Path(row.path).name for row in prepared.unlabelled) == [f"new{number}.png" for number in range(6)]
    assert {(row.label, row.target, row.split) for row in prepared.unlabelled} == {("unlabelled", -1, "unlabelled")}
    assert not prepared.left_out
    # Views are drawn by the index of the row: none is shared with a labelled one.
    assert not {row.index for row in prepared.unlabelled} & {row.index for row in prepared.all_rows}
    assert prepared.all_rows == plain.all_rows
    assert prepared.report["digest"] == plain.report["digest"]
    assert prepared.report["unlabelled"]["samples"] == prepared.metrics["unlabelled"]["listed"] == 6


@pytest.mark.parametrize("split", HELD_OUT)
def test_a_held_out_picture_and_one_near_to_it_are_left_out(
    tmp_path: Path, data: str, street: Path, split: str
) -> None:
    before = Prepared(context(tmp_path, data, attempt="before"))
    held, trained = first_of(before, split), first_of(before, "train")
    shutil.copy(held, street / "same.png")
    like(held, street / "near.jpg")
    like(trained, street / "near_train.jpg")
    prepared = Adapting(tmp_path, table_of(data, street))
    assert prepared.reasons() == {"same.png": "held out", "near.jpg": "near to a held-out picture"}
    for entry in prepared.left_out:
        assert (entry["near"], entry["detail"]) == (str(held), split)
    assert "near_train.jpg" in {Path(row.path).name for row in prepared.unlabelled}
    digests = {row.sha256 for name in HELD_OUT for row in prepared.rows[name]}
    assert not digests & {row.sha256 for row in prepared.unlabelled}
    assert prepared.report["unlabelled"]["left_out"] == {"held out": 1, "near to a held-out picture": 1}
    assert "6 pictures without labels" not in prepared.messages
    assert "2 left out (1 held out, 1 near to a held-out picture; left_out.jsonl names them)" in prepared.messages


def test_what_goes_with_it_is_left_out_too(tmp_path: Path, data: str, street: Path) -> None:
    """The other frames of a drive, and a picture that is near to a near one."""
    held = first_of(Prepared(context(tmp_path, data, attempt="before")), "test")
    like(held, street / "drive" / "near.jpg")
    assert Adapting(tmp_path, table_of(data, street), attempt="alone").reasons() == {
        "near.jpg": "near to a held-out picture"
    }
    prepared = Adapting(tmp_path, table_of(data, street, more="group_folders = true"))
    with_it = "goes with a picture that is near to a held-out one"
    assert prepared.reasons() == {
        "near.jpg": "near to a held-out picture",
        **{f"new{number}.png": with_it for number in (1, 3, 5)},
    }


def test_the_mode_of_near_duplicates_holds_here_as_well(tmp_path: Path, data: str, street: Path) -> None:
    held = first_of(Prepared(context(tmp_path, data, attempt="before")), "val_calib")
    shutil.copy(held, street / "same.png")
    like(held, street / "near.jpg")
    head, _, tail = table_of(data, street).partition("[adapt]")
    ignored = Adapting(tmp_path, f'{head}near_duplicates = "ignore"\n[adapt]{tail}')
    # The very picture is never adapted to; look-alikes are not looked for.
    assert ignored.reasons() == {"same.png": "held out"}
    with pytest.raises(DataError, match=r"adapt.data holds what is held out, or near to it \(2 pictures\)") as raised:
        prepare.run(context(tmp_path, f'{head}near_duplicates = "error"\n[adapt]{tail}', attempt="refused"))
    told = [str(problem) for problem in raised.value.problems()]
    assert any("same.png" in line for line in told)
    assert any(str(held) in line and "val_calib" in line for line in told)


def test_of_pictures_with_the_same_bytes_one_stays(tmp_path: Path, data: str, street: Path) -> None:
    trained = first_of(Prepared(context(tmp_path, data, attempt="before")), "train")
    shutil.copy(street / "new0.png", street / "zz.png")
    shutil.copy(trained, street / "trained.png")
    beside = Adapting(tmp_path, table_of(data, street))
    assert beside.reasons() == {"zz.png": "repeated", "trained.png": "in train"}
    alone = Adapting(tmp_path, table_of(data, street, adapt="with_train = false"), attempt="alone")
    assert alone.reasons() == {"zz.png": "repeated"}


def test_a_broken_file_costs_one_line(tmp_path: Path, data: str, street: Path) -> None:
    (street / "broken.png").write_bytes((street / "new0.png").read_bytes()[:200])
    (street / "empty.jpg").write_bytes(b"")
    (street / "notes.txt").write_text("not a picture")
    prepared = Adapting(tmp_path, table_of(data, street))
    assert prepared.reasons() == {"broken.png": "unreadable", "empty.jpg": "unreadable"}
    assert all(entry["detail"] for entry in prepared.left_out)
    assert len(prepared.unlabelled) == 6
    assert "passed over 1 files that are not pictures" in prepared.messages


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path, data: str) -> None:
    before = Prepared(context(tmp_path, data, attempt="before"))
    only = tmp_path / "only"
    only.mkdir()
    shutil.copy(first_of(before, "test"), only / "a.png")
    (only / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"none of the 2 pictures of adapt.data.*1 unreadable, 1 held out"):
        prepare.run(context(tmp_path, table_of(data, only)))


def test_a_folder_that_is_not_there_names_the_line(tmp_path: Path, data: str) -> None:
    with pytest.raises(DataError, match="no such folder") as raised:
        prepare.run(context(tmp_path, table_of(data, tmp_path / "nowhere")))
    assert "adapt.data.root is set at" in str(raised.value.hint)
    assert "spec.toml:" in str(raised.value.hint)


def test_the_fingerprint_follows_the_folder(tmp_path: Path, data: str, street: Path) -> None:
    ctx = context(tmp_path, table_of(data, street))
    before = prepare.fingerprint_inputs(ctx)
    assert prepare.fingerprint_inputs(ctx) == before
    picture(900).save(street / "new0.png")
    changed = prepare.fingerprint_inputs(ctx)
    (street / "new0.png").unlink()
    assert before != changed != prepare.fingerprint_inputs(ctx) != before


def test_labels_of_another_dataset_are_not_read(tmp_path: Path, data: str) -> None:
    """Any dataset will do, and the classes are still those of [data]."""
    other = folder_of(tmp_path / "other", {"fog": 4, "snow": 4})
    for number, path in enumerate(sorted((tmp_path / "other").rglob("*.png"))):
        Image.fromarray(np.random.default_rng(7000 + number).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
    head = table_of(data, tmp_path).partition("[adapt.data]")[0]
    prepared = Adapting(tmp_path, f"{head}[adapt.data]\n{other}")
    assert len(prepared.unlabelled) == 8
    assert {row.label for row in prepared.unlabelled} == {"unlabelled"}
    assert prepared.classes["classes"] == ["clear", "roadwork"]


def test_without_train_there_must_be_others(tmp_path: Path, data: str) -> None:
    head = table_of(data, tmp_path, adapt="with_train = false").partition("[adapt.data]")[0]
    with pytest.raises(SpecError, match="leaves no pictures to adapt to"):
        context(tmp_path, head)
