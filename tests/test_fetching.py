"""One request over HTTP against a real server that misbehaves in every way that it can."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from roadwork_core.errors import RoadworkError, UsageError
from roadwork_core.fetching import Fetcher, check_url, retry_after
from roadwork_core.testing.stand_in_board import Request, StandInBoard, stand_in_board

GOOD = b'[{"name": "a", "score": 1}]'
TIMEOUT = 0.3
#: What a machine that is busy may add to a time-out.
SLACK = 1.5


@pytest.fixture
def board() -> Iterator[StandInBoard]:
    with stand_in_board() as made:
        yield made


def good(request: Request) -> None:
    request.say(200, GOOD)


def broken(request: Request) -> None:
    request.say(500)


def busy(request: Request) -> None:
    request.say(429, Retry_After="7")


def busy_for_a_year(request: Request) -> None:
    request.say(503, Retry_After="31536000")


def forbidden(request: Request) -> None:
    request.say(403)


def elsewhere(request: Request) -> None:
    request.say(302, Location="/elsewhere")


def hangs(request: Request) -> None:
    time.sleep(TIMEOUT + 0.2)


def drips_its_body(request: Request) -> None:
    request.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    _drip(request)


def drips_its_headers(request: Request) -> None:
    request.raw(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _drip(request)


def _drip(request: Request) -> None:
    for _ in range(60):
        if not request.raw(b"x"):
            return
        time.sleep(0.05)


def huge(request: Request) -> None:
    request.raw(b"HTTP/1.1 200 OK\r\n\r\n")
    while request.raw(b"x" * 10_000):
        pass


def promises_too_much(request: Request) -> None:
    request.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[")


def claims_to_be_huge(request: Request) -> None:
    request.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n[")


def breaks_a_chunk(request: Request) -> None:
    request.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n[")


def says_nonsense(request: Request) -> None:
    request.raw(b"\x00\xff\x00 nonsense\r\n\r\n")


def resets(request: Request) -> None:
    request.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.handler.connection.close()


def fetcher(waits: list[float], **options: Any) -> Fetcher:
    settings: dict[str, Any] = {"timeout": TIMEOUT, "attempts": 3, "max_bytes": 100_000, **options}
    return Fetcher(sleep=waits.append, draw=lambda low, high: high, **settings)


def test_a_good_answer_needs_one_attempt_and_gets_the_token(board: StandInBoard) -> None:
    waits: list[float] = []
    board.answers = [good]
    assert fetcher(waits).get(board.url, authorization="Bearer s3cret") == GOOD
    assert waits == []
    assert [(r.method, r.path, r.headers["Authorization"]) for r in board.requests] == [
        ("GET", "/board", "Bearer s3cret")
    ]


@pytest.mark.parametrize("fault", [broken, resets, promises_too_much, says_nonsense])
def test_what_recovers_is_asked_again_after_longer_and_longer_waits(fault: Any, board: StandInBoard) -> None:
    waits: list[float] = []
    board.answers = [fault, fault, good]
    assert fetcher(waits, backoff=0.5).get(board.url) == GOOD
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize(("fault", "waited"), [(busy, 7.0), (busy_for_a_year, 60.0)])
def test_a_server_may_name_its_own_wait_up_to_a_minute(fault: Any, waited: float, board: StandInBoard) -> None:
    waits: list[float] = []
    board.answers = [fault, good]
    assert fetcher(waits).get(board.url) == GOOD
    assert waits == [waited]


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("7", 7.0),
        ("9" * 400, 999_999_999.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("-1", None),
        ("²", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_wait_is_a_number_or_a_date(value: str, wait: float | None) -> None:
    assert retry_after(value, now=10.0) == wait
    assert retry_after(None) is None


@pytest.mark.parametrize(
    ("fault", "said", "attempts"),
    [
        (broken, "did not answer in 3 attempts: HTTP 500", 3),
        (hangs, "no answer within 0.3 s|no whole answer within 0.3 s", 3),
        (drips_its_body, "no whole answer within 0.3 s", 3),
        (drips_its_headers, "no whole answer within 0.3 s|no answer within 0.3 s", 3),
        (promises_too_much, "broke off, 99 bytes are missing", 3),
        (breaks_a_chunk, "broke off", 3),
        (says_nonsense, "broke off", 3),
        (resets, "broke off|reset", 3),
        (forbidden, "HTTP 403 \\(is the token right", 1),
        (elsewhere, "redirects elsewhere \\(HTTP 302\\)", 1),
        (huge, "more than 100,000 bytes", 1),
        (claims_to_be_huge, "more than 100,000 bytes", 1),
    ],
)
def test_what_cannot_be_had_is_one_clear_error_in_time(
    fault: Any, said: str, attempts: int, board: StandInBoard
) -> None:
    board.answers = [fault]
    start = time.monotonic()
    with pytest.raises(RoadworkError, match=said) as caught:
        fetcher([]).get(f"{board.url}?key=private", authorization="Bearer s3cret")
    assert time.monotonic() - start < attempts * TIMEOUT + SLACK
    assert len(board.requests) == attempts
    assert "s3cret" not in str(caught.value)
    assert "private" not in str(caught.value)


def test_a_redirect_is_not_followed_and_takes_no_token_along(board: StandInBoard) -> None:
    board.answers = [elsewhere, good]
    with pytest.raises(RoadworkError):
        fetcher([]).get(board.url, authorization="Bearer s3cret")
    assert [request.path for request in board.requests] == ["/board"]


def test_a_listener_that_never_answers_costs_the_time_out_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(RoadworkError, match=r"answer within 0\.3 s"):
            fetcher([], attempts=1).get(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert TIMEOUT <= time.monotonic() - start < TIMEOUT + SLACK


def test_a_tls_handshake_that_never_comes_costs_the_time_out_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(RoadworkError, match=r"answer within 0\.3 s"):
            fetcher([], attempts=1).get(f"https://127.0.0.1:{silent.getsockname()[1]}/")
        assert TIMEOUT <= time.monotonic() - start < TIMEOUT + SLACK


def test_a_server_that_speaks_no_tls_is_told(board: StandInBoard) -> None:
    with pytest.raises(RoadworkError, match="SSL"):
        fetcher([], attempts=1).get(board.url.replace("http:", "https:"))


def test_nobody_there_is_tried_again() -> None:
    waits: list[float] = []
    with pytest.raises(RoadworkError, match="did not answer in 2 attempts"):
        fetcher(waits, attempts=2).get("http://127.0.0.1:9/")
    assert len(waits) == 1


def test_a_document_is_posted_again_until_it_is_taken(board: StandInBoard) -> None:
    board.answers = [broken, lambda request: request.say(204, b"")]
    fetcher([]).post(board.url, b'{"rank": 2}')
    assert [(r.method, r.body, r.headers["Content-Type"]) for r in board.requests] == [
        ("POST", b'{"rank": 2}', "application/json")
    ] * 2


def test_a_post_that_fails_names_no_secret_of_its_address(board: StandInBoard) -> None:
    board.answers = [forbidden]
    with pytest.raises(RoadworkError, match="HTTP 403") as caught:
        fetcher([]).post(f"{board.url}/s3cret?t=s3cret", b"{}")
    assert "s3cret" not in str(caught.value)


def test_threads_do_not_pile_up(board: StandInBoard) -> None:
    before = threading.active_count()
    board.answers = [drips_its_body]
    for _ in range(3):
        with pytest.raises(RoadworkError):
            fetcher([], attempts=1, timeout=0.05).get(board.url)
    time.sleep(0.3)
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize(
    "url",
    ["http://example.org/", "ftp://127.0.0.1/", "file:///etc/passwd", "https://", "http://127.0.0.1.example.org/", "x"],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not https"):
        check_url(url)


@pytest.mark.parametrize("url", ["https://a b/", "https://a/\n", "https://a/ü", "https://[::1", "https://a:port/"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"the address (holds characters|cannot be read)"):
        check_url(url)


def test_a_password_in_the_address_is_refused_unsaid() -> None:
    for url in ("https://me:hidden@example.org/", "https://hidden@example.org/"):
        with pytest.raises(UsageError) as caught:
            check_url(url)
        assert "hidden" not in str(caught.value)
