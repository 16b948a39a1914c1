"""The one that writes what a server said: what does not fit, what fails, and what is on the disk when."""

from __future__ import annotations

import io
import sqlite3
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from roadwork_serving.recorder import LabelledOtherwiseError, QueueFullError, Recorder, UnknownKeyError
from roadwork_serving.telemetry import Telemetry

from roadwork_core.bundle import Prediction
from roadwork_core.errors import RoadworkError
from roadwork_core.feedback import FeedbackStore, Label, PictureFolder

from .conftest import pixels, png, stored

SAID = Prediction(path=None, label="roadwork", score=0.9, labels=("roadwork",), policy="p", logits=(0.0, 1.0))


def counted(telemetry: Telemetry, result: str) -> float:
    return telemetry.registry.get_sample_value("roadwork_feedback_total", {"result": result}) or 0.0


class Locked:
    """A store that another process writes to, until `release`."""

    def __init__(self, path: Path) -> None:
        FeedbackStore(path).close()
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("BEGIN IMMEDIATE")

    def release(self) -> None:
        self._connection.execute("ROLLBACK")
        self._connection.close()


@pytest.mark.parametrize(
    ("limits", "taken"), [({"capacity": 5}, 5), ({"capacity_bytes": 4500}, 4)], ids=["entries", "bytes"]
)
def test_what_does_not_fit_is_dropped_and_counted(tmp_path: Path, limits: dict[str, int], taken: int) -> None:
    path = tmp_path / "f.sqlite"
    locked = Locked(path)
    telemetry = Telemetry(io.StringIO())
    recorder = Recorder(path, None, telemetry, **limits)
    first = recorder.keep("b", [SAID], [b"0"])
    end = time.monotonic() + 10
    while recorder.waiting and time.monotonic() < end:
        time.sleep(0.01)  # until the writer holds it, and waits for the lock
    keys = recorder.keep("b", [SAID] * 9, [b"x"] * 9)
    assert [key is not None for key in keys] == [True] * taken + [False] * (9 - taken)
    assert counted(telemetry, "dropped") == 9 - taken
    if "capacity" in limits:
        with pytest.raises(QueueFullError):
            recorder.label(Label(key="k", label="x", time=0), replace=False)
    locked.release()
    recorder.close()
    assert stored(path).keys() == {*first, *keys[:taken]}
    assert counted(telemetry, "kept") == 1 + taken


def test_a_label_right_after_its_prediction_finds_it(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "f.sqlite", None, Telemetry(io.StringIO()))
    for _ in range(50):
        (key,) = recorder.keep("b", [SAID], [b"x"])
        recorder.label(Label(key=key, label="roadwork", time=1), replace=False).result(10)
    with pytest.raises(LabelledOtherwiseError):
        recorder.label(Label(key=key, label="other", time=2), replace=False).result(10)
    with pytest.raises(UnknownKeyError):
        recorder.label(Label(key="none", label="x", time=0), replace=True).result(10)
    recorder.close()
    assert recorder.keep("b", [SAID], [b"x"]) == [None]


def test_a_store_that_fails_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = FeedbackStore.add
    broken = True

    def failing(self: FeedbackStore, predictions: Any) -> int:
        if broken:
            raise RoadworkError("the feedback store cannot be used: disk is full")
        return add(self, predictions)

    monkeypatch.setattr(FeedbackStore, "add", failing)
    log = io.StringIO()
    telemetry = Telemetry(log)
    recorder = Recorder(tmp_path / "f.sqlite", None, telemetry)
    (key,) = recorder.keep("b", [SAID], [b"x"])
    with pytest.raises((RoadworkError, UnknownKeyError)):
        recorder.label(Label(key=key, label="roadwork", time=1), replace=False).result(10)
    assert counted(telemetry, "failed") == 1
    assert "disk is full" in log.getvalue()
    broken = False
    (key,) = recorder.keep("b", [SAID], [b"x"])
    recorder.label(Label(key=key, label="roadwork", time=1), replace=False).result(10)
    recorder.close()


def test_a_label_that_is_given_up_while_the_store_fails_does_not_end_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class GivenUp(Future[None]):
        """Cancelled by the client's side right after the writer has looked."""

        def done(self) -> bool:
            found = super().done()
            self.cancel()
            return found

    def failing(self: FeedbackStore, predictions: Any) -> int:
        raise RoadworkError("the feedback store cannot be used: disk is full")

    recorder = Recorder(tmp_path / "f.sqlite", None, Telemetry(io.StringIO()))
    with monkeypatch.context() as patch:
        patch.setattr(FeedbackStore, "add", failing)
        patch.setattr("roadwork_serving.recorder.Future", GivenUp)
        locked = Locked(tmp_path / "f.sqlite")
        recorder.keep("b", [SAID], [b"x"])
        recorder.label(Label(key="k", label="x", time=0), replace=False)
        locked.release()
        end = time.monotonic() + 10
        while recorder.waiting and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.2)
    (key,) = recorder.keep("b", [SAID], [b"x"])
    recorder.label(Label(key=key, label="roadwork", time=1), replace=False).result(10)
    recorder.close()


def test_features_that_are_no_numbers_cost_the_entry_and_nothing_else(tmp_path: Path) -> None:
    import attrs

    telemetry = Telemetry(io.StringIO())
    recorder = Recorder(tmp_path / "f.sqlite", None, telemetry)
    wrong = attrs.evolve(SAID, features=[float("nan")])
    keys = recorder.keep("b", [wrong, SAID], [b"x", b"y"])
    assert [key is not None for key in keys] == [False, True]
    assert counted(telemetry, "failed") == 1
    recorder.close()


def test_a_picture_that_cannot_be_written_is_counted_and_its_prediction_kept(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.write_text("no folder")
    telemetry = Telemetry(io.StringIO())
    recorder = Recorder(tmp_path / "f.sqlite", folder, telemetry)
    (key,) = recorder.keep("b", [SAID], [png(3)])
    recorder.close()
    assert stored(tmp_path / "f.sqlite")[str(key)].seen.path is None
    assert counted(telemetry, "picture failed") == 1


def test_no_one_prunes_between_a_picture_and_its_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, pictures = tmp_path / "f.sqlite", tmp_path / "pictures"
    FeedbackStore(path).close()
    put, told = PictureFolder.put, []

    def watched(self: PictureFolder, content: bytes, digest: str) -> Path:
        other = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            told.append(str(error))
        finally:
            other.close()
        return put(self, content, digest)

    monkeypatch.setattr(PictureFolder, "put", watched)
    recorder = Recorder(path, pictures, Telemetry(io.StringIO()))
    keys = recorder.keep("b", [SAID, SAID], [png(3), pixels(4)])
    recorder.close()
    assert told == ["database is locked"] * 2
    with FeedbackStore(path) as store:
        assert store.prune_pictures(PictureFolder(pictures)) == 0
        assert {found.seen.key for found in store.read()} == set(keys)
        assert all(Path(str(found.seen.path)).is_file() for found in store.read())
        store.prune(keep=0)
        assert store.prune_pictures(PictureFolder(pictures)) == 2
    assert [place for place in pictures.rglob("*") if place.is_file()] == []


def test_a_full_disk_leaves_no_part_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        write(self, content[:10])
        raise OSError(28, "No space left on device")

    telemetry = Telemetry(io.StringIO())
    recorder = Recorder(tmp_path / "f.sqlite", tmp_path / "pictures", telemetry)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        recorder.keep("b", [SAID], [png(3)])
        recorder.close()
    assert counted(telemetry, "picture failed") == 1
    assert [path for path in (tmp_path / "pictures").rglob("*") if path.is_file()] == []
