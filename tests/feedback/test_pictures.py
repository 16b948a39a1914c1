"""A picture lies there exactly as long as a prediction of it is kept, whoever writes or is killed meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadwork_core.cli import main
from roadwork_core.feedback import FeedbackStore, Label, PictureFolder, Seen

#: Ends without a word between the picture and the prediction of it.
KILLED = """
import os, sys
from pathlib import Path
from roadwork_core.feedback import FeedbackStore, PictureFolder, Seen

def predictions(folder):
    for number in range(3):
        place = folder.put(b"\\x89PNG%d" % number, f"{number:064x}")
        yield Seen(key=str(number), time=1, bundle_id="b", policy="p", label="x", score=0.5, path=str(place),
                   sha256=f"{number:064x}")
    os._exit(9)

FeedbackStore(Path(sys.argv[1])).add(predictions(PictureFolder(Path(sys.argv[2]))))
"""


def content(name: str) -> bytes:
    return b"\x89PNG" + name.encode()


def digest(name: str) -> str:
    return hashlib.sha256(content(name)).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.sqlite") as store:
        yield store


@pytest.fixture
def pictures(tmp_path: Path) -> PictureFolder:
    (tmp_path / "kept").mkdir()
    return PictureFolder(tmp_path / "kept")


def seen(key: str, name: str, time: float = 1.0, path: Path | None = None) -> Seen:
    where = None if path is None else str(path)
    return Seen(key=key, time=time, bundle_id="b", policy="p", label="x", score=0.5, path=where, sha256=digest(name))


def keep(store: FeedbackStore, pictures: PictureFolder, key: str, name: str, time: float) -> Path:
    place = pictures.put(content(name), digest(name))
    store.add([seen(key, name, time, place)])
    return place


def names(pictures: PictureFolder) -> set[str]:
    return {path.name for _, path in pictures.files()}


def test_pictures_go_with_their_last_prediction(store: FeedbackStore, pictures: PictureFolder) -> None:
    old, twice, new = (keep(store, pictures, name, name, time) for name, time in (("a", 1), ("b", 2), ("c", 9)))
    keep(store, pictures, "b again", "b", 8)
    # A file's own time says nothing: a picture that comes again is not written again.
    for path in (old, twice, new):
        os.utime(path, (0, 0))
    assert store.prune(before=5) == 2
    assert store.prune_pictures(pictures) == 1
    assert (old.exists(), twice.exists(), new.exists()) == (False, True, True)
    assert store.prune(keep=1) == 1
    assert store.prune_pictures(pictures) == 1
    assert names(pictures) == {new.name}
    assert store.prune_pictures(pictures) == 0


def test_a_prediction_without_its_picture_keeps_none(store: FeedbackStore, pictures: PictureFolder) -> None:
    keep(store, pictures, "with", "a", 1)
    store.add([seen("without", "a", 9)])
    store.label([Label(sha256=digest("a"), label="x", time=9)])
    store.prune(before=5)
    assert store.prune_pictures(pictures) == 1


def test_what_a_killed_writer_left_goes(tmp_path: Path, store: FeedbackStore, pictures: PictureFolder) -> None:
    words = [sys.executable, "-c", KILLED, str(store.path), str(tmp_path / "kept")]
    assert subprocess.run(words, check=False, timeout=60).returncode == 9
    assert len(names(pictures)) == 3
    unfinished = tmp_path / "kept" / "00" / ("." + 32 * "a")
    unfinished.write_bytes(b"\x89PN")
    kept = keep(store, pictures, "k", "k", 1)
    assert store.prune_pictures(pictures) == 4
    assert names(pictures) == {kept.name}


def test_nothing_that_is_not_the_stores_is_touched(
    tmp_path: Path, store: FeedbackStore, pictures: PictureFolder
) -> None:
    name = digest("a")
    others = [
        tmp_path / "kept" / "holiday.jpg",
        tmp_path / "kept" / "2024" / f"{name}.jpg",
        tmp_path / "kept" / "zz" / f"{name}.jpg",
        tmp_path / "kept" / name[:2] / "street.jpg",
        tmp_path / "kept" / name[:2] / f"{name}.jpg.txt",
        tmp_path / "kept" / f"{int(name[:2], 16) ^ 1:02x}" / f"{name}.jpg",
        tmp_path / "elsewhere" / f"{name}.jpg",
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    (tmp_path / "kept" / "ab").symlink_to(tmp_path / "elsewhere")
    assert store.prune_pictures(pictures) == 0
    assert all(path.exists() for path in others)


def test_a_picture_whose_prediction_is_being_written_stays(tmp_path: Path, store: FeedbackStore) -> None:
    """The writer is stopped between the two, while another prunes."""
    pictures, place = PictureFolder(tmp_path / "kept"), tmp_path
    written, on = threading.Event(), threading.Event()

    def write() -> None:
        def predictions() -> Iterator[Seen]:
            nonlocal place
            place = pictures.put(content("a"), digest("a"))
            written.set()
            on.wait(20)
            yield seen("a", "a", path=place)

        with FeedbackStore(store.path) as own:
            own.add(predictions())

    writer = threading.Thread(target=write)
    writer.start()
    assert written.wait(20)
    threading.Timer(0.3, on.set).start()
    with FeedbackStore(store.path) as other:
        assert other.prune_pictures(pictures) == 0
    writer.join(20)
    assert place.read_bytes() == content("a")


def test_the_command_removes_both(tmp_path: Path, store: FeedbackStore, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = PictureFolder(tmp_path / "kept")
    keep(store, pictures, "a", "a", 1)
    words = ["feedback", "prune", str(store.path), "--days", "1", "--pictures", str(tmp_path / "kept"), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": "roadwork.feedback-prune/1", "removed": 1, "pictures": 1}
    assert names(pictures) == set()
    assert main([*words[:3], "--pictures", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_store_without_the_index_gets_it(tmp_path: Path, store: FeedbackStore, pictures: PictureFolder) -> None:
    keep(store, pictures, "a", "a", 1)
    store._connection.execute("DROP INDEX predictions_picture")
    assert store.prune_pictures(pictures) == 0
    plan = "EXPLAIN QUERY PLAN SELECT sha256 FROM predictions WHERE path IS NOT NULL AND sha256 IN ('a')"
    assert "predictions_picture" in str(store._connection.execute(plan).fetchall())
