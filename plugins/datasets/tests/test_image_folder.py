"""Folders of pictures: which files, in which order, in which group, and what is wrong where."""

from __future__ import annotations

from pathlib import Path

import pytest
from roadwork_datasets import ImageFolder

from roadwork_core.errors import DataError, RoadworkError, SpecError
from roadwork_core.kinds import DatasetContext
from roadwork_core.plugins import Plugins
from roadwork_core.spec import load_spec


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def listing(root: Path, messages: list[str] | None = None, **options: object) -> list[tuple[object, ...]]:
    report = messages.append if messages is not None else lambda _: None
    context = DatasetContext(cache_dir=root / "cache", seed=0, report=report)
    samples = ImageFolder(root=str(root), **options).build(context)  # type: ignore[arg-type]
    return [(s.path.relative_to(root).as_posix(), s.label, s.group, s.split) for s in samples]


def refused(root: Path, kind: type[RoadworkError] = DataError, **options: object) -> str:
    with pytest.raises(kind) as error:
        listing(root, None, **options)
    return str(error.value)


def test_the_label_is_the_first_folder_and_the_order_is_natural(tmp_path: Path) -> None:
    touch(tmp_path, "b/10.jpg", "b/9.jpg", "b/deep/er/1.png", "a/frame2.JPG", "a/frame10.jpeg", "a/frame1.webp")
    assert [(path, label) for path, label, _, _ in listing(tmp_path)] == [
        ("a/frame1.webp", "a"),
        ("a/frame2.JPG", "a"),
        ("a/frame10.jpeg", "a"),
        ("b/9.jpg", "b"),
        ("b/10.jpg", "b"),
        ("b/deep/er/1.png", "b"),
    ]


def test_hidden_files_are_passed_over_and_others_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/.hidden.jpg", "a/.cache/2.jpg", "a/notes.txt", "b/1.jpg", ".git/c/1.jpg", "x.jpg")
    messages: list[str] = []
    assert [path for path, *_ in listing(tmp_path, messages)] == ["a/1.jpg", "b/1.jpg"]
    assert messages == [f"image_folder: passed over 1 files that are not pictures, such as {tmp_path}/a/notes.txt"]


def test_extensions_say_what_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.pic", "b/1.pic")
    assert [path for path, *_ in listing(tmp_path, extensions=(".PIC",))] == ["a/2.pic", "b/1.pic"]


def test_split_folders_are_a_level_above_the_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg")
    assert [(label, split) for _, label, _, split in listing(tmp_path, split_folders=True)] == [
        ("a", "train"),
        ("b", "train"),
        ("a", "val"),
    ]
    assert "split_folders = true" in refused(tmp_path)


def test_groups_come_from_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "a/seq1_f1.jpg", "a/seq1_f2.jpg", "b/day/seq2_f1.jpg")
    assert [group for *_, group, _ in listing(tmp_path, group_pattern=r"(seq\d+)_")] == ["seq1", "seq1", "seq2"]
    touch(tmp_path, "b/other.jpg")
    assert "group_pattern finds no group in other.jpg" in refused(tmp_path, group_pattern=r"(seq\d+)_")


def test_groups_come_from_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/x/1.jpg", "a/x/2.jpg", "b/x/1.jpg", "b/alone.jpg")
    groups = {path: group for path, _, group, _ in listing(tmp_path, group_folders=True)}
    assert groups == {"a/x/1.jpg": "a/x", "a/x/2.jpg": "a/x", "b/x/1.jpg": "b/x", "b/alone.jpg": None}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('group_pattern = "(seq"', "group_pattern is not a regular expression"),
        ('group_pattern = "seq"', "group_pattern must have one capture, has 0"),
        ('group_pattern = "(s)"\ngroup_folders = true', "group_folders cannot be combined"),
    ],
)
def test_options_that_cannot_be_are_told_by_the_checker_with_their_line(
    tmp_path: Path, line: str, message: str
) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(f'name = "x"\n[data]\nuse = "image_folder"\nroot = "."\n{line}\n[backbone]\nuse = "small_cnn"\n')
    with pytest.raises(SpecError) as error:
        load_spec(spec, Plugins.load())
    assert f"{message}" in str(error.value)
    assert f"{spec}:{4 + len(line.splitlines())} data.group_" in str(error.value)
    # With this plugin alone installed, what other tables name by default is unknown too.
    assert len([problem for problem in error.value.found if (problem.key or "").startswith("data")]) == 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/none: no such folder" in refused(tmp_path / "none")
    assert "holds no folders" in refused(tmp_path)
    touch(tmp_path, "a/1.jpg", "b/readme.txt")
    assert f"{tmp_path}/b: this class folder holds no pictures" in refused(tmp_path)
    assert "not a folder" in refused(tmp_path / "a" / "1.jpg")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/set/1.jpg", "root/b/1.jpg")
    (tmp_path / "root/a").symlink_to(tmp_path / "elsewhere/set")
    (tmp_path / "elsewhere/set/again").symlink_to(tmp_path / "elsewhere/set")
    assert [path for path, *_ in listing(tmp_path / "root")] == ["a/1.jpg", "b/1.jpg"]
