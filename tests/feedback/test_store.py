"""The feedback store keeps what it acknowledged, whoever writes at once and whoever is killed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadwork_core.cli import main
from roadwork_core.errors import UsageError
from roadwork_core.feedback import FeedbackStore, Label, Seen
from roadwork_core.feedback.exchange import BATCH

ROOT = Path(__file__).parents[2]


def seen(key: str, **more: Any) -> Seen:
    given: dict[str, Any] = {"key": key, "time": 1.0, "bundle_id": "b1", "policy": "p", "label": "x", "score": 0.5}
    return Seen(**(given | more))


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback.sqlite")


def test_a_store_that_another_makes_meanwhile_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, count = tmp_path / "feedback.sqlite", FeedbackStore._count_tables

    def quicker(self: FeedbackStore) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(FeedbackStore, "_count_tables", count)
            FeedbackStore(path).close()
        return count(self)

    monkeypatch.setattr(FeedbackStore, "_count_tables", quicker)
    with FeedbackStore(path) as store:
        assert store.add([seen("a")]) == 1


# A new file on a disk that others use takes its time.
@settings(deadline=None)
@given(
    logits=st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    features=st.none() | st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
    label=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    score=st.floats(0, 1),
)
def test_what_is_written_is_read_to_the_last_bit(
    logits: list[float] | None, features: list[float] | None, label: str | None, score: float
) -> None:
    one = seen("k", logits=logits, features=features, label=label, score=score)
    with tempfile.TemporaryDirectory() as folder, FeedbackStore(Path(folder) / "f.sqlite") as store:
        store.add([one])
        assert [found.seen for found in store.read()] == [one]


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": 1.5},
        {"score": float("nan")},
        {"logits": (float("inf"),)},
        # A finite number that float32 does not hold would come back as infinite.
        {"features": (1e300,)},
        {"time": 1_764_300_000_000},
        {"time": float("nan")},
        {"time": -1.0},
    ],
)
def test_what_is_no_prediction_is_not_taken(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        seen("k", **wrong)


def test_a_prediction_is_written_once(store: FeedbackStore) -> None:
    assert store.add([seen("a"), seen("b"), seen("a", score=0.9)]) == 2
    assert [found.seen.score for found in store.read()] == [0.5, 0.5]


def test_a_label_finds_its_prediction_by_key_digest_or_path_in_that_order(store: FeedbackStore) -> None:
    store.add([seen("a", sha256="s", path="p"), seen("b", sha256="s", path="p"), seen("c", path="p"), seen("d")])
    store.label([Label(path="p", label="by path", time=1), Label(sha256="s", label="by digest", time=1)])
    store.label([Label(key="a", label="by key", time=1)])
    assert [found.truth for found in store.read()] == ["by key", "by digest", "by path", None]


def test_a_label_may_come_first_and_the_later_one_stays(store: FeedbackStore) -> None:
    store.label([Label(key="a", label="new", time=2)])
    store.label([Label(key="a", label="old", time=1)])
    store.add([seen("a")])
    assert [found.truth for found in store.read(labelled=True)] == ["new"]


def test_counts_are_those_of_the_rows(store: FeedbackStore) -> None:
    store.add([seen("a"), seen("b", label=None), seen("c", bundle_id="b2"), seen("d")])
    store.label(
        [Label(key="a", label="y", time=1), Label(key="b", label="y", time=1), Label(key="d", label="x", time=1)]
    )
    assert store.stats()["bundles"] == {
        "b1": {"predictions": 3, "labelled": 3, "wrong": 1, "abstained": 1},
        "b2": {"predictions": 1, "labelled": 0, "wrong": 0, "abstained": 0},
    }


def test_retention_removes_the_old_and_labels_of_nothing(store: FeedbackStore) -> None:
    store.add([seen(f"k{number}", time=number) for number in reversed(range(10))])
    store.label([Label(key=f"k{number}", label="x", time=number) for number in reversed(range(10))])
    assert store.prune(before=4) == 4
    assert store.stats()["labels"] == 6
    assert store.prune(keep=2) == 4
    assert [found.seen.key for found in store.read()] == ["k9", "k8"]


def test_a_file_of_another_program_is_refused_and_unchanged(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    text = tmp_path / "text"
    text.write_text("no database at all, but a text that is long enough to be one" * 20)
    for path in (other, text):
        before = path.read_bytes()
        with pytest.raises(UsageError, match="is not a feedback store"):
            FeedbackStore(path)
        assert path.read_bytes() == before


def test_many_writers_and_one_killed_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "feedback.sqlite"
    command = [sys.executable, "-m", "tests.feedback.writer", str(path)]
    writers = [
        subprocess.Popen([*command, name, "60"], cwd=ROOT, stdout=subprocess.PIPE, text=True) for name in ("a", "b")
    ]
    victim = subprocess.Popen([*command, "victim", "100000"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    acknowledged = [victim.stdout.readline().strip() for _ in range(20)]
    victim.kill()
    acknowledged += victim.communicate()[0].split()
    for writer in writers:
        acknowledged += writer.communicate(timeout=60)[0].split()
        assert writer.returncode == 0
    with FeedbackStore(path) as store:
        found = {one.seen.key: one.truth for one in store.read()}
    assert {key: found.get(key) for key in acknowledged} == dict.fromkeys(acknowledged, "y")
    assert {"a-59", "b-59", "victim-19"} <= set(acknowledged)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_an_import_that_is_killed_leaves_whole_batches_and_the_same_command_adds_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, store = 40_000, tmp_path / "f.sqlite"
    lines = [json.dumps({"key": f"k{number}", "score": 0.5, "label": "x", "truth": "y"}) for number in range(rows)]
    (tmp_path / "said.jsonl").write_text("\n".join(lines))
    words = ["feedback", "import", str(store), str(tmp_path / "said.jsonl"), "--json"]
    with FeedbackStore(store) as opened:
        process = subprocess.Popen([sys.executable, "-m", "roadwork_core", *words], stdout=subprocess.DEVNULL)
        while not opened.holds("k0"):
            assert process.poll() is None
        process.kill()
        process.wait()
        there = opened.stats()["predictions"]
    assert 0 < there < rows
    assert there % (BATCH // 2) == 0
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["predictions"] == rows - there
    with FeedbackStore(store) as opened:
        found = opened.stats()
    assert (found["predictions"], found["labelled"], found["wrong"]) == (rows, rows, rows)


def test_retention_beside_writers_takes_nothing_that_is_not_old(tmp_path: Path) -> None:
    path = tmp_path / "feedback.sqlite"
    command = [sys.executable, "-m", "tests.feedback.writer", str(path)]
    writers = [
        subprocess.Popen([*command, name, "60"], cwd=ROOT, stdout=subprocess.PIPE, text=True) for name in ("a", "b")
    ]
    with FeedbackStore(path) as store:
        while any(writer.poll() is None for writer in writers):
            store.prune(before=20)
        assert [writer.communicate()[0].count("\n") for writer in writers] == [60, 60]
        store.prune(before=20)
        found = {one.seen.key: one.truth for one in store.read()}
    assert found == {f"{name}-{number}": "y" for name in ("a", "b") for number in range(20, 60)}


def test_a_table_is_imported_once_and_labels_join_by_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.jpg").write_bytes(b"picture")
    said = [
        {"path": "one.jpg", "label": "roadwork", "abstain": False, "score": 0.9, "policy": "threshold"},
        {"path": "two.jpg", "label": None, "abstain": True, "score": 0.5, "policy": "threshold", "logits": [0.0, 0.1]},
        {"path": "bad.jpg", "error": "cannot be read"},
    ]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    (tmp_path / "truth.csv").write_text("path,truth\none.jpg,no_roadwork\n")
    store = str(tmp_path / "f.sqlite")
    for expected in ({"predictions": 2, "labels": 0}, {"predictions": 0, "labels": 0}):
        assert main(["feedback", "import", store, str(tmp_path / "said.jsonl"), "--bundle-id", "b1", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert {name: document[name] for name in expected} == expected
    assert main(["feedback", "import", store, str(tmp_path / "truth.csv")]) == 0
    capsys.readouterr()
    assert main(["feedback", "stats", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bundles"]["b1"] == {
        "predictions": 2,
        "labelled": 1,
        "wrong": 1,
        "abstained": 1,
    }


def test_a_file_of_labels_given_again_takes_back_no_later_correction(
    tmp_path: Path, store: FeedbackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "truth.csv"
    table.write_text("key,truth\na,roadwork\nb,roadwork\n")
    os.utime(table, (1000, 1000))
    store.add([seen("a"), seen("b")])
    written = []
    for correction in ([], [Label(key="a", label="no_roadwork", time=2000)]):
        store.label(correction)
        assert main(["feedback", "import", str(store.path), str(table), "--json"]) == 0
        written.append(json.loads(capsys.readouterr().out)["labels"])
    assert written == [2, 0]
    assert [found.truth for found in store.read()] == ["no_roadwork", "roadwork"]
    # Whoever changes the file says something new.
    table.write_text("key,truth\na,roadwork\nb,roadwork\n")
    assert main(["feedback", "import", str(store.path), str(table)]) == 0
    assert [found.truth for found in store.read()] == ["roadwork", "roadwork"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("path,score\na.jpg,high", "could not convert"),
        ("path,score\na.jpg,7", "in [0, 1]"),
        ("score\n0.5", "names no"),
        ("path,score,time\na.jpg,0.5,1764300000000", "in seconds since 1970"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, told: str
) -> None:
    (tmp_path / "said.csv").write_text(f"{line}\n")
    assert main(["feedback", "import", str(tmp_path / "f.sqlite"), str(tmp_path / "said.csv")]) == 2
    shown = capsys.readouterr().err
    assert "said.csv:2" in shown
    assert told in shown


def test_parquet_holds_what_the_store_holds(tmp_path: Path, store: FeedbackStore) -> None:
    store.add([seen("a", logits=(1.0, 2.0), features=(0.5,)), seen("b", label=None)])
    store.label([Label(key="a", label="y", time=1)])
    assert main(["feedback", "export", str(store.path), str(tmp_path / "out.parquet"), "--quiet"]) == 0
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["key"], row["truth"], row["logits"]) for row in rows] == [("a", "y", [1.0, 2.0]), ("b", None, None)]
    assert rows[0]["time"].timestamp() == 1.0
    assert main(["feedback", "export", str(tmp_path / "none.sqlite"), str(tmp_path / "x.parquet")]) == 2
    assert main(["feedback", "export", str(store.path), str(tmp_path)]) == 2
