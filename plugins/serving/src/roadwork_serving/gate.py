"""What every request passes on its way in and every answer on its way out."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import time
import traceback
import uuid
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from .refusals import Refusal, envelope

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .hosts import Hosts
    from .service import Service

#: Open without a token: they tell nothing that is not public, and those who watch a server have none.
OPEN = frozenset({"/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DISCARD_SECONDS = 2.0
#: Characters of a host that a refusal repeats.
_SHOWN = 100
#: In log and metrics, what no client gets: it went away before its request was whole (the number that nginx gives it).
_GONE = 499


class Body:
    """The body of one request, counted as it comes in."""

    def __init__(self, receive: Receive, headers: Headers, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._waits = "expect" in headers
        self.size = 0
        self.ended = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        """The next message. Raises Refusal as soon as there is more than the limit."""
        message = await self._next()
        if self.size > self._limit:
            raise too_large(self._limit)
        return message

    async def _next(self) -> Message:
        message = await self._receive()
        self.size += len(message.get("body", b""))
        self.ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Reads on for a while, so that a client that is still sending hears why it is refused."""
        if self._waits and not self.size:
            return  # it sends nothing before it is told to
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self.ended and self.size <= 4 * self._limit:
                    await self._next()
        except TimeoutError:
            return


def too_large(limit: int) -> Refusal:
    return Refusal(413, "too_large", f"the body is larger than the limit of {limit} bytes")


class Gate:
    """ASGI middleware: request id, host, token, limit of the body, one line for every failure, log and metrics."""

    def __init__(self, app: ASGIApp, service: Service, hosts: Hosts) -> None:
        self._app = app
        self._service = service
        self._hosts = hosts
        token = service.settings.token
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Exchange(self._service, self._hosts, self._token, scope, receive, send).run(self._app)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, service: Service, hosts: Hosts, token: bytes | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._service = service
        self._hosts = hosts
        self._token = token
        self._scope = scope
        self._send_on = send
        self._headers = Headers(scope=scope)
        self._body = Body(receive, self._headers, service.settings.max_body)
        given = self._headers.get("x-request-id", "")
        self._id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self._status = 0
        self._start = time.monotonic()

    async def run(self, app: ASGIApp) -> None:
        try:
            self._check()
            await app(self._scope, self._body.receive, self._send)
        except Refusal as refusal:
            await self._refuse(refusal)
        except ClientDisconnect:
            self._status = self._status or _GONE
        except Exception as error:  # noqa: BLE001 - whatever it is, the client hears one line and the log the rest
            self._service.telemetry.event(
                "failure", request_id=self._id, error=repr(error), traceback=traceback.format_exc()
            )
            await self._refuse(Refusal(500, "internal", "the server failed; its log says why under this request id"))
        finally:
            self._record()

    def _check(self) -> None:
        named = self._headers.getlist("host")
        if not self._hosts.answers(named):
            told = repr(named[0][:_SHOWN]) if named else "none"
            raise Refusal(421, "unknown_host", f"the host is {told}, which this server's --allowed-host does not name")
        if self._token is not None and self._scope["path"] not in OPEN:
            given = self._headers.getlist("authorization")
            scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
            right = hmac.compare_digest(token.strip().encode(), self._token)
            if scheme.lower() != "bearer" or not right:
                raise Refusal(401, "unauthorised", "this server asks for a bearer token")
        encoding = self._headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise Refusal(415, "encoding", "compressed bodies are not taken")
        length = self._headers.get("content-length", "0")
        limit = self._service.settings.max_body
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > limit:
            raise too_large(limit)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if self._status >= 400 and not self._body.ended:
                await self._body.discard()
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._id
            headers["x-content-type-options"] = "nosniff"
            headers.setdefault("cache-control", "no-store")
            if self._service.draining or not self._body.ended:
                headers["connection"] = "close"
        await self._send_on(message)

    async def _refuse(self, refusal: Refusal) -> None:
        if self._status:
            return  # too late: the answer has begun, and its connection will be closed
        body = json.dumps(envelope(refusal.code, refusal.message)).encode()
        named = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
        await self._send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _record(self) -> None:
        client: Any = self._scope.get("client")
        self._service.telemetry.request(
            route=getattr(self._scope.get("route"), "path", "other"),
            method=self._scope["method"] if self._scope["method"] in _METHODS else "other",
            status=self._status,
            seconds=time.monotonic() - self._start,
            request_id=self._id,
            client=client[0] if client else None,
            bytes=self._body.size,
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
