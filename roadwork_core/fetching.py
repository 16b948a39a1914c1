"""One request over HTTP to a server that may be slow, failing or hostile; the standard library only."""

from __future__ import annotations

import email.utils
import functools
import http.client
import io
import ipaddress
import random
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

from attrs import frozen

from .errors import RoadworkError, UsageError

#: Answers that another attempt may change.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
#: The longest wait that a server may ask for with Retry-After, in seconds.
LONGEST_WAIT = 60.0
_CHUNK = 65_536


def check_url(url: str) -> None:
    """Raises UsageError for an address that is not https; http is for this machine alone."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"the address cannot be read: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError("the address holds a password", hint="give the token by an environment variable")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise UsageError("the address holds characters that it must not", hint="write them as %XX")
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return
    raise UsageError(f"the address is not https: {parts.scheme}://{parts.hostname or ''}", hint="http is for loopback")


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine by itself, asking nobody."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@frozen(kw_only=True)
class Fetcher:
    """How a request is made: GET and POST, no redirect followed, so that a token goes nowhere else.

    `timeout` is for one whole attempt in seconds, from the first packet to the last byte of the answer, however
    slowly they drip; only the look-up of a host's name takes what the system gives it. Attempts are `backoff`,
    twice, four times that, ... seconds apart, each drawn evenly between 0 and that (full jitter), unless the server
    names its own wait (Retry-After, RFC 9110). No answer may have more than `max_bytes`.
    """

    timeout: float = 10.0
    attempts: int = 4
    backoff: float = 0.5
    max_bytes: int = 8 * 1024 * 1024
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[float, float], float] = random.uniform

    def get(self, url: str, *, authorization: str | None = None) -> bytes:
        """The body. `authorization` is the whole header and stands in no message. Raises RoadworkError, UsageError."""
        headers = {"Accept": "application/json", "User-Agent": "roadwork"}
        if authorization:
            headers["Authorization"] = authorization
        check_url(url)
        shown = urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(query="", fragment=""))
        return self._persist(urllib.request.Request(url, headers=headers), shown)

    def post(self, url: str, document: bytes) -> None:
        """Sends JSON. Messages name the host alone: the path of a webhook is often its secret. What is sent may
        arrive more than once. Raises RoadworkError, UsageError."""
        headers = {"Content-Type": "application/json", "User-Agent": "roadwork"}
        check_url(url)
        parts = urllib.parse.urlsplit(url)
        shown = f"{parts.scheme}://{parts.hostname}"
        self._persist(urllib.request.Request(url, data=document, headers=headers, method="POST"), shown)

    def _persist(self, request: urllib.request.Request, shown: str) -> bytes:
        for attempt in range(1, self.attempts + 1):
            try:
                return self._attempt(request, shown)
            except _Again as again:
                if attempt == self.attempts:
                    tries = f"{attempt} attempt{'s' if attempt > 1 else ''}"
                    raise RoadworkError(f"{shown} did not answer in {tries}: {again}") from None
                wait = self.draw(0.0, self.backoff * 2 ** (attempt - 1))
                self.sleep(wait if again.wait is None else min(again.wait, LONGEST_WAIT))
        raise UsageError("at least one attempt is needed")

    def _attempt(self, request: urllib.request.Request, shown: str) -> bytes:
        opener = _opener(request.full_url, time.monotonic() + self.timeout)
        try:
            with opener.open(request, timeout=self.timeout) as answer:
                return self._body(answer, shown)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error, shown) from None
        except TimeoutError:
            raise _Again(f"no whole answer within {self.timeout:g} s") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _Again(f"no answer within {self.timeout:g} s") from None
            raise _Again(str(error.reason)) from None
        except (OSError, HTTPException) as error:
            raise _Again(f"{type(error).__name__}: the answer broke off") from None

    def _body(self, answer: Any, shown: str) -> bytes:
        parts, size, claimed = [], 0, answer.length or 0
        while max(size, claimed) <= self.max_bytes and (chunk := answer.read1(_CHUNK)):
            parts.append(chunk)
            size += len(chunk)
        if max(size, claimed) > self.max_bytes:
            raise RoadworkError(f"{shown} answers with more than {self.max_bytes:,} bytes")
        if answer.length:
            raise _Again(f"the answer broke off, {answer.length} bytes are missing")
        return b"".join(parts)


class _Again(Exception):
    """An attempt failed in a way that the next one may not; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def _refusal(error: urllib.error.HTTPError, shown: str) -> Exception:
    if error.code in TRANSIENT:
        return _Again(f"HTTP {error.code}", retry_after(error.headers.get("Retry-After")))
    if 300 <= error.code < 400:
        there = "give the address that it leads to"
        return RoadworkError(f"{shown} redirects elsewhere (HTTP {error.code})", hint=there)
    hint = "is the token right?" if error.code in (401, 403) else None
    return RoadworkError(f"{shown} answers HTTP {error.code}", hint=hint)


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """The wait in seconds that a Retry-After asks for, as a number or as a date; None where it is neither."""
    said = (value or "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        date = email.utils.parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))


# --- the deadline of an attempt ---


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: whoever configured the address named where the token may go."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener(url: str, deadline: float) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect(), _Http(deadline), _Https(deadline)]
    if is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._connection: Any = functools.partial(_HttpConnection, deadline=deadline)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._connection: Any = functools.partial(_HttpsConnection, deadline=deadline)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)


class _UntilDeadline:
    """A connection whose every wait, from the first packet on, ends at the deadline."""

    sock: Any

    def __init__(self, *arguments: Any, deadline: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._create_connection = functools.partial(_connected, deadline)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sock = _Punctual(self.sock, self._deadline)


class _HttpConnection(_UntilDeadline, http.client.HTTPConnection): ...


class _HttpsConnection(_UntilDeadline, http.client.HTTPSConnection): ...


def _connected(deadline: float, address: tuple[str, int], *_: Any) -> socket.socket:
    """A connection to the first of the host's addresses that takes one; all of them together have the time left."""
    failure: OSError = OSError("the host has no address")
    for found in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        host, port = found[4][:2]
        try:
            made = socket.create_connection((str(host), int(port)), _left(deadline))
            made.settimeout(_left(deadline))
            return made
        except OSError as error:
            failure = error
    raise failure


class _Punctual:
    """What http.client asks of a socket, each wait of it cut to what is left until the deadline.

    A socket's own time-out begins anew with every packet, so a server that drips one byte a second never meets it.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(_left(self._deadline))
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline))

    def close(self) -> None:
        self._sock.close()


class _Incoming(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        # Keeps the connection open while the answer is read: http.client closes the socket first.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._deadline))
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        self._file.close()
        super().close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
