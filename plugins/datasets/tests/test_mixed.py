"""Mixes of data sets: no picture twice, groups across sets, shares, limits and splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from roadwork_datasets import HuggingFace, ImageFolder, Manifest, Mixed, MixedSource
from roadwork_datasets.mixing import Mix, fitting, thinned

from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError, SpecError
from roadwork_core.kinds import DatasetContext
from roadwork_core.plugins import Plugins
from roadwork_core.spec import resolve_component

from .natix_files import columns_of, jpeg, natix, write

said: list[str] = []


def folder(root: Path, contents: dict[str, bytes]) -> ImageFolder:
    """An image folder with files by "<class>/<name>"; what precedes "_" in a name is the group."""
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return ImageFolder(root=str(root), group_pattern=r"^(\w+?)_")


def build(tmp_path: Path, *sources: MixedSource, seed: int = 0) -> list[Sample]:
    said.clear()
    context = DatasetContext(cache_dir=tmp_path / "cache", seed=seed, report=said.append)
    return list(Mixed(sources=sources).build(context))


def sized(tmp_path: Path, name: str, classes: dict[str, int]) -> ImageFolder:
    contents = {
        f"{label}/g{number % 5}_{number}.jpg": f"{name} {label} {number}".encode()
        for label, count in classes.items()
        for number in range(count)
    }
    return folder(tmp_path / name, contents)


# --- copies and groups


def test_a_file_in_two_sources_is_taken_from_the_first(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"a/g1_1.jpg": b"same", "a/g1_2.jpg": b"this"})
    two = folder(tmp_path / "two", {"a/g9_1.jpg": b"same", "b/g9_2.jpg": b"this", "b/g9_3.jpg": b"four"})
    found = build(tmp_path, MixedSource(dataset=one, name="one"), MixedSource(dataset=two, name="two"))
    assert [(s.source, s.label, s.path.name) for s in found] == [
        ("one", "a", "g1_1.jpg"),
        ("one", "a", "g1_2.jpg"),
        ("two", "b", "g9_3.jpg"),
    ]
    assert said == ["mixed: one 2, two 1", "mixed: left out 2 pictures that an earlier source has, 1 of them with"
                    " another label"]  # fmt: skip


def test_groups_that_share_a_picture_are_one_and_others_of_one_name_are_not(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"a/g1_1.jpg": b"same", "a/g2_2.jpg": b"else"})
    two = folder(tmp_path / "two", {"a/g9_1.jpg": b"same", "a/g9_2.jpg": b"rest", "a/g2_2.jpg": b"more"})
    found = build(tmp_path, MixedSource(dataset=one, name="one"), MixedSource(dataset=two, name="two"))
    groups = {f"{sample.source} {sample.path.name}": sample.group for sample in found}
    assert groups["one g1_1.jpg"] == groups["two g9_2.jpg"]
    assert len(set(groups.values())) == 3


def scene_sources(tmp_path: Path) -> tuple[HuggingFace, Manifest]:
    """ROADWork's frames twice: as natix keeps them, and re-encoded in a list with other spelling."""
    path = write(tmp_path / "natix" / "train.parquet", columns_of(natix()))
    lines = ["path,label,city,seq,vid,frame"]
    for number in (1, 7):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number) + b"\0")
        lines.append(f"{number}.jpg,roadwork,Indianapolis,0,9ED0F7,0405{number}.JPG")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return HuggingFace(path=str(path)), Manifest(path=str(tmp_path / "list.csv"))


def test_a_frame_of_one_drive_is_one_picture_in_any_encoding(tmp_path: Path) -> None:
    hub, listed = scene_sources(tmp_path)
    found = build(tmp_path, MixedSource(dataset=hub), MixedSource(dataset=listed))
    assert Counter(sample.source for sample in found) == {"huggingface": 6, "manifest": 1}
    assert found[-1].tags["frame"] == "04057.JPG"
    assert found[-1].group == found[0].group == "indianapolis/0/9ed0f7"
    assert len({sample.group for sample in found}) == 3


def test_the_order_of_sources_says_which_copy_stays(tmp_path: Path) -> None:
    hub, listed = scene_sources(tmp_path)
    found = build(tmp_path, MixedSource(dataset=listed), MixedSource(dataset=hub))
    assert Counter(sample.source for sample in found) == {"manifest": 2, "huggingface": 5}


NAMES = st.sampled_from(["", "x", "y", "z"])


@st.composite
def scenes(draw: st.DrawFn) -> Sample:
    vid, frame, group = draw(NAMES), draw(NAMES), draw(NAMES)
    tags = {"city": "c", "seq": "1", "vid": vid, "frame": frame} if vid else {}
    return Sample(path=Path("/nowhere"), label="a", group=group or None, tags=tags)


@given(st.lists(st.lists(scenes(), max_size=8), min_size=1, max_size=3))
def test_no_frame_is_there_twice_and_no_tie_crosses_groups(drawn: list[list[Sample]]) -> None:
    sources = [
        [evolve(sample, path=Path(f"/nowhere/{number}/{place}")) for place, sample in enumerate(samples)]
        for number, samples in enumerate(drawn)
    ]
    mix = Mix()
    for number, samples in enumerate(sources):
        mix.add(str(number), samples)
    whole = [sample for part in mix.without_copies() for sample in part]
    listed = {sample.path: sample for samples in sources for sample in samples}
    assert len(whole) + mix.copies == len(listed)
    frames = Counter(_frame(sample) for sample in whole)
    del frames[None]
    assert set(frames) == {_frame(sample) for sample in listed.values()} - {None}
    assert all(count == 1 for count in frames.values())
    groups: dict[Any, set[str | None]] = {}
    for sample in whole:
        before = listed[sample.path]
        for tie in (before.tags.get("vid"), before.group and (before.path.parent, before.group)):
            if tie:
                groups.setdefault(tie, set()).add(sample.group)
        assert (sample.group is None) == (before.group is None and not before.tags)
    assert all(len(held) == 1 for held in groups.values())


def _frame(sample: Sample) -> tuple[str, str] | None:
    return (sample.tags["vid"], sample.tags["frame"]) if sample.tags.get("frame") else None


# --- sizes


@given(
    parts=st.lists(st.tuples(st.integers(1, 500), st.floats(0.05, 10)), min_size=1, max_size=5),
)
def test_shares_hold_in_the_largest_mix_that_there_can_be(parts: list[tuple[int, float]]) -> None:
    available, shares = [count for count, _ in parts], [share for _, share in parts]
    sizes = fitting(available, shares)
    assert all(1 <= size <= count for size, count in zip(sizes, available, strict=True))
    assert any(size == count for size, count in zip(sizes, available, strict=True))
    scale = min(count / share for count, share in parts)
    assert all(abs(size - share * scale) <= 1 for size, share in zip(sizes, shares, strict=True))


@given(
    rows=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6)), min_size=1, max_size=60),
    size=st.integers(1, 70),
    seed=st.integers(0, 3),
)
def test_a_smaller_part_keeps_order_classes_and_as_many_groups_as_it_can(
    rows: Sequence[tuple[str, int]], size: int, seed: int
) -> None:
    samples = [
        Sample(path=Path(f"/{place}"), label=label, group=f"{label}{group}")
        for place, (label, group) in enumerate(rows)
    ]
    found = thinned(samples, size, seed)
    assert found == thinned(samples, size, seed)
    assert len(found) == min(size, len(samples))
    assert [sample for sample in samples if sample in found] == found
    before, after = (Counter(sample.label for sample in part) for part in (samples, found))
    for label, count in before.items():
        exact = count * len(found) / len(samples)
        assert abs(after[label] - exact) < 1 or after[label] == 1 or after[label] == len(found) - 1
        held = [len({sample.group for sample in part if sample.label == label}) for part in (samples, found)]
        assert held[1] == min(held[0], after[label])


def test_shares_and_limits_of_a_mix(tmp_path: Path) -> None:
    real, drawn = sized(tmp_path, "real", {"a": 20, "b": 10}), sized(tmp_path, "drawn", {"a": 60, "b": 60})
    found = build(
        tmp_path,
        MixedSource(dataset=real, name="real", share=3.0),
        MixedSource(dataset=drawn, name="drawn", share=1.0),
    )
    assert Counter(s.source for s in found) == {"real": 30, "drawn": 10}
    assert Counter(s.label for s in found if s.source == "drawn") == {"a": 5, "b": 5}
    found = build(tmp_path, MixedSource(dataset=real, limit=6), MixedSource(dataset=drawn, name="drawn"))
    assert Counter(s.source for s in found) == {"image_folder": 6, "drawn": 120}
    assert Counter(s.label for s in found if s.source == "image_folder") == {"a": 4, "b": 2}


def test_another_seed_is_another_choice(tmp_path: Path) -> None:
    source = MixedSource(dataset=sized(tmp_path, "x", {"a": 30}), limit=5)
    assert build(tmp_path, source, seed=1) == build(tmp_path, source, seed=1)
    assert build(tmp_path, source, seed=1) != build(tmp_path, source, seed=2)


# --- splits, labels, names


def test_a_source_can_be_for_one_split_and_have_its_labels_renamed(tmp_path: Path) -> None:
    real, drawn = sized(tmp_path, "real", {"1": 2}), sized(tmp_path, "drawn", {"roadwork": 2})
    found = build(
        tmp_path,
        MixedSource(dataset=real, name="real", split="anywhere", labels={"1": "roadwork"}),
        MixedSource(dataset=drawn, name="drawn", split="train"),
    )
    assert [(s.source, s.split, s.label) for s in found] == [
        *[("real", "anywhere", "roadwork")] * 2,
        *[("drawn", "train", "roadwork")] * 2,
    ]


def test_splits_of_some_only_are_refused_with_what_to_write(tmp_path: Path) -> None:
    real, drawn = sized(tmp_path, "real", {"a": 2}), sized(tmp_path, "drawn", {"a": 2})
    with pytest.raises(DataError, match=r'2 samples of the source "real" have no split.*set split = "real"'):
        build(tmp_path, MixedSource(dataset=real, name="real"), MixedSource(dataset=drawn, name="drawn", split="train"))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([{}, {}], 'two sources are called "image_folder"'),
        ([{"name": "x", "share": 0.5}, {}], 'the source "image_folder" has no share'),
    ],
)
def test_what_cannot_be_mixed_is_refused_by_spec_check(sources: list[dict[str, Any]], message: str) -> None:
    tables = [{**source, "dataset": {"use": "image_folder", "root": "x"}} for source in sources]
    with pytest.raises(SpecError, match=message):
        resolve_component("dataset", {"use": "mixed", "sources": tables}, Plugins.load())


def test_a_spec_with_a_mix_of_real_and_drawn_pictures_is_prepared_as_it_says(tmp_path: Path) -> None:
    """Drawn pictures are in train alone, the others in every split."""
    import numpy as np

    from roadwork_core.data.assignment import assign_splits
    from roadwork_core.spec.model import Splits

    real = sized(tmp_path, "real", {"a": 40, "b": 40})
    drawn = {"use": "synthetic_roadwork", "n": 8, "width": 32, "height": 24}
    sources = [
        {"name": "real", "split": "real", "dataset": {"use": "image_folder", "root": real.root}},
        {"name": "drawn", "split": "train", "labels": {"roadwork": "a", "no_roadwork": "b"}, "dataset": drawn},
    ]
    mixed = resolve_component("dataset", {"use": "mixed", "sources": sources}, Plugins.load())
    wanted = Splits(assign={"real": ("train", "val_select", "val_calib", "test")})
    samples = mixed.build(DatasetContext(cache_dir=tmp_path / "cache", seed=0))

    numbers = np.arange(len(samples))
    targets = np.array([sample.label == "a" for sample in samples], dtype=np.int64)
    names = [str(number) for number in numbers]
    splits = assign_splits(samples, targets, numbers, names, wanted, [], seed=0).splits
    held = {split: Counter(s.source for s, of in zip(samples, splits, strict=True) if of == split) for split in splits}
    assert {split for split, sources in held.items() if sources["drawn"]} == {"train"}
    assert {split for split, sources in held.items() if sources["real"]} == {
        *("train", "val_select", "val_calib", "test")
    }
