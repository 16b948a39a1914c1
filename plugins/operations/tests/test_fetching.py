"""A document over HTTP against a real server that misbehaves in every way that it can."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from roadwork_operations.fetching import Fetcher, check_url

from roadwork_core.errors import RoadworkError, UsageError


class Misbehaving(BaseHTTPRequestHandler):
    """Does what the path says."""

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        getattr(self, f"on_{self.path.strip('/').split('?')[0]}")()

    def _say(self, code: int, body: bytes = b"[]", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def on_good(self) -> None:
        self._say(200, b'[{"name": "a", "score": 1}]')

    def on_broken(self) -> None:
        self._say(500)

    def on_recovers(self) -> None:
        self._say(200 if len(self.server.seen) > 2 else 503)  # type: ignore[attr-defined]

    def on_busy(self) -> None:
        self._say(200) if len(self.server.seen) > 1 else self._say(429, Retry_After="7")  # type: ignore[attr-defined]

    def on_forbidden(self) -> None:
        self._say(403)

    def on_elsewhere(self) -> None:
        self._say(302, Location=f"http://127.0.0.1:{self.server.server_port}/good")  # type: ignore[attr-defined]

    def on_hangs(self) -> None:
        time.sleep(1.0)

    def on_drips(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        for _ in range(20):
            try:
                self.wfile.write(b"x")
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)

    def on_huge(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(b"x" * 10_000)
        except OSError:
            return

    def on_short(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"[")

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    made.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def get(server: ThreadingHTTPServer, path: str, **options: Any) -> tuple[bytes, list[float]]:
    waits: list[float] = []
    settings = {"timeout": 0.3, "attempts": 3, "sleep": waits.append, "draw": lambda low, high: high, **options}
    token = settings.pop("token", None)
    return Fetcher(**settings).get(f"http://127.0.0.1:{server.server_port}/{path}", token=token), waits


def test_a_good_answer_needs_one_attempt_and_gets_the_token(server: Any) -> None:
    assert get(server, "good", token="s3cret") == (b'[{"name": "a", "score": 1}]', [])
    assert server.seen == [("/good", "Bearer s3cret")]


def test_what_recovers_is_asked_again_after_longer_and_longer_waits(server: Any) -> None:
    assert get(server, "recovers", backoff=0.5) == (b"[]", [0.5, 1.0])


def test_a_server_may_name_its_own_wait(server: Any) -> None:
    assert get(server, "busy")[1] == [7.0]


@pytest.mark.parametrize(
    ("path", "said", "attempts"),
    [
        ("broken", "did not answer in 3 attempts: HTTP 500", 3),
        ("hangs", "nothing within 0.3 s", 3),
        ("drips", "not whole within 0.3 s", 3),
        ("short", "broke off", 3),
        ("forbidden", "HTTP 403 \\(is the token right", 1),
        ("elsewhere", "redirects elsewhere \\(HTTP 302\\)", 1),
        ("huge", "more than 100,000 bytes", 1),
    ],
)
def test_what_cannot_be_had_is_one_clear_error(server: Any, path: str, said: str, attempts: int) -> None:
    with pytest.raises(RoadworkError, match=said) as caught:
        get(server, f"{path}?key=private", max_bytes=100_000, token="s3cret")
    assert len(server.seen) == attempts
    assert "s3cret" not in str(caught.value)
    assert "private" not in str(caught.value)


def test_nobody_there_is_tried_again() -> None:
    waits: list[float] = []
    with pytest.raises(RoadworkError, match="did not answer in 2 attempts"):
        Fetcher(attempts=2, sleep=waits.append).get("http://127.0.0.1:9/")
    assert len(waits) == 1


@pytest.mark.parametrize(
    "url",
    ["http://example.org/", "ftp://127.0.0.1/", "file:///etc/passwd", "https://", "http://127.0.0.1.example.org/", "x"],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not https"):
        check_url(url)


def test_a_password_in_the_address_is_refused_unsaid() -> None:
    with pytest.raises(UsageError) as caught:
        check_url("https://me:hidden@example.org/")
    assert "hidden" not in str(caught.value)
