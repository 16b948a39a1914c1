"""GTSRB as its archives and its Kaggle edition lay it out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from roadwork_datasets import Gtsrb

from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.kinds import DatasetContext

ROI = "Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"


def official(root: Path, signs: tuple[int, ...] = (14, 25), tracks: int = 2, frames: int = 3) -> Path:
    """Final_Training/Images/<class>/<track>_<frame>.ppm, a table with semicolons in each folder."""
    images = root / "Final_Training" / "Images"
    for sign in signs:
        folder = images / f"{sign:05d}"
        folder.mkdir(parents=True)
        lines = [f"Filename;{ROI};ClassId"]
        for track in range(tracks):
            for frame in range(frames):
                name = f"{track:05d}_{frame:05d}.ppm"
                Image.new("RGB", (30, 31), (sign, track, frame)).save(folder / name)
                lines.append(f"{name};30;31;5;5;25;26;{sign}")
        (folder / f"GT-{folder.name}.csv").write_text("\r\n".join(lines) + "\r\n")
    return images


def kaggle(root: Path) -> Path:
    """Train.csv beside Train/<class>/<class>_<track>_<frame>.png, with classes not padded."""
    lines = [f"{ROI},ClassId,Path".replace(";", ",")]
    for sign in (20, 25):
        for track in range(2):
            for frame in range(3):
                path = Path("Train", str(sign), f"{sign:05d}_{track:05d}_{frame:05d}.png")
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (27, 26), (sign, track, frame)).save(root / path)
                lines.append(f"27,26,5,5,22,20,{sign},{path}")
    (root / "Train.csv").write_text("\n".join(lines) + "\n")
    return root


def samples(root: Path, **options: Any) -> list[Sample]:
    return list(Gtsrb(root=str(root), **options).build(DatasetContext(cache_dir=root, seed=0)))


def refused(root: Path, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        samples(root, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("below", [".", "Final_Training", "Final_Training/Images"])
def test_the_official_layout_from_any_of_its_folders(tmp_path: Path, below: str) -> None:
    official(tmp_path)
    if below == "Final_Training":
        (tmp_path / below).rename(tmp_path / "GTSRB")
        (tmp_path / "GTSRB/Images").rename(tmp_path / "GTSRB/Training")
        below = "."
    found = samples(tmp_path / below)
    assert [sample.label for sample in found] == ["no_roadwork"] * 6 + ["roadwork"] * 6
    assert [sample.group for sample in found[5:8]] == ["00014/00001", "00025/00000", "00025/00000"]
    assert found[7].tags == {"class": "00025", "track": "00000", "frame": "00001"}
    assert found[7].path.name == "00000_00001.ppm"


def test_the_kaggle_edition(tmp_path: Path) -> None:
    found = samples(kaggle(tmp_path))
    assert [(sample.label, sample.group) for sample in found[4:8]] == [
        ("no_roadwork", "00020/00001"),
        ("no_roadwork", "00020/00001"),
        ("roadwork", "00025/00000"),
        ("roadwork", "00025/00000"),
    ]
    assert all(sample.path.is_file() for sample in found)


def test_folders_without_tables_are_taken_as_they_are(tmp_path: Path) -> None:
    for table in official(tmp_path).rglob("*.csv"):
        table.unlink()
    (tmp_path / "Final_Training/Images/00014/._00000_00000.ppm").write_bytes(b"x")
    (tmp_path / "Final_Training/Images/Readme.txt").write_text("x")
    assert len(samples(tmp_path)) == 12


def test_which_classes_are_which(tmp_path: Path) -> None:
    official(tmp_path, (13, 14, 18, 25))
    found = samples(tmp_path, positive_classes=(18, 25), negative_classes=(14,))
    assert {(sample.tags["class"], sample.label) for sample in found} == {
        ("00014", "no_roadwork"),
        ("00018", "roadwork"),
        ("00025", "roadwork"),
    }
    with pytest.raises(ValueError, match="class 25 is among both"):
        Gtsrb(root="x", negative_classes=(25,))


@given(frames=st.integers(1, 30), wanted=st.integers(1, 40))
def test_frames_of_a_track_are_spread_evenly_and_end_with_the_last(frames: int, wanted: int) -> None:
    places = Gtsrb(root="x", frames_per_track=wanted)._places(frames)
    assert len(set(places)) == min(frames, wanted)
    assert places[-1] == frames - 1
    assert places[0] >= 0
    gaps = {later - earlier for earlier, later in pairwise(places)}
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_fewer_frames_of_each_track(tmp_path: Path) -> None:
    official(tmp_path)
    found = samples(tmp_path, frames_per_track=2)
    assert [sample.tags["frame"] for sample in found] == ["00001", "00002"] * 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("25\r\n00000_00001", "42\r\n00000_00001", ":2: ClassId is 42 in the folder of class 25"),
        (";25\r\n00000_00001", ";99\r\n00000_00001", ':2: ClassId "99" is not a class of GTSRB'),
        (";25\r\n00000_00001", ";\r\n00000_00001", ':2: "ClassId" is empty'),
        (";25\r\n00000_00001", "\r\n00000_00001", ":2: has 7 fields, the header 8"),
        ("Filename", "File", ':2: has no "Filename"'),
        ("00001_00002.ppm", "00001_00009.ppm", ":7: there is no picture 00001_00009.ppm"),
        ("00001_00002.ppm", "last.ppm", ":7: the name last.ppm tells no track and frame"),
        ("00001_00002.ppm", "../x/00001_00002.ppm", ":7: ../x/00001_00002.ppm leads out of the folder"),
        ("00001_00002.ppm", "00001_00001.ppm", "is frame 1 of track 1 of class 25, and so is"),
    ],
)
def test_a_mistake_in_a_table_has_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    table = official(tmp_path) / "00025/GT-00025.csv"
    text = table.read_bytes().decode()
    assert old in text
    table.write_bytes(text.replace(old, new, 1).encode())
    assert message in refused(tmp_path)


def test_folders_that_are_something_else_are_named(tmp_path: Path) -> None:
    assert "is not in a layout of GTSRB" in refused(tmp_path)
    assert "none: no such folder" in refused(tmp_path / "none")
    official(tmp_path)
    assert "holds no pictures of these classes" in refused(tmp_path, positive_classes=(1,), negative_classes=(2,))
    (tmp_path / "Final_Training/Images/00014/GT-00014.csv").unlink()
    (tmp_path / "Final_Training/Images/00014/sign.png").write_bytes(b"x")
    assert "sign.png: the name sign.png tells no track and frame" in refused(tmp_path)
