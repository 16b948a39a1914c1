"""Parquet of the hub: labels, the natix layout, pictures taken out once, and a line for every mistake."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from roadwork_datasets import HuggingFace

from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError, RoadworkError
from roadwork_core.kinds import DatasetContext

from .natix_files import columns_of, hub_metadata, jpeg, natix, pictures, png, write

said: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    said.clear()


def samples(path: Path, cache: Path | None = None, **options: Any) -> list[Sample]:
    component = HuggingFace(path=str(path), **options)
    where = cache or (path if path.is_dir() else path.parent).parent / "cache"
    return list(component.build(DatasetContext(cache_dir=where, seed=0, report=said.append)))


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        samples(path, **options)
    text = str(error.value)
    assert "\n" not in text
    assert str(path.parent) in text
    return text


def plain(tmp_path: Path, label: Any, **more: Any) -> Path:
    columns = {"image": pictures([jpeg(number) for number in range(len(label))]), "label": label}
    return write(tmp_path / "d" / "train.parquet", {**columns, **more})


# --- labels and columns


def test_a_class_label_is_its_name(tmp_path: Path) -> None:
    path = write(
        tmp_path / "d/train.parquet",
        {"image": pictures([jpeg(0), png(1)]), "label": pa.array([1, 0])},
        hub_metadata(["none", "works"]),
    )
    found = samples(path)
    assert [sample.label for sample in found] == ["works", "none"]
    assert [sample.path.suffix for sample in found] == [".jpg", ".png"]
    assert [sample.path.read_bytes() for sample in found] == [jpeg(0), png(1)]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (pa.array([0, 7, 1], pa.int8()), ["0", "7", "1"]),
        (pa.array([True, False, True]), ["true", "false", "true"]),
        (pa.array(["a", " b ", "a"]), ["a", "b", "a"]),
        (pa.array(["a", "b", "a"], pa.large_string()), ["a", "b", "a"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    ],
    ids=["integer", "bool", "text", "large text", "dictionary"],
)
def test_labels_of_every_type(tmp_path: Path, label: Any, expected: list[str]) -> None:
    assert [sample.label for sample in samples(plain(tmp_path, label))] == expected


def test_labels_can_be_renamed_and_columns_be_tags_and_groups(tmp_path: Path) -> None:
    path = plain(tmp_path, [1, 0], seq=["s1", None], fold=[3, 4], score=[float("nan"), 2.5])
    first, second = samples(
        path, labels={"1": "roadwork"}, group_column="seq", tag_columns=("fold", "score"), source="cam"
    )
    assert (first.label, first.group, first.tags, first.source) == ("roadwork", "s1", {"fold": "3"}, "cam")
    assert (second.label, second.group, second.tags) == ("0", None, {"fold": "4", "score": "2.5"})


@pytest.mark.parametrize("kind", [pa.string(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])])
def test_pictures_may_be_paths_beside_the_file(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "d/img").mkdir(parents=True)
    (tmp_path / "d/img/1.jpg").write_bytes(jpeg(1))
    value: Any = "img/1.jpg" if kind == pa.string() else {"bytes": None, "path": "img/1.jpg"}
    path = write(tmp_path / "d/t.parquet", {"image": pa.array([value], kind), "label": ["a"]})
    assert [sample.path for sample in samples(path)] == [tmp_path / "d/img/1.jpg"]


def test_pictures_may_be_a_column_of_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "d/t.parquet", {"photo": pa.array([jpeg(3)], pa.large_binary()), "label": ["a"]})
    assert samples(path, image_column="photo")[0].path.read_bytes() == jpeg(3)


# --- files and splits


def shards(tmp_path: Path) -> Path:
    for number in range(2):
        name = f"data/train-0000{number}-of-00002-0a1b2c3d.parquet"
        write(tmp_path / "d" / name, {"image": pictures([jpeg(number)]), "label": ["a"]})
    write(tmp_path / "d/data/test-00000-of-00001.parquet", {"image": pictures([jpeg(9)]), "label": ["b"]})
    return tmp_path / "d"


def test_the_names_of_files_tell_the_splits(tmp_path: Path) -> None:
    folder = shards(tmp_path)
    assert [sample.split for sample in samples(folder, own_splits=True)] == ["test", "train", "train"]
    assert [sample.split for sample in samples(folder, only_splits=("train",))] == [None, None]
    assert len(samples(folder, files=("data/test-*.parquet",))) == 1
    write(tmp_path / "e/default/val/0000.parquet", {"image": pictures([jpeg(1)]), "label": ["a"]})
    assert samples(tmp_path / "e", own_splits=True)[0].split == "val"
    assert 'no split "val" (there is test, train)' in refused(folder, only_splits=("val",))


def test_a_series_with_a_gap_is_refused(tmp_path: Path) -> None:
    folder = shards(tmp_path)
    next(folder.glob("data/train-00000*")).unlink()
    assert "data/train-00000-of-00002.parquet missing from a series" in refused(folder)


# --- the natix layout


@pytest.mark.parametrize("flat", [False, True], ids=["nested columns", "columns with dots"])
def test_natix_rows_become_samples(tmp_path: Path, flat: bool) -> None:
    found = samples(write(tmp_path / "d/train.parquet", columns_of(natix(), flat=flat)))
    assert [sample.label for sample in found] == ["no_roadwork", "roadwork"] * 3
    assert [sample.group for sample in found] == [f"indianapolis/{number // 2}/9ed0f7" for number in range(6)]
    assert found[1].gps == (39.7716, -86.18821)
    assert found[1].tags == {
        **{"city": "indianapolis", "seq": "0", "vid": "9ed0f7", "frame": "04051.jpg"},
        **{"daytime": "Light", "scene_environment": "Urban", "weather": "Sunny"},
        "travel_alteration": "Partially Blocked, Lane Shift",
    }


def test_rows_whose_description_contradicts_the_label_can_be_left_out(tmp_path: Path) -> None:
    rows = natix()
    rows[5]["scene_description"] = ""
    path = write(tmp_path / "d/train.parquet", columns_of(rows))
    found = samples(path, drop_inconsistent=True)
    assert [sample.tags["frame"] for sample in found] == ["04050.jpg", "04051.jpg", "04052.jpg", "04053.jpg"]
    assert said == ["huggingface: left out 2 rows whose description contradicts the label"]
    assert not any(jpeg(4) == file.read_bytes() for file in (tmp_path / "cache").rglob("*.jpg"))


def test_rows_of_no_known_drive_have_no_group_and_may_lack_everything(tmp_path: Path) -> None:
    rows = natix(2)
    rows[0] |= {"gps": None, "city_name": None, "video_info": None, "scene_level_tags": None}
    first, second = samples(write(tmp_path / "d/t.parquet", columns_of(rows)))
    assert (first.group, first.gps, first.tags) == (None, None, {})
    assert second.group == "indianapolis/0/9ed0f7"


def test_a_sequence_number_that_became_a_float_is_the_same_sequence(tmp_path: Path) -> None:
    rows = natix(2)
    for row in rows:
        row["video_info"]["seq_id"] = 4.0
    assert samples(write(tmp_path / "d/t.parquet", columns_of(rows)))[0].group == "indianapolis/4/9ed0f7"


# --- each picture once


def test_copies_of_a_picture_count_once_and_disputed_ones_not_at_all(tmp_path: Path) -> None:
    contents = [jpeg(1), jpeg(2), jpeg(1), jpeg(3), jpeg(3), jpeg(4)]
    path = write(tmp_path / "d/t.parquet", {"image": pictures(contents), "label": ["a", "a", "a", "a", "b", "b"]})
    assert [sample.path.read_bytes() for sample in samples(path)] == [jpeg(1), jpeg(2), jpeg(4)]
    assert "left out 1 copies" in said[0]
    assert "left out 1 pictures that have several labels" in said[1]


def test_pictures_are_named_by_what_they_hold(tmp_path: Path) -> None:
    for sample in samples(plain(tmp_path, ["a", "b", "c"])):
        assert sample.path.stem == hashlib.sha256(sample.path.read_bytes()).hexdigest()


def test_pictures_are_taken_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain(tmp_path, ["a", "b", "c", "d"])
    first = samples(path)
    times = {sample.path: sample.path.stat().st_mtime_ns for sample in first}
    monkeypatch.setattr("roadwork_datasets.parquet.ParquetTable.batches", None)
    assert samples(path) == first
    assert {sample.path: sample.path.stat().st_mtime_ns for sample in first} == times


@pytest.mark.parametrize("damage", ["removed", "cut", "note cut"])
def test_what_was_damaged_in_the_cache_is_taken_out_again(tmp_path: Path, damage: str) -> None:
    path = plain(tmp_path, ["a", "b", "c", "d"])
    first = samples(path)
    if damage == "note cut":
        for note in (tmp_path / "cache/rows").rglob("*.json"):
            note.write_bytes(note.read_bytes()[:9])
    elif damage == "cut":
        first[2].path.write_bytes(b"\xff")
    else:
        first[2].path.unlink()
    assert samples(path) == first
    assert [sample.path.read_bytes() for sample in first] == [jpeg(number) for number in range(4)]


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = plain(tmp_path, ["a"])
    samples(path)
    write(path, {"image": pictures([jpeg(8), jpeg(9)]), "label": ["a", "b"]})
    assert [sample.path.read_bytes() for sample in samples(path)] == [jpeg(8), jpeg(9)]


def test_a_process_that_is_killed_leaves_whole_pictures_and_the_next_goes_on(tmp_path: Path) -> None:
    path = write(
        tmp_path / "d/t.parquet", {"image": pictures([jpeg(n) for n in range(9)]), "label": [f"{n}" for n in range(9)]}
    )
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from roadwork_core.kinds import DatasetContext
        from roadwork_datasets import HuggingFace, extraction
        keep, count = extraction._keep, 0
        def killed(content, pictures):
            global count
            count += 1
            if count == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return keep(content, pictures)
        extraction._keep = killed
        HuggingFace(path=sys.argv[1]).build(DatasetContext(cache_dir=Path(sys.argv[2]), seed=0))
        """
    )
    cache = tmp_path / "cache"
    done = subprocess.run([sys.executable, "-c", program, str(path), str(cache)], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    before = {file: file.stat().st_mtime_ns for file in cache.rglob("*.jpg")}
    assert len(before) == 5
    assert len(list(cache.glob("rows/*/*.json"))) == 1
    assert [sample.path.read_bytes() for sample in samples(path)] == [jpeg(number) for number in range(9)]
    assert {file: file.stat().st_mtime_ns for file in before} == before


# --- mistakes


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"picture": pictures([b"x"]), "label": [1]}, {}, 'has no column "image" (it has picture, label)'),
        ({"image": pictures([b"x"]), "y": [1]}, {}, 'has no column "label" (it has image, y)'),
        ({"image": pictures([b"x"]), "label": [0.5]}, {}, 'the column "label" is double, not a label'),
        ({"image": [3], "label": [1]}, {}, 'the column "image" is int64, not pictures'),
        ({"image": pictures([b"x", None]), "label": [1, 2]}, {}, 'row 1: "image" holds no picture'),
        ({"image": pictures([b"x", b""]), "label": [1, 2]}, {}, 'row 1: "image" holds no picture'),
        ({"image": pictures([b"x", b"y"]), "label": pa.array([1, None])}, {}, 'row 1: "label" is empty'),
        ({"image": pictures([b"x", b"y"]), "label": ["a", " "]}, {}, 'row 1: "label" is empty'),
        ({"image": ["a.jpg"], "label": [1]}, {}, 'row 0: "image" has no bytes, and there is no file a.jpg'),
        ({"image": ["../a.jpg"], "label": [1]}, {}, "row 0: '../a.jpg' leads out of the file's folder"),
        ({"image": pictures([b"x"]), "label": [1]}, {"group_column": "seq"}, 'has no column "seq"'),
        ({"image": pictures([b"x"]), "label": [1]}, {"tag_columns": ("t",)}, 'has no column "t"'),
        ({"image": pictures([b"x"]), "label": [1]}, {"layout": "natix"}, "is not in the layout natix"),
        ({"image": pictures([b"x"]), "label": [1]}, {"drop_inconsistent": True}, "drop_inconsistent needs the layout"),
        ({"image": pictures([]), "label": pa.array([], pa.int64())}, {}, "holds no rows"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_path(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    assert message in refused(write(tmp_path / "d/t.parquet", columns), **options)


def test_a_label_without_a_name_has_its_row(tmp_path: Path) -> None:
    columns = {"image": pictures([b"x", b"y"]), "label": [0, -1]}
    path = write(tmp_path / "d/t.parquet", columns, hub_metadata(["a", "b"]))
    assert "row 1: label -1 has no name (the names are a, b)" in refused(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("label", 2, "row 3: label 2 is neither 0 nor 1"),
        ("gps", "[139.7, -86.1]", "row 3: gps: 139.7, -86.1 is not a place on earth"),
        ("gps", "downtown", "row 3: gps: 'downtown' is no latitude and longitude"),
    ],
)
def test_a_wrong_value_of_natix_has_its_row(tmp_path: Path, field: str, value: Any, message: str) -> None:
    rows = natix()
    rows[3][field] = value
    assert message in refused(write(tmp_path / "d/t.parquet", columns_of(rows)))


def test_files_that_are_no_parquet_are_named(tmp_path: Path) -> None:
    path = plain(tmp_path, ["a", "b", "c", "d"])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as parquet" in refused(path)
    path.write_bytes(b"")
    assert "cannot be read as parquet" in refused(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    assert "is a Git LFS pointer" in refused(path)
    path.write_bytes(whole[:4] + b"\0" * 400 + whole[404:])
    assert "is damaged" in refused(path)


def test_paths_that_are_not_there_are_named(tmp_path: Path) -> None:
    assert "no such file or folder, and no hub id" in refused(tmp_path / "none.parquet")
    (tmp_path / "empty").mkdir()
    assert "holds no parquet files that match **/*.parquet" in refused(tmp_path / "empty")
    assert "revision is of a hub id" in refused(plain(tmp_path, ["a"]), revision="main")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain(tmp_path, ["a"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RoadworkError, match=r"uv pip install '\./plugins/datasets\[parquet\]'"):
        samples(path)


# --- the hub


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, with no way to the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_offline_it_says_what_is_missing_and_how_to_get_it(tmp_path: Path, offline: Path) -> None:
    with pytest.raises(RoadworkError) as error:
        HuggingFace(path="acme/roads", revision="v2").build(DatasetContext(cache_dir=tmp_path, seed=0))
    text = str(error.value)
    assert "\n" not in text
    assert 'cannot get the data set "acme/roads" at v2' in text
    assert "hf download acme/roads --repo-type dataset --include '*.parquet' --revision v2" in text


def test_a_data_set_in_the_hubs_cache_is_used_offline_at_its_revision(tmp_path: Path, offline: Path) -> None:
    for number, commit in enumerate(("a" * 40, "b" * 40)):
        file = offline / "datasets--acme--roads/snapshots" / commit / "data/train-00000-of-00001.parquet"
        write(file, {"image": pictures([jpeg(number)]), "label": ["a"]})
    refs = offline / "datasets--acme--roads/refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    (refs / "v2").write_text("b" * 40)
    for revision, number in ((None, 0), ("v2", 1), ("b" * 40, 1)):
        component = HuggingFace(path="acme/roads", revision=revision)
        (found,) = component.build(DatasetContext(cache_dir=tmp_path / "cache", seed=0, report=said.append))
        assert found.path.read_bytes() == jpeg(number)
    assert said[0] == "huggingface: acme/roads at aaaaaaaaaaaa"
