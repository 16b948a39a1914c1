"""What a server said is in the feedback store, a label reaches it by its key, and neither costs an answer anything."""

from __future__ import annotations

import base64
import hashlib
import io
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from roadwork_serving.recorder import LabelledOtherwiseError, QueueFullError, Recorder, UnknownKeyError, prepare
from roadwork_serving.telemetry import Telemetry

from roadwork_core.bundle import Prediction
from roadwork_core.errors import RoadworkError, UsageError
from roadwork_core.feedback import FeedbackStore, Label, PictureFolder, Recorded

from .conftest import TOKEN, Served, Site, pixels, png

AUTHORISED = {"authorization": f"Bearer {TOKEN}"}


def stored(path: Path) -> dict[str, Recorded]:
    with FeedbackStore(path, create=False) as store:
        return {found.seen.key: found for found in store.read()}


def once_stored(path: Path, keys: set[str]) -> dict[str, Recorded]:
    end = time.monotonic() + 20
    while not keys <= stored(path).keys():
        assert time.monotonic() < end, "the store has not got them"
        time.sleep(0.05)
    return stored(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="module")
def keeping(site: Site, bundle: Path, folder: Path) -> Iterator[Served]:
    words = ("--feedback", str(folder / "f.sqlite"), "--feedback-pictures", str(folder / "pictures"))
    with site.serve(bundle, *words, ROADWORK_SERVE_TOKEN=TOKEN) as server:
        yield server


@pytest.fixture
def client(keeping: Served) -> Iterator[httpx.Client]:
    with keeping.client(headers=AUTHORISED) as client:
        yield client


def test_every_way_in_is_kept_with_its_picture(client: httpx.Client, keeping: Served, folder: Path) -> None:
    text = base64.b64encode(png(2)).decode()
    raw = client.post("/predict", content=png(1, form="JPEG")).json()["predictions"]
    json = client.post("/predict", json={"images": [text, base64.b64encode(b"broken").decode()]}).json()["predictions"]
    form = client.post("/predict", files=[("image", ("street.png", png(3)))]).json()["predictions"]
    synapse = client.post("/ImageSynapse", json={"image": text}).headers["x-prediction-key"]
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [12, 10, 3], "data": pixels(4).ravel().tolist()}
    outputs = client.post("/v2/models/toy/infer", json={"inputs": [tensor]}).json()["outputs"]
    infer = next(output["data"][0] for output in outputs if output["name"] == "key")
    answers = [raw[0], json[0], form[0]]
    assert json[1]["key"] is None
    found = once_stored(folder / "f.sqlite", {*(answer["key"] for answer in answers), synapse, infer})
    for answer, content in zip(answers, (png(1, form="JPEG"), png(2), png(3)), strict=True):
        seen = found[answer["key"]].seen
        assert (seen.label, seen.score, seen.policy) == (answer["label"], answer["score"], answer["policy"])
        assert seen.bundle_id == keeping.facts["bundle_id"]
        assert seen.sha256 == hashlib.sha256(content).hexdigest()
        assert Path(str(seen.path)).read_bytes() == content
        assert seen.logits is not None
        assert seen.features is not None
        # The toy's score is the sigmoid of its margin, and its margin six times its first feature.
        margin = seen.logits[1] - seen.logits[0]
        assert 1 / (1 + np.exp(-margin)) == pytest.approx(answer["score"], abs=1e-12)
        assert 6 * seen.features[0] == pytest.approx(margin, abs=1e-5)
    assert Path(str(found[answers[0]["key"]].seen.path)).suffix == ".jpg"
    assert found[synapse].seen.path == found[answers[1]["key"]].seen.path
    assert np.array_equal(np.asarray(Image.open(str(found[infer].seen.path))), pixels(4))
    assert not list(Path(folder / "pictures").rglob(".*"))


def test_what_is_kept_is_for_its_owner_alone(keeping: Served, folder: Path) -> None:
    assert (folder / "f.sqlite").stat().st_mode & 0o077 == 0
    assert (folder / "pictures").stat().st_mode & 0o077 == 0


def ask(client: httpx.Client, margin: float = 2.0) -> str:
    answer = client.post("/predict", content=png(margin))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["predictions"][0]["key"])


def test_a_label_that_is_acknowledged_is_in_the_store(client: httpx.Client, folder: Path) -> None:
    key = ask(client)
    answer = client.post("/feedback", json={"key": key, "label": "no_roadwork", "source": "reviewer 7"})
    assert (answer.status_code, answer.json()) == (200, {"key": key, "label": "no_roadwork"})
    assert stored(folder / "f.sqlite")[key].truth == "no_roadwork"
    with sqlite3.connect(folder / "f.sqlite") as connection:
        assert connection.execute("SELECT source FROM labels WHERE subject = ?", (f"key:{key}",)).fetchall() == [
            ("reviewer 7",)
        ]


def test_another_label_takes_its_place_only_where_it_is_told_to(client: httpx.Client, folder: Path) -> None:
    key = ask(client)
    given: list[dict[str, Any]] = [
        {"label": "roadwork"},
        {"label": "roadwork"},
        {"label": "no_roadwork"},
        {"label": "no_roadwork", "replace": True},
    ]
    found = [client.post("/feedback", json={"key": key, **one}) for one in given]
    assert [answer.status_code for answer in found] == [200, 200, 409, 200]
    assert found[2].json()["code"] == "labelled_otherwise"
    assert stored(folder / "f.sqlite")[key].truth == "no_roadwork"


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"json": {"key": "0" * 32, "label": "roadwork"}}, 404, "unknown_key"),
        ({"json": {"key": "0" * 32, "label": "road work"}}, 422, "unknown_label"),
        ({"json": {"key": "0" * 65, "label": "roadwork"}}, 400, "bad_request"),
        ({"json": {"key": "", "label": "roadwork"}}, 400, "bad_request"),
        ({"json": {"key": "0" * 32}}, 400, "bad_request"),
        ({"json": {"key": "0" * 32, "label": "roadwork", "path": "/etc/passwd"}}, 400, "bad_request"),
        ({"json": ["0" * 32]}, 400, "bad_request"),
        ({"content": b"\xff", "headers": {"content-type": "application/json"}}, 400, "bad_request"),
        ({"data": {"key": "0" * 32, "label": "roadwork"}}, 415, "content_type"),
        ({"json": {"key": "0" * 70_000, "label": "roadwork"}}, 413, "too_large"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_label_that_makes_no_sense(client: httpx.Client, options: dict[str, Any], status: int, code: str) -> None:
    answer = client.post("/feedback", **options)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_the_message_names_the_labels_that_there_are(client: httpx.Client) -> None:
    answer = client.post("/feedback", json={"key": ask(client), "label": "cone"})
    assert "no_roadwork, roadwork" in answer.json()["error"]


def test_a_server_that_keeps_nothing_says_so(served: Served) -> None:
    with served.client() as client:
        answer = client.post("/feedback", json={"key": ask(client), "label": "roadwork"})
        assert (answer.status_code, answer.json()["code"]) == (409, "no_feedback")


def test_a_token_is_asked_for(keeping: Served) -> None:
    with keeping.client() as client:
        answer = client.post("/feedback", json={"key": "0" * 32, "label": "roadwork"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorised")


def test_a_store_that_another_has_locked_delays_no_answer(client: httpx.Client, folder: Path) -> None:
    with sqlite3.connect(folder / "f.sqlite", isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        keys = {ask(client) for _ in range(5)}
        # The writer would wait 30 seconds.
        assert time.monotonic() - start < 10
        assert not keys & stored(folder / "f.sqlite").keys()
        connection.execute("ROLLBACK")
    connection.close()
    once_stored(folder / "f.sqlite", keys)
    assert 'roadwork_feedback_total{result="kept"}' in client.get("/metrics").text


def test_sigterm_writes_what_waits(site: Site, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    with site.serve(bundle, "--feedback", str(path), "--verify", "load", "--notice", "0") as server:
        with server.client() as client:
            document = {"images": [base64.b64encode(png(margin)).decode() for margin in range(8)]}
            keys = {
                row["key"] for _ in range(4) for row in client.post("/predict", json=document).json()["predictions"]
            }
        assert server.terminate() == 0
    assert len(keys) == 32
    assert keys == stored(path).keys()
    assert all(one.seen.path is None for one in stored(path).values())


def test_a_killed_server_loses_nothing_that_was_acknowledged(
    site: Site, bundle: Path, folder: Path, keeping: Served
) -> None:
    path = folder / "f.sqlite"
    words = ("--feedback", str(path), "--verify", "load")
    acknowledged: set[str] = set()
    enough, killed = threading.Event(), threading.Event()

    def label(server: Served) -> None:
        with server.client(headers=AUTHORISED) as client:
            while server is not keeping or not killed.is_set():
                try:
                    key = ask(client)
                    answer = client.post("/feedback", json={"key": key, "label": "roadwork"})
                except httpx.HTTPError:
                    return  # it was killed
                assert answer.status_code == 200, answer.text
                acknowledged.add(key)
                if len(acknowledged) >= 60:
                    enough.set()

    # Two servers, of which one is killed, and this process write to one file.
    with site.serve(bundle, *words) as victim, ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(label, server) for server in (victim, keeping) * 3]
        assert enough.wait(60)
        victim.process.kill()
        killed.set()
        for job in jobs:
            job.result(60)
    found = stored(path)
    assert {key: found[key].truth for key in acknowledged} == dict.fromkeys(acknowledged, "roadwork")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_place_that_cannot_be_kept_in_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no store, but a text that is long enough to be one" * 20)
    for store, pictures, told in [
        (tmp_path, None, "a folder"),
        (tmp_path / "text", None, "not a feedback store"),
        (tmp_path / "text" / "f.sqlite", None, "cannot be kept"),
        (tmp_path / "f.sqlite", tmp_path / "text", "cannot be kept"),
        (None, tmp_path / "pictures", "needs --feedback"),
    ]:
        with pytest.raises(UsageError, match=told):
            prepare(store, pictures)
    prepare(None, None)


# --- the queue alone ---

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
