"""One document over HTTP from a server that may be slow, failing or hostile; the standard library only."""

from __future__ import annotations

import email.message
import ipaddress
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import IO

from attrs import frozen

from roadwork_core.errors import RoadworkError, UsageError

#: Answers that another attempt may change.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
#: The longest wait that a server may ask for with Retry-After, in seconds.
LONGEST_WAIT = 60.0
_CHUNK = 65_536


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: whoever configured the address named where the token may go."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: email.message.Message,
        newurl: str,
    ) -> None:
        return None


class _Again(Exception):
    """An attempt failed in a way that the next one may not; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def check_url(url: str) -> None:
    """Raises UsageError for an address that is not https; http is for this machine alone."""
    parts = urllib.parse.urlsplit(url)
    if parts.username or parts.password:
        raise UsageError("the address holds a password", hint="give the token by an environment variable")
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
        return
    raise UsageError(f"the address is not https: {parts.scheme}://{parts.hostname or ''}", hint="http is for loopback")


@frozen(kw_only=True)
class Fetcher:
    """How a document is fetched. `timeout` is for one whole attempt in seconds, however slowly the bytes drip.

    Attempts are `backoff`, twice, four times that, ... seconds apart, each drawn evenly between 0 and that (full
    jitter), unless the server names its own wait.
    """

    timeout: float = 10.0
    attempts: int = 4
    backoff: float = 0.5
    max_bytes: int = 8 * 1024 * 1024
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[float, float], float] = random.uniform

    def get(self, url: str, *, token: str | None = None) -> bytes:
        """The body. `token` goes as a bearer token and is in no message. Raises RoadworkError, UsageError."""
        check_url(url)
        headers = {"Accept": "application/json", "User-Agent": "roadwork"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(url, headers=headers)
        shown = urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(query="", fragment=""))
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
        deadline = time.monotonic() + self.timeout
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if _is_loopback(urllib.parse.urlsplit(request.full_url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout) as answer:
                return self._body(answer, deadline, shown)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in TRANSIENT:
                    raise _Again(f"HTTP {error.code}", _wait(error.headers.get("Retry-After"))) from None
                if 300 <= error.code < 400:
                    raise RoadworkError(
                        f"{shown} redirects elsewhere (HTTP {error.code})", hint="give the address that it leads to"
                    ) from None
                hint = "is the token right?" if error.code in (401, 403) else None
                raise RoadworkError(f"{shown} answers HTTP {error.code}", hint=hint) from None
        except TimeoutError:
            raise _Again(f"nothing within {self.timeout:g} s") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _Again(f"nothing within {self.timeout:g} s") from None
            raise _Again(str(error.reason)) from None
        except (OSError, HTTPException) as error:
            raise _Again(f"{type(error).__name__}: the answer broke off") from None

    def _body(self, answer: IO[bytes], deadline: float, shown: str) -> bytes:
        read = getattr(answer, "read1", answer.read)
        parts, size = [], 0
        while chunk := read(_CHUNK):
            parts.append(chunk)
            size += len(chunk)
            if size > self.max_bytes:
                raise RoadworkError(f"{shown} answers with more than {self.max_bytes:,} bytes")
            if time.monotonic() > deadline:
                raise _Again(f"not whole within {self.timeout:g} s")
        if (left := getattr(answer, "length", None)) not in (None, 0):
            raise _Again(f"the answer broke off, {left} bytes are missing")
        return b"".join(parts)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wait(value: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is left to the backoff."""
    return float(value) if value is not None and value.isdecimal() else None
