"""What is too large, too many, too slow or not allowed is refused with one line that gives nothing away."""

from __future__ import annotations

import base64
import io
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from .conftest import TOKEN, Served, Site, png

LIMITS = ("--max-body", "1", "--max-images", "3", "--max-pixels", "20000", "--timeout", "3", "--workers", "1")


@pytest.fixture(scope="module")
def strict(site: Site, bundle: Path) -> Iterator[Served]:
    with site.serve(bundle, *LIMITS, ROADWORK_SERVE_TOKEN=TOKEN) as server:
        yield server


@pytest.fixture
def client(strict: Served) -> Iterator[httpx.Client]:
    with strict.client(headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    text = answer.text
    assert not any(part in text for part in ("Traceback", "File ", ".py", "/site", "/toy")), text


def test_a_body_over_the_limit_declared_or_not(client: httpx.Client) -> None:
    body = b"x" * (2**20 + 1)
    refused(client.post("/predict", content=body), 413, "too_large")
    refused(client.post("/predict", content=iter([body[: 2**19]] * 3)), 413, "too_large")
    assert client.post("/predict", content=png(3)).status_code == 200


def test_more_pictures_than_the_limit_in_every_form(client: httpx.Client) -> None:
    text = base64.b64encode(png(3)).decode()
    refused(client.post("/predict", json={"images": [text] * 4}), 413, "too_many_images")
    refused(client.post("/predict", files=[("image", ("x.png", png(3)))] * 4), 413, "too_many_images")
    refused(client.post("/predict", files=[("image", ("x.png", png(3)))] * 40), 413, "too_many_images")
    tensor = {"name": "image", "datatype": "BYTES", "shape": [4], "data": [text] * 4}
    refused(client.post("/v2/models/toy/infer", json={"inputs": [tensor]}), 413, "too_many_images")
    assert client.post("/predict", json={"images": [text] * 3}).status_code == 200


def test_a_picture_that_would_not_fit_in_memory_is_not_decoded(client: httpx.Client) -> None:
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    start = time.monotonic()
    answer = client.post("/predict", content=stream.getvalue())
    refused(answer, 422, "bad_image")
    assert "more than the limit of 20000" in answer.text
    assert time.monotonic() - start < 5


def test_the_pixels_of_a_request_count_together(client: httpx.Client) -> None:
    files = [("image", ("x.png", png(3, (100, 80))))] * 3
    refused(client.post("/predict", files=files), 413, "too_many_pixels")
    assert client.post("/predict", files=files[:2]).status_code == 200
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 200, 200, 3], "data": []}
    refused(client.post("/v2/models/toy/infer", json={"inputs": [tensor]}), 413, "too_many_pixels")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN])
def test_without_the_token_there_is_no_answer(strict: Served, header: str) -> None:
    with strict.client(headers={"authorization": header} if header else {}) as client:
        for method, path in [
            ("POST", "/predict"),
            ("POST", "/ImageSynapse"),
            ("GET", "/metrics"),
            ("GET", "/bundle"),
            ("GET", "/v2/models/toy"),
            ("POST", "/v2/models/toy/infer"),
            ("POST", "/admin/reload"),
            ("GET", "/nowhere"),
        ]:
            answer = client.request(method, path, content=png(3) if method == "POST" else None)
            refused(answer, 401, "unauthorised")
            assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_the_token_is_never_logged_and_reload_takes_it(strict: Served, client: httpx.Client) -> None:
    assert client.post("/admin/reload").json()["switched"] is False
    assert TOKEN not in str(strict.log)


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"content": b""}, 400, "no_image"),
        ({"json": {}}, 400, "no_image"),
        ({"json": {"image": "x", "images": []}}, 400, "bad_request"),
        ({"json": {"image": "not base64!"}}, 400, "bad_base64"),
        ({"json": {"picture": "eA=="}}, 400, "bad_request"),
        ({"json": [1]}, 400, "bad_request"),
        ({"json": {"image": "eA==", "must_answer": "yes"}}, 400, "bad_request"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "bad_request"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "bad_request"),
        ({"content": b"x", "headers": {"content-type": "text/html"}}, 415, "content_type"),
        ({"content": b"x", "headers": {"content-encoding": "gzip"}}, 415, "encoding"),
        ({"content": png(3), "params": {"policy": "nobody"}}, 400, "bad_choice"),
        ({"content": png(3), "params": {"mode": "fast", "policy": "threshold"}}, 400, "bad_choice"),
        ({"content": b"\x89PNG\r\n\x1a\n" + b"\0" * 64}, 422, "bad_image"),
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense(client: httpx.Client, options: dict[str, Any], status: int, code: str) -> None:
    refused(client.post("/predict", **options), status, code)


@pytest.mark.parametrize(
    "tensor",
    [
        {"name": "other", "datatype": "BYTES", "shape": [1], "data": ["eA=="]},
        {"name": "image", "datatype": "FP32", "shape": [1], "data": ["eA=="]},
        {"name": "image", "datatype": "BYTES", "shape": [2], "data": ["eA=="]},
        {"name": "image", "datatype": "BYTES", "shape": [1], "data": [1]},
        {"name": "image", "datatype": "BYTES", "shape": [-1], "data": ["eA=="]},
        {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}},
        {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2]},
        {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 256]},
        {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 4], "data": [1, 2, 3, 4]},
        {"name": "pixels", "datatype": "UINT8", "shape": [], "data": []},
    ],
    ids=str,
)
def test_a_tensor_that_makes_no_sense(client: httpx.Client, tensor: dict[str, Any]) -> None:
    refused(client.post("/v2/models/toy/infer", json={"inputs": [tensor]}), 400, "bad_request")


def test_what_is_not_there(client: httpx.Client) -> None:
    refused(client.get("/nowhere"), 404, "not_found")
    refused(client.get("/predict"), 405, "method_not_allowed")
    refused(client.get("/v2/models/toy%2f..%2fother"), 404, "not_found")


def test_an_upload_that_stalls_is_given_up(strict: Served) -> None:
    host, port = strict.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n"
        )
        connection.sendall(head.encode() + b"x")
        start = time.monotonic()
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert 2 < time.monotonic() - start < 20


@pytest.mark.parametrize("path", ["/predict", "/ImageSynapse", "/v2/models/toy/infer"])
def test_a_client_that_goes_away_is_no_failure(strict: Served, client: httpx.Client, path: str) -> None:
    host, port = strict.url.removeprefix("http://").split(":")
    mark = f"gone.{path.rpartition('/')[2]}"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        f"Content-Length: 1000\r\nX-Request-ID: {mark}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + b"x")
    end = time.monotonic() + 30
    while not (found := [event for event in strict.events("request") if event["request_id"] == mark]):
        assert time.monotonic() < end, "the log does not know of it"
        time.sleep(0.05)
    assert [event["status"] for event in found] == [499]
    assert strict.events("failure") == []
    assert client.post("/predict", content=png(3)).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(site: Site, bundle: Path) -> None:
    options = ("--timeout", "1", "--workers", "1", "--verify", "load")
    with site.serve(bundle, *options, TOY_SECONDS="3") as server, server.client() as client:
        answer = client.post("/predict", content=png(3))
        refused(answer, 504, "timeout")
        # The worker is still busy, so the next one never begins.
        waiting = client.post("/predict", content=png(3))
        refused(waiting, 503, "timeout")
        assert int(waiting.headers["retry-after"]) >= 1
        end = time.monotonic() + 30
        while "roadwork_in_flight 0.0" not in client.get("/metrics").text:
            assert time.monotonic() < end, "what was given up counts for ever"
            time.sleep(0.1)


def test_reload_without_a_token_is_refused(served: Served) -> None:
    with served.client() as client:
        refused(client.post("/admin/reload"), 403, "no_token")


def test_zero_sized_pictures_and_noise_do_not_harm(client: httpx.Client) -> None:
    draws = np.random.default_rng(0)
    start = png(3)
    for _ in range(40):
        damaged = bytearray(start)
        for place in draws.integers(0, len(start), 4):
            damaged[place] = draws.integers(0, 256)
        assert client.post("/predict", content=bytes(damaged)).status_code in (200, 422)
