"""`roadwork mine`, whole: error types apart, nothing held out, doubtful labels aside, a manifest that can be read."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image

from roadwork_core.cli import main
from roadwork_core.cli.mine import WRITTEN
from roadwork_core.data.sample import Row
from roadwork_core.data.scan import Look, look
from roadwork_core.data.table import write_rows
from roadwork_core.feedback import FeedbackStore, Label, Seen
from roadwork_core.mining.held_out import HeldOut

CLASSES = ["no_roadwork", "roadwork"]


def picture(path: Path, seed: int) -> Path:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC).save(path)
    return path


def row(path: Path, split: str, index: int) -> Row:
    seen = look(path, max_pixels=10**6)
    assert isinstance(seen, Look)
    names: dict[str, Any] = {"index": index, "path": str(path), "label": CLASSES[0], "target": 0, "split": split}
    return Row(**names, group=str(index), sha256=seen.sha256, phash=f"{seen.phash:016x}", width=96, height=96)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for index, split in enumerate(("train", "val_select", "val_calib", "test")):
        path = picture(tmp_path / "known" / f"{split}.png", 1000 + index)
        write_rows(folder / "prepare" / "samples" / f"{split}.jsonl", [row(path, split, index)])
    (folder / "prepare" / "classes.json").write_text(json.dumps({"classes": CLASSES, "positive": 1}))
    return folder


def record(store: Path, path: Path, said: str | None, truth: str, score: float, features: list[float]) -> None:
    key = path.name
    one = Seen(key=key, time=1, bundle_id="b", policy="p", label=said, score=score, path=str(path), features=features)
    with FeedbackStore(store) as opened:
        opened.add([one])
        opened.label([Label(key=key, label=truth, time=1)])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three false positives, four false negatives of which one is a wrong label, right answers, an abstention."""
    path, rng = tmp_path / "feedback.sqlite", np.random.default_rng(0)

    def near(centre: int) -> list[float]:
        return list(10 * np.eye(4)[centre] + rng.normal(size=4))

    names = iter(range(100))
    for _ in range(3):
        record(path, picture(tmp_path / "new" / f"fp{(n := next(names))}.png", n), CLASSES[1], CLASSES[0], 0.9, near(0))
    for _ in range(3):
        record(path, picture(tmp_path / "new" / f"fn{(n := next(names))}.png", n), CLASSES[0], CLASSES[1], 0.2, near(1))
    record(path, picture(tmp_path / "new" / "flip.png", next(names)), CLASSES[0], CLASSES[1], 0.01, near(2))
    for _ in range(12):
        record(path, picture(tmp_path / "new" / f"ok{(n := next(names))}.png", n), CLASSES[0], CLASSES[0], 0.1, near(2))
    record(path, picture(tmp_path / "new" / "abstained.png", next(names)), None, CLASSES[1], 0.5, near(2))
    return path


def mine(*words: object) -> int:
    return main(["mine", *map(str, words), "--quiet"])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_errors_of_both_types_are_mined_and_a_lone_label_is_doubted(run: Path, store: Path, tmp_path: Path) -> None:
    assert mine(store, "--run", run, "--out", tmp_path / "out", "--neighbours", 2) == 0
    found = rows(tmp_path / "out" / "hard_negatives.csv")
    assert {Path(one["path"]).name[:2] for one in found if one["error"] == "false_positive"} == {"fp"}
    assert {one["label"] for one in found if one["error"] == "false_negative"} == {"roadwork"}
    assert len(found) == 6
    assert [Path(one["path"]).name for one in rows(tmp_path / "out" / "review.csv")] == ["flip.png"]
    assert {one["split"] for one in found} == {"train"}
    counts = json.loads((tmp_path / "out" / "mined.json").read_bytes())["counts"]
    assert (counts["abstained"], counts["false_positive"], counts["false_negative"]) == (1, 3, 4)


def test_an_error_amid_right_answers_of_its_own_label_is_not_doubted(run: Path, store: Path, tmp_path: Path) -> None:
    """The negatives are the next nearest: a rare error of a good model is not a wrong label."""
    for number in range(4):
        said = CLASSES[number > 0]
        path = picture(tmp_path / "new" / f"rare{number}.png", 500 + number)
        record(store, path, said, CLASSES[1], 0.3 if number == 0 else 0.8, [0, 0, 3, 10 + number / 10])
    assert mine(store, "--run", run, "--out", tmp_path / "out", "--neighbours", 2) == 0
    assert "rare0.png" in {Path(one["path"]).name for one in rows(tmp_path / "out" / "hard_negatives.csv")}
    assert [Path(one["path"]).name for one in rows(tmp_path / "out" / "review.csv")] == ["flip.png"]


def test_negative_classes_do_not_doubt_each_other(run: Path, tmp_path: Path) -> None:
    (run / "prepare" / "classes.json").write_text(json.dumps({"classes": [*CLASSES, "parade"], "positive": 1}))
    store = tmp_path / "three.sqlite"
    for number in range(6):
        path = picture(tmp_path / "new" / f"{number}.png", number)
        place = [10.0, 0, number] if number % 2 else [0, 10.0, number]
        record(store, path, CLASSES[1], ("parade", CLASSES[0])[number % 2], 0.9, place)
    assert mine(store, "--run", run, "--out", tmp_path / "out", "--neighbours", 1) == 0
    found = rows(tmp_path / "out" / "hard_negatives.csv")
    assert sorted(one["label"] for one in found) == [CLASSES[0]] * 3 + ["parade"] * 3
    assert rows(tmp_path / "out" / "review.csv") == []


def test_the_last_decision_on_a_picture_counts(run: Path, store: Path, tmp_path: Path) -> None:
    """Judged wrongly once, then rightly or not at all: no error of the model as it is now."""
    for name, said in (("fp0.png", CLASSES[0]), ("fp1.png", None)):
        one = Seen(key=f"again {name}", time=2, bundle_id="c", policy="p", label=said, score=0.1)
        with FeedbackStore(store) as opened:
            opened.add([attrs.evolve(one, path=str(tmp_path / "new" / name), features=[10.0, 0, 0, 0])])
            opened.label([Label(key=one.key, label=CLASSES[0], time=2)])
    assert mine(store, "--run", run, "--out", tmp_path / "out", "--neighbours", 2) == 0
    names = {Path(one["path"]).name for one in rows(tmp_path / "out" / "hard_negatives.csv")}
    assert "fp2.png" in names
    assert names.isdisjoint({"fp0.png", "fp1.png"})


def test_what_is_held_out_or_near_to_it_is_refused(run: Path, store: Path, tmp_path: Path) -> None:
    known = tmp_path / "known"
    small = tmp_path / "new" / "smaller.jpg"
    Image.open(known / "test.png").resize((80, 80)).save(small, quality=80)
    (tmp_path / "new" / "calib-copy.png").write_bytes((known / "val_calib.png").read_bytes())
    for path in (small, tmp_path / "new" / "calib-copy.png", known / "train.png"):
        record(store, path, CLASSES[1], CLASSES[0], 0.99, [10.0, 0, 0, 0])
    assert mine(store, "--run", run, "--out", tmp_path / "out", "--neighbours", 2) == 0
    names = {Path(one["path"]).name for one in rows(tmp_path / "out" / "hard_negatives.csv")}
    assert names.isdisjoint({"smaller.jpg", "calib-copy.png", "train.png"})
    counts = json.loads((tmp_path / "out" / "mined.json").read_bytes())["counts"]
    assert counts["near to a held-out picture"] == counts["in a held-out split"] == counts["in train already"] == 1


@pytest.mark.parametrize("split", ["val_select", "val_calib", "test"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_look_alike_of_any_held_out_split_is_refused_even_where_that_is_gone(
    run: Path, tmp_path: Path, split: str, gone: bool
) -> None:
    small = tmp_path / "smaller.jpg"
    Image.open(tmp_path / "known" / f"{split}.png").resize((80, 80)).save(small, quality=80)
    if gone:
        (tmp_path / "known" / f"{split}.png").unlink()
    held_out = HeldOut(run)
    [seen] = held_out.look([str(small)], 10**6)
    assert seen is not None
    assert held_out.refuses(seen) == "near to a held-out picture"


def test_a_like_hash_alone_does_not_refuse_a_picture_that_looks_different(run: Path, tmp_path: Path) -> None:
    held_out = HeldOut(run)
    [seen] = held_out.look([str(picture(tmp_path / "new.png", 5))], 10**6)
    assert seen is not None
    assert held_out.refuses(attrs.evolve(seen, phash=int(held_out.tables["test"][0].phash, 16))) is None


def test_the_cap_holds_for_each_type(run: Path, store: Path, tmp_path: Path) -> None:
    assert mine(store, "--run", run, "--out", tmp_path / "out", "--cap", 1, "--neighbours", 2) == 0
    found = [one["error"] for one in rows(tmp_path / "out" / "hard_negatives.csv")]
    assert found == ["false_positive", "false_negative"]


def test_the_surest_mistakes_of_each_type_are_looked_at(run: Path, store: Path, tmp_path: Path) -> None:
    for name, said, score, place in (("surefp", 1, 0.999, 0), ("surefn", 0, 0.001, 1)):
        path = picture(tmp_path / "new" / f"{name}.png", 700 + place)
        record(store, path, CLASSES[said], CLASSES[1 - said], score, list(10 * np.eye(4)[place]))
    assert mine(store, "--run", run, "--out", tmp_path / "out", "--pool", 1, "--agreement", 0) == 0
    assert [Path(one["path"]).stem for one in rows(tmp_path / "out" / "hard_negatives.csv")] == ["surefp", "surefn"]


@pytest.mark.parametrize("words", [["--bundle-id", "other"], ["--days", 30]])
def test_predictions_of_other_bundles_and_older_ones_are_left_out(
    run: Path, store: Path, tmp_path: Path, words: list[object]
) -> None:
    assert mine(store, "--run", run, "--out", tmp_path / "out", *words) == 1


def test_the_manifest_is_read_by_the_dataset(run: Path, store: Path, tmp_path: Path) -> None:
    from roadwork_core.evaluation.labelled_set import dataset_for
    from roadwork_core.kinds import DatasetContext
    from roadwork_core.plugins import Plugins

    mine(store, "--run", run, "--out", tmp_path / "out", "--neighbours", 2)
    component = dataset_for(str(tmp_path / "out" / "hard_negatives.csv"), [], Plugins.load())
    samples = component.build(DatasetContext(cache_dir=tmp_path / "cache", seed=0, report=print))
    assert all(sample.path.is_file() and sample.split == "train" for sample in samples)
    assert len(samples) == 6


def test_mining_twice_gives_the_same_bytes(run: Path, store: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        mine(store, "--run", run, "--out", tmp_path / name, "--neighbours", 2)
    for file in ("hard_negatives.csv", "review.csv", "sheet.jpg"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_bundle_names_the_run_that_made_it(run: Path, store: Path, tmp_path: Path) -> None:
    from tests.bundle import toy

    made = toy.make(tmp_path / "made")
    runs = tmp_path / "runs"
    runs.mkdir()
    run.rename(runs / "street")
    words = (store, "--bundle", made, "--runs-dir", runs, "--out", tmp_path / "out")
    assert mine(*words) == 2
    shutil.copytree(made, runs / "street" / "bundle" / "toy")
    mine(*words)
    assert (tmp_path / "out" / "hard_negatives.csv").is_file()


def test_what_a_killed_mine_left_is_no_reason_to_refuse(run: Path, store: Path, tmp_path: Path) -> None:
    """Killed behind each of its files, and in the middle of one."""
    whole, words = tmp_path / "whole", (store, "--run", run, "--neighbours", 2, "--out")
    assert mine(*words, whole) == 0
    for count in range(len(WRITTEN)):
        out = tmp_path / f"killed-{count}"
        out.mkdir()
        for name in WRITTEN[:count]:
            shutil.copy(whole / name, out)
        (out / f".{WRITTEN[count]}.a8x0").write_text("half")
        assert mine(*words, out) == 0
        assert {path.name for path in out.iterdir()} == set(WRITTEN)
        assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in WRITTEN if name != "mined.json")


@pytest.mark.parametrize(
    "words", [["--cap", "0"], ["--agreement", "2"], ["--days", "nan"], ["--run", "nowhere"], ["--out", "new"]]
)
def test_wrong_usage_is_refused(
    run: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mine(store, "--run", run, *words) == 2


def test_predictions_without_labels_are_no_errors(run: Path, tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "f.sqlite") as store:
        store.add([Seen(key="a", time=1, bundle_id="b", policy="p", label="roadwork", score=0.9, path="x.png")])
    assert mine(tmp_path / "f.sqlite", "--run", run, "--out", tmp_path / "out") == 1
