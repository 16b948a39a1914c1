"""A leaderboard's server on this machine, for tests of components that ask one: it misbehaves as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import Factory, define, frozen

from ..kinds import Entry

#: What the board shows unless it is told otherwise: a leader, a tie, and one behind them.
ENTRIES = (
    Entry(name="first", score=0.5),
    Entry(name="same", score=0.25),
    Entry(name="mine", score=0.25),
    Entry(name="last", score=0.0),
)

Answer = Callable[["Request"], None]


@frozen
class Request:
    """One request as it came, and how to answer it: through `say`, or byte by byte through `raw`."""

    method: str
    path: str
    headers: Any
    body: bytes
    handler: BaseHTTPRequestHandler

    def say(self, code: int, body: bytes = b"[]", **headers: str) -> None:
        """A whole answer; underscores in names of headers stand for hyphens."""
        self.handler.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.raw(body)

    def raw(self, content: bytes) -> bool:
        """Bytes on the connection; False where the other side has left."""
        try:
            self.handler.wfile.write(content)
            self.handler.wfile.flush()
        except OSError:
            return False
        return True


@define
class StandInBoard:
    """What the server answers, one answer after another, the last one for good; and the requests that it saw."""

    url: str = ""
    answers: list[Answer] = Factory(list)
    requests: list[Request] = Factory(list)

    def shows(self, entries: Sequence[Entry] = ENTRIES) -> None:
        """From now on the server answers with these entries."""
        body = json.dumps([{"name": entry.name, "score": entry.score} for entry in entries]).encode()
        self.answers = [lambda request: request.say(200, body)]

    def answer(self, request: Request) -> None:
        self.requests.append(request)
        chosen = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        chosen(request)


@contextmanager
def stand_in_board() -> Iterator[StandInBoard]:
    """A server on a free port of the loopback interface, which shows `ENTRIES` until it is told otherwise."""
    board = StandInBoard()
    board.shows()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            board.answer(Request(self.command, self.path, self.headers, body, self))

        do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    board.url = f"http://127.0.0.1:{server.server_port}/board"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield board
    finally:
        server.shutdown()
        server.server_close()
