"""What a server said is in the feedback store, a label reaches it by its key, and neither costs an answer anything."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from roadwork_serving.recorder import prepare

from roadwork_core.errors import UsageError
from roadwork_core.feedback import Recorded

from .conftest import TOKEN, Served, Site, pixels, png, stored

AUTHORISED = {"authorization": f"Bearer {TOKEN}"}


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
