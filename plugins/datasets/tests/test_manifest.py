"""Tables of pictures: what each column becomes, and the line of every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from roadwork_datasets import Manifest

from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.kinds import DatasetContext


def samples(tmp_path: Path, text: str | bytes, name: str = "m.csv", **options: object) -> list[Sample]:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    component = Manifest(path=str(path), **options)  # type: ignore[arg-type]
    return list(component.build(DatasetContext(cache_dir=tmp_path / "cache", seed=0)))


def refused(tmp_path: Path, text: str | bytes, name: str = "m.csv", **options: object) -> str:
    with pytest.raises(DataError) as error:
        samples(tmp_path, text, name, **options)
    return str(error.value)


EXPECTED = Sample(
    path=Path("x/1.jpg"), label="a", source="cam", group="g", split="val", licence="MIT", tags={"weather": "rain, fog"}
)
TEXTS = {
    "m.csv": 'path,label,group,split,source,licence,weather,none\nx/1.jpg,a,g,val,cam,MIT,"rain, fog",\n',
    "m.tsv": "path\tlabel\tgroup\tsplit\tsource\tlicence\tweather\nx/1.jpg\ta\tg\tval\tcam\tMIT\train, fog\n",
    "m.jsonl": json.dumps(
        {"path": "x/1.jpg", "label": "a", "group": "g", "split": "val", "source": "cam", "licence": "MIT"}
        | {"weather": "rain, fog", "none": None}
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_columns_become_fields_and_the_rest_tags(tmp_path: Path, name: str) -> None:
    (found,) = samples(tmp_path, TEXTS[name], name)
    assert found.path == tmp_path / "x/1.jpg"
    for field in ("label", "source", "group", "split", "licence", "tags"):
        assert getattr(found, field) == getattr(EXPECTED, field)


def test_paths_are_relative_to_the_file_unless_root_is_given(tmp_path: Path) -> None:
    (found,) = samples(tmp_path, "path,label\n1.jpg,a\n", root="/data")
    assert found.path == Path("/data/1.jpg")
    (found,) = samples(tmp_path, "path,label\n/abs/1.jpg,a\n", root="/data")
    assert found.path == Path("/abs/1.jpg")


def test_columns_may_have_other_names_and_need_not_be_used(tmp_path: Path) -> None:
    text = "file,class,seq,fold,split\n1.jpg,a,s1,3,train\n"
    (found,) = samples(tmp_path, text, path_column="file", label_column="class", group_column="seq", split_column="")
    assert (found.label, found.group, found.split) == ("a", "s1", None)
    assert found.tags == {"fold": "3", "split": "train"}


def test_a_column_without_a_name_is_nothing(tmp_path: Path) -> None:
    (found,) = samples(tmp_path, ",path,label\n0,1.jpg,a\n", split_column="")
    assert found.split is None
    assert found.tags == {}


def test_labels_can_be_renamed(tmp_path: Path) -> None:
    found = samples(tmp_path, "path,label\n1.jpg,1\n2.jpg,0\n3.jpg,x\n", labels={"1": "roadwork", "0": "none"})
    assert [sample.label for sample in found] == ["roadwork", "none", "x"]


def test_gps_is_two_columns(tmp_path: Path) -> None:
    text = "path,label,lat,lon\n1.jpg,a,48.2,16.4\n2.jpg,a,,\n"
    assert [sample.gps for sample in samples(tmp_path, text, gps_columns=("lat", "lon"))] == [(48.2, 16.4), None]
    assert "m.csv:2: 98, 16.4 is not a place on earth" in refused(
        tmp_path, "path,label,lat,lon\n1.jpg,a,98,16.4\n", gps_columns=("lat", "lon")
    )


def test_values_of_json_become_text(tmp_path: Path) -> None:
    text = '{"path": "1.jpg", "label": 1, "night": true, "box": [1, 2]}\n\n{"path": "2.jpg", "label": "b"}\n'
    first, second = samples(tmp_path, text, "m.jsonl")
    assert (first.label, first.tags) == ("1", {"night": "true", "box": "[1, 2]"})
    assert second.tags == {}


def test_a_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    found = samples(tmp_path, b"\xef\xbb\xbfpath,label\r\n1.jpg,a\r\n2.jpg,b\r\n")
    assert [(sample.path.name, sample.label) for sample in found] == [("1.jpg", "a"), ("2.jpg", "b")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n1.jpg,a\n2.jpg\n", ":3: has 1 fields, the header 2"),
        ("path,label\n1.jpg,a\n,b\n", ':3: "path" is empty'),
        ("path,label\n\n1.jpg,\n", ':3: "label" is empty'),
        ('path,label,note\n1.jpg,a,"two\nlines"\n1.jpg,a,\n', ":4: 1.jpg is listed twice, first in line 2"),
        ("path,class\n1.jpg,a\n", ':2: has no "label" (it has path, class)'),
        ("path,label,label\n1.jpg,a,b\n", ':1: has two columns "label"'),
        ('path,label\n1.jpg,a\n2.jpg,"b\n', ":3: cannot be read"),
        ("path,label\n", ": lists no pictures"),
        ("", ": lists no pictures"),
        (b"path,label\n1.jpg,a\n2.jpg,\xff\n", ":3: is not UTF-8"),
    ],
)
def test_a_mistake_in_csv_has_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert f"{tmp_path}/m.csv{message}" in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "1.jpg", "label": "a"}\n{"path"\n', ":2: is not JSON"),
        ('["1.jpg", "a"]\n', ":1: is not a JSON object"),
        ('{"path": "1.jpg", "label": null}\n', ':1: "label" is empty'),
        ("[" * 100_000 + "\n", ":1: is not JSON"),
    ],
)
def test_a_mistake_in_json_has_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert f"{tmp_path}/m.jsonl{message}" in refused(tmp_path, text, "m.jsonl")


def test_a_file_that_cannot_be_is_named(tmp_path: Path) -> None:
    assert "is not a kind of manifest" in refused(tmp_path, "x", "m.xlsx")
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        Manifest(path=str(tmp_path / "none.csv")).build(DatasetContext(cache_dir=tmp_path, seed=0))
