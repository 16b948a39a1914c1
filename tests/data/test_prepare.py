"""The stage prepare: what it writes, what it refuses and how it says so, and that nobody can cheat."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import attrs
import numpy as np
import pytest
from PIL import Image

from roadwork_core.errors import DataError, RoadworkError, SpecError
from roadwork_core.runs import StageContext
from roadwork_core.stages import STAGES, prepare

from .staged import SPLITS, Prepared, context


def picture(seed: int) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((64, 48), Image.Resampling.BICUBIC)


def folder_of(root: Path, per_class: dict[str, int], frames: int = 2) -> str:
    """root/<class>/s<sequence>_f<frame>.png; returns the [data] table that lists it by sequence."""
    seed = 0
    for label, count in per_class.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            seed += 1
            picture(seed).save(root / label / f"s{number // frames}_f{number % frames}.png")
    return f'use = "image_folder"\nroot = "{root}"\ngroup_pattern = \'^(s\\d+)_\'\n'


def manifest_of(root: Path, lines: list[str], header: str = "path,label,group,split") -> str:
    root.mkdir(parents=True, exist_ok=True)
    (root / "m.csv").write_text("\n".join([header, *lines]) + "\n")
    return f'use = "manifest"\npath = "{root / "m.csv"}"\n'


@pytest.fixture
def data(tmp_path: Path) -> str:
    return folder_of(tmp_path / "data", {"clear": 40, "roadwork": 40})


def refused(folder: Path, table: str, kind: type[RoadworkError] = DataError) -> str:
    with pytest.raises(kind) as error:
        prepare.run(context(folder, table))
    return str(error.value)


# --- what it writes --------------------------------------------------------------------------------------------------


def test_every_sample_is_in_one_split_and_no_group_in_two(tmp_path: Path, data: str) -> None:
    prepared = Prepared(context(tmp_path, data))
    assert [row.index for row in prepared.all_rows] == list(range(80))
    where = defaultdict(set)
    for split, rows in prepared.rows.items():
        assert {row.split for row in rows} == {split}
        for row in rows:
            where[row.group].add(split)
    assert all(len(splits) == 1 for splits in where.values())
    assert {split: len(rows) for split, rows in prepared.rows.items()} == {
        split: report["samples"] for split, report in prepared.report["splits"].items()
    }


@pytest.mark.parametrize("table", ['use = "image_folder"\nroot = "gone"', 'use = "manifest"\npath = "gone.csv"'])
def test_a_path_that_is_not_there_is_blamed_on_the_line_that_names_it(tmp_path: Path, table: str) -> None:
    key = table.splitlines()[1].partition(" ")[0]
    assert f"data.{key} is set at {tmp_path / 'spec.toml'}:8" in refused(tmp_path, table)


@pytest.mark.parametrize("table", ['use = "image_folder"\nroot = ""', 'use = "manifest"\npath = ""'])
def test_an_empty_path_is_not_the_current_folder(tmp_path: Path, table: str) -> None:
    with pytest.raises(SpecError, match="must not be empty"):
        context(tmp_path, table)


def test_rows_say_what_the_file_is(tmp_path: Path, data: str) -> None:
    from roadwork_core.files import sha256_file

    row = Prepared(context(tmp_path, data)).all_rows[0]
    assert row.sha256 == sha256_file(Path(row.path))
    assert (row.width, row.height) == (64, 48)
    assert len(row.phash) == 16
    assert (row.label, row.target) == ("clear", 0)


def test_the_same_data_and_seed_are_the_same_bytes(tmp_path: Path, data: str) -> None:
    first = Prepared(context(tmp_path, data))
    again = Prepared(context(tmp_path, data, attempt="again"))
    other = Prepared(context(tmp_path, data, attempt="other", seed=1))
    for name in ("report.json", "classes.json", *(f"samples/{split}.jsonl" for split in SPLITS)):
        assert (first.folder / name).read_bytes() == (again.folder / name).read_bytes()
    assert (first.folder / "samples/test.jsonl").read_bytes() != (other.folder / "samples/test.jsonl").read_bytes()


def test_splits_do_not_depend_on_where_the_data_lie(tmp_path: Path) -> None:
    splits = []
    for place in ("here", "there"):
        table = folder_of(tmp_path / place / "data", {"a": 30, "b": 30}).replace("group_pattern", "# group_pattern")
        splits.append([row.split for row in Prepared(context(tmp_path / place, table)).all_rows])
    assert splits[0] == splits[1]


def test_roadwork_is_positive_unless_the_spec_says_otherwise(tmp_path: Path, data: str) -> None:
    assert Prepared(context(tmp_path, data)).classes == {"classes": ["clear", "roadwork"], "positive": 1}
    other = context(tmp_path, f'{data}classes = ["roadwork", "clear"]\npositive = "clear"', attempt="other")
    assert Prepared(other).classes == {"classes": ["roadwork", "clear"], "positive": 1}


def test_group_by_takes_a_tag_instead_of_the_group(tmp_path: Path) -> None:
    folder_of(tmp_path / "data", {"a": 40, "b": 40})
    lines = [
        f"data/{label}/s{i // 2}_f{i % 2}.png,{label},g{i},place{i % 5 if label == 'a' else 5 + i % 5}"
        for label in "ab"
        for i in range(40)
    ]
    table = manifest_of(tmp_path, lines, "path,label,group,place")
    prepared = Prepared(context(tmp_path, f'{table}[data.splits]\ngroup_by = "place"'))
    assert {row.group for row in prepared.all_rows} == {f"place{i}" for i in range(10)}
    message = refused(tmp_path, f'{table}[data.splits]\ngroup_by = "plaec"')
    assert "80 of 80 samples have no such tag" in message
    assert 'did you mean "place"?' in message


# --- the data's own splits -------------------------------------------------------------------------------------------


def own_splits(root: Path, names: tuple[str, ...] = ("train", "val", "test"), n: int = 16) -> str:
    lines = []
    for number, name in enumerate(names):
        for label in ("a", "b"):
            for i in range(n):
                path = root / name / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(1000 * number + 100 * (label == "a") + i).save(path)
                lines.append(f"{name}/{label}/{i}.png,{label},{name}-{label}-{i // 2},{name}")
    return manifest_of(root, lines)


def test_own_splits_are_honoured_and_val_is_shared(tmp_path: Path) -> None:
    prepared = Prepared(context(tmp_path, own_splits(tmp_path / "data")))
    for split, origin in (("train", "train"), ("val_select", "val"), ("val_calib", "val"), ("test", "test")):
        assert {Path(row.path).parent.parent.name for row in prepared.rows[split]} == {origin}
    assert len(prepared.rows["val_select"]) == len(prepared.rows["val_calib"]) == 16
    assert prepared.report["own_splits"] is True


def test_assign_divides_a_split_among_several(tmp_path: Path) -> None:
    table = own_splits(tmp_path / "data", ("all", "held_out"))
    assign = 'assign = { all = ["train", "val_select", "val_calib"], held_out = ["test"] }'
    prepared = Prepared(context(tmp_path, f"{table}[data.splits]\n{assign}"))
    assert len(prepared.rows["test"]) == 32
    assert len(prepared.rows["train"]) == pytest.approx(32 * 0.6 / 0.9, abs=4)


@pytest.mark.parametrize(
    ("assign", "message"),
    [
        ("", 'does not say where the data\'s split "extra" goes (the data have train (32), extra (32))'),
        ('assign = { extra = ["test"], tset = ["test"] }', 'names the split "tset", which the data do not have'),
    ],
)
def test_a_split_that_nothing_assigns_is_named(tmp_path: Path, assign: str, message: str) -> None:
    table = own_splits(tmp_path / "data", ("train", "extra"))
    assert message in refused(tmp_path, f"{table}[data.splits]\n{assign}", SpecError)


def test_assign_without_own_splits_is_refused(tmp_path: Path, data: str) -> None:
    text = refused(tmp_path, f'{data}[data.splits]\nassign = {{ train = ["train"] }}', SpecError)
    assert "the data come without splits" in text


def test_some_samples_without_a_split_are_refused(tmp_path: Path) -> None:
    table = own_splits(tmp_path / "data")
    path = tmp_path / "data" / "m.csv"
    path.write_text(path.read_text().replace("train-a-0,train", "train-a-0,"))
    assert "2 of 96 samples have no split, the others do" in refused(tmp_path, table)


def test_a_group_that_crosses_own_splits_is_refused(tmp_path: Path) -> None:
    table = own_splits(tmp_path / "data")
    path = tmp_path / "data" / "m.csv"
    path.write_text(path.read_text().replace("test-a-0,", "train-a-0,"))
    text = refused(tmp_path, table)
    assert "groups cross the data's own splits (1 cluster)" in text
    assert 'group "train-a-0": 2 in train, 2 in test' in text


# --- near-duplicates -------------------------------------------------------------------------------------------------


def with_copies(root: Path) -> str:
    """Two sequences that share a look: a frame of one is in the other, encoded again and darker."""
    table = folder_of(root, {"a": 40, "b": 40})
    copy = Image.open(root / "a" / "s3_f0.png").point(lambda value: int(value * 0.9))
    copy.resize((96, 72)).save(root / "a" / "s11_f0.png")
    return table


def test_near_duplicates_share_a_group(tmp_path: Path) -> None:
    prepared = Prepared(context(tmp_path, with_copies(tmp_path / "data")))
    by_name = {Path(row.path).parent.name + "/" + Path(row.path).name: row for row in prepared.all_rows}
    joined = [by_name[f"a/{name}.png"] for name in ("s3_f0", "s3_f1", "s11_f0", "s11_f1")]
    assert {row.group for row in joined} == {"s3"}
    assert len({row.split for row in joined}) == 1
    assert prepared.report["near_duplicates"]["pairs"] == 1
    assert prepared.report["near_duplicates"]["largest_clusters"][0]["groups"] == ["s3", "s11"]


def test_near_duplicates_can_be_an_error_or_ignored(tmp_path: Path) -> None:
    table = with_copies(tmp_path / "data")
    text = refused(tmp_path, f'{table}near_duplicates = "error"')
    assert "near-duplicates in different groups (1 pair)" in text
    assert "s3_f0.png: looks like" in text
    ignoring = Prepared(context(tmp_path, f'{table}near_duplicates = "ignore"', attempt="ignoring"))
    assert ignoring.report["near_duplicates"]["pairs"] == 0


@pytest.mark.parametrize("exact", [True, False])
def test_a_picture_that_leaks_into_another_own_split_is_refused(tmp_path: Path, exact: bool) -> None:
    table = own_splits(tmp_path / "data")
    leak = Image.open(tmp_path / "data/train/a/4.png")
    leak.resize((64, 48) if exact else (200, 150)).save(tmp_path / "data/test/a/7.png")
    text = refused(tmp_path, table)
    assert "near-duplicates cross the data's own splits (1 cluster)" in text
    assert f"{tmp_path}/data/train/a/4.png: looks like {tmp_path}/data/test/a/7.png (train and test)" in text
    assert 'set data.near_duplicates = "ignore"' in text
    Prepared(context(tmp_path, f'{table}near_duplicates = "ignore"'))


def test_two_labels_for_one_picture_are_reported(tmp_path: Path) -> None:
    table = folder_of(tmp_path / "data", {"a": 40, "b": 40})
    (tmp_path / "data/b/s5_f0.png").write_bytes((tmp_path / "data/a/s9_f0.png").read_bytes())
    prepared = Prepared(context(tmp_path, table))
    assert prepared.report["label_conflicts"][0]["same_bytes"] is True
    assert "1 pair of (nearly) the same picture with different labels" in prepared.messages


# --- bad images ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bad(tmp_path: Path) -> str:
    table = folder_of(tmp_path / "data", {"a": 40, "b": 40})
    whole = (tmp_path / "data/a/s0_f0.png").read_bytes()
    (tmp_path / "data/a/s0_f0.png").write_bytes(b"")
    (tmp_path / "data/a/s1_f0.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "data/b/s2_f0.png").write_text("no picture")
    Image.new("1", (12_000, 12_000)).save(tmp_path / "data/b/s3_f0.png")
    return table


def test_bad_images_stop_the_run_with_every_reason(tmp_path: Path, bad: str) -> None:
    text = refused(tmp_path, bad)
    assert text.startswith("4 of 80 images cannot be used")
    for name, reason in (
        ("a/s0_f0.png", "the file is empty"),
        ("a/s1_f0.png", "truncated"),
        ("b/s2_f0.png", "not a picture of a known format"),
        ("b/s3_f0.png", "12000 x 12000 pixels are more than the limit of 100000000 (data.max_pixels)"),
    ):
        assert f"{tmp_path}/data/{name}: {reason}" in text


def test_bad_images_can_be_skipped_and_are_counted(tmp_path: Path, bad: str) -> None:
    prepared = Prepared(context(tmp_path, f'{bad}on_bad_image = "skip"'))
    assert len(prepared.all_rows) == 76
    assert [row.index for row in prepared.all_rows] == list(range(76))
    assert [(Path(entry["path"]).name, entry["label"]) for entry in prepared.bad] == [
        ("s0_f0.png", "a"),
        ("s1_f0.png", "a"),
        ("s2_f0.png", "b"),
        ("s3_f0.png", "b"),
    ]
    assert prepared.report["bad_images"]["count"] == prepared.metrics["bad_images"] == 4
    assert "4 images cannot be used, skipped" in prepared.messages


ODD = os.fsdecode(b"\xff")


def test_a_name_that_is_no_utf8_is_skipped_with_its_group(tmp_path: Path) -> None:
    table = folder_of(tmp_path / "data", {"a": 40, "b": 40}).replace("^(s", "^([^_]+").replace("\\d+)_", ")_")
    picture(1).save(tmp_path / f"data/a/{ODD}_f0.png")
    prepare.fingerprint_inputs(context(tmp_path, table))
    assert refused(tmp_path, table).endswith("its name is not valid UTF-8")
    prepared = Prepared(context(tmp_path, f'{table}on_bad_image = "skip"'))
    assert [(Path(entry["path"]).name, entry["label"]) for entry in prepared.bad] == [("\\udcff_f0.png", "a")]


def test_a_class_whose_name_is_no_utf8_is_named(tmp_path: Path) -> None:
    table = folder_of(tmp_path / "data", {"a": 40, "b": 40, ODD: 2})
    prepare.fingerprint_inputs(context(tmp_path, table))
    assert refused(tmp_path, table).startswith("2 of 82 images cannot be used")
    prepared = Prepared(context(tmp_path, f'{table}on_bad_image = "skip"'))
    assert prepared.classes["classes"] == ["a", "b"]
    assert {entry["label"] for entry in prepared.bad} == {"\\udcff"}


@pytest.mark.parametrize("field", ["label", "group", "tags"])
def test_a_manifest_with_lone_surrogates_names_its_samples(tmp_path: Path, field: str) -> None:
    folder_of(tmp_path / "data", {"a": 40, "b": 40})
    files = sorted((tmp_path / "data").rglob("*.png"))
    rows = [
        {"path": str(path), "label": path.parent.name, "group": f"{path.parent.name}{path.name[:3]}"} for path in files
    ]
    rows[0][field if field != "tags" else "weather"] = "\ud800"
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = f'use = "manifest"\npath = "{tmp_path / "m.jsonl"}"\n'
    prepare.fingerprint_inputs(context(tmp_path, table))
    text = refused(tmp_path, table)
    assert str(files[0]) in text
    assert "is not valid Unicode" in text
    assert len(Prepared(context(tmp_path, f'{table}on_bad_image = "skip"')).all_rows) == 79


def test_a_remembered_look_does_not_lift_the_limit_on_pixels(tmp_path: Path, data: str) -> None:
    assert len(Prepared(context(tmp_path, f"{data}max_pixels = 3072")).all_rows) == 80
    assert "80 of 80 images cannot be used" in refused(tmp_path, f"{data}max_pixels = 3071")
    assert len(Prepared(context(tmp_path, f"{data}max_pixels = 3072", attempt="again")).all_rows) == 80


def test_all_images_missing_points_at_the_place(tmp_path: Path) -> None:
    table = manifest_of(tmp_path / "data", [f"{i}.png,{'ab'[i % 2]},," for i in range(50)])
    text = refused(tmp_path, f'{table}on_bad_image = "skip"')
    assert "50 of 50 images cannot be used (check where the dataset looks for its files)" in text
    assert "and 30 more" in text


# --- too little ------------------------------------------------------------------------------------------------------


def test_one_class_only(tmp_path: Path) -> None:
    text = refused(tmp_path, folder_of(tmp_path / "data", {"roadwork": 10}))
    assert 'all 10 samples are of one class, "roadwork" (10)' in text


def test_too_few_groups_of_a_class_name_class_split_and_counts(tmp_path: Path) -> None:
    text = refused(tmp_path, folder_of(tmp_path / "data", {"a": 60, "roadwork": 6}))
    assert 'has no "roadwork" (it has a ' in text
    assert '"roadwork" has 6 samples in 3 groups altogether' in text
    assert 'collect "roadwork" from at least 4 groups' in text


def test_a_class_missing_from_an_own_split(tmp_path: Path) -> None:
    table = own_splits(tmp_path / "data")
    path = tmp_path / "data" / "m.csv"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("test/b/")]
    path.write_text("\n".join(lines))
    text = refused(tmp_path, table)
    assert 'the split test has no "b" (it has a 16; "b" has 32 samples in 16 groups altogether)' in text


def test_a_split_without_samples(tmp_path: Path) -> None:
    text = refused(tmp_path, own_splits(tmp_path / "data", ("train", "val")))
    assert "the split test has no samples (assign one of the data's own splits to it)" in text


@pytest.mark.parametrize(
    ("extra", "kind", "message"),
    [
        ('classes = ["clear", "roadworks"]', DataError, 'did you mean "roadworks"?'),
        ('classes = ["clear", "roadwork", "both"]', DataError, 'no sample has the label "both" of data.classes'),
        ('positive = "roadwrok"', SpecError, 'did you mean "roadwork"?'),
    ],
)
def test_classes_that_the_data_do_not_have(
    tmp_path: Path, data: str, extra: str, kind: type[RoadworkError], message: str
) -> None:
    assert message in refused(tmp_path, data + extra, kind)


def test_few_samples_of_a_class_are_warned_of(tmp_path: Path) -> None:
    prepared = Prepared(context(tmp_path, folder_of(tmp_path / "data", {"a": 200, "roadwork": 40})))
    assert 'test has only 4 samples of "roadwork"' in prepared.messages


# --- what is not done again ------------------------------------------------------------------------------------------


def test_a_second_look_decodes_only_what_changed(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from roadwork_core.data import scan

    first = Prepared(context(tmp_path, data))
    picture(999).save(tmp_path / "data/clear/s7_f1.png")
    decoded: list[Path] = []
    look = scan.look

    def counting(path: Path, *, max_pixels: int) -> scan.Look | scan.Unreadable:
        decoded.append(path)
        return look(path, max_pixels=max_pixels)

    monkeypatch.setattr(scan, "look", counting)
    second = Prepared(context(tmp_path, data, attempt="again"))
    assert [path.name for path in decoded] == ["s7_f1.png"]
    changed = [a.path for a, b in zip(first.all_rows, second.all_rows, strict=True) if a.sha256 != b.sha256]
    assert [Path(path).name for path in changed] == ["s7_f1.png"]


def test_a_spoilt_cache_is_done_without(tmp_path: Path, data: str) -> None:
    first = Prepared(context(tmp_path, data))
    (tmp_path / "runs/.cache/looks.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 99)
    assert Prepared(context(tmp_path, data, attempt="again")).all_rows == first.all_rows


def test_what_a_dataset_says_is_said_once_though_it_is_listed_twice(tmp_path: Path) -> None:
    """For the fingerprint, and for the work."""
    inner = folder_of(tmp_path / "data", {"clear": 40, "roadwork": 40}).strip().replace("\n", ", ")
    ctx = context(tmp_path, f'use = "mixed"\nsources = [{{ dataset = {{ {inner} }}, name = "streets" }}]\n')
    prepare.fingerprint_inputs(ctx)
    assert Prepared(ctx).messages.count("mixed: streets 80") == 1


def test_the_fingerprint_follows_the_files(tmp_path: Path, data: str) -> None:
    ctx = context(tmp_path, data)
    before = prepare.fingerprint_inputs(ctx)
    assert prepare.fingerprint_inputs(ctx) == before
    json.dumps(before)
    picture(998).save(tmp_path / "data/clear/s7_f1.png")
    changed = prepare.fingerprint_inputs(ctx)
    assert changed != before
    (tmp_path / "data/clear/s7_f1.png").unlink()
    assert prepare.fingerprint_inputs(ctx) not in (before, changed)


# --- cheating --------------------------------------------------------------------------------------------------------

MAY_SEE = {
    "adapt": {"train"},
    "train": {"train", "val_select"},
    # Only a test-time augmentation that learns on train is given its logits.
    "score": {"train", "val_select", "val_calib", "test"},
    "fit": set(),
    "evaluate": {"test"},
    "bundle": {"val_calib"},
}


@pytest.mark.parametrize("name", MAY_SEE)
def test_a_stage_sees_its_splits_and_no_others(tmp_path: Path, data: str, name: str) -> None:
    ctx = context(tmp_path, data)
    prepare.run(ctx)
    stage = next(stage for stage in STAGES if stage.name == name)
    seen = set()
    for split in SPLITS:
        inside: StageContext = attrs.evolve(ctx, stage=name, reads=stage.reads)
        try:
            inside.input("prepare", f"samples/{split}.jsonl")
        except RoadworkError:
            continue
        seen.add(split)
    assert seen == MAY_SEE[name]


def test_a_splits_file_holds_nothing_of_another_split(tmp_path: Path, data: str) -> None:
    prepared = Prepared(context(tmp_path, data))
    texts = {split: (prepared.folder / f"samples/{split}.jsonl").read_text() for split in SPLITS}
    for split, rows in prepared.rows.items():
        for row in rows:
            assert all(row.path not in text for other, text in texts.items() if other != split)
