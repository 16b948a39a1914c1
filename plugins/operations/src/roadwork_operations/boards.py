"""Leaderboards: over HTTP, from a file, and the public record of a subnet."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from roadwork_core import component, option
from roadwork_core.errors import DataError, RoadworkError, UsageError
from roadwork_core.kinds import Entry, Leaderboard, LeaderboardContext

from .layouts import parse_csv, parse_json
from .metagraph import PAGE, parse_page

if TYPE_CHECKING:
    from roadwork_core.fetching import Fetcher

_MIB = 1024 * 1024
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"


@frozen
class Board:
    """A leaderboard that `load` reads."""

    load: Callable[[], Sequence[Entry]]

    def read(self) -> Sequence[Entry]:
        return self.load()


@component("leaderboard", "http")
class Http:
    """JSON from an address: an array of objects with a name and a score, of which more is better.

    The address is only read (GET), by https, or by http on this machine. A redirect is not followed. Answers 408,
    425, 429, 500, 502, 503, 504 and broken connections are tried again after waits that grow and are drawn at random
    (full jitter), or after the server's own (Retry-After).
    """

    url: str = option(default="http://127.0.0.1:8000/leaderboard.json", min_length=1, help="the address")
    entries: str = option(default="", help='key of the array, dotted ("data.rows"); empty: the document is the array')
    name: str = option(default="name", min_length=1, help="key of an entry's name, dotted where it lies deeper")
    score: str = option(default="score", min_length=1, help="key of its score, dotted where it lies deeper")
    token_env: str | None = option(
        default=None, pattern=_VARIABLE, help="environment variable that holds the token (default: none is sent)"
    )
    authorization: Literal["bearer", "plain"] = option(
        default="bearer", help='how the token is sent: as "Bearer TOKEN", or alone'
    )
    timeout: float = option(default=10.0, above=0, maximum=300, help="seconds of a whole attempt, however slow")
    attempts: int = option(default=4, minimum=1, maximum=10, help="how often it is tried")
    backoff: float = option(default=0.5, minimum=0, maximum=60, help="longest first wait in seconds; it doubles")
    max_mib: float = option(default=8.0, above=0, maximum=64, help="largest answer in MiB")

    def __attrs_post_init__(self) -> None:
        _check(self.url)

    @property
    def source(self) -> str:
        return _shown(self.url)

    def build(self, ctx: LeaderboardContext) -> Leaderboard:
        fetcher = _fetcher(self)
        header = _authorization(ctx, self.token_env, "Bearer " if self.authorization == "bearer" else "")

        def load() -> Sequence[Entry]:
            content = fetcher.get(self.url, authorization=header)
            return parse_json(content, entries=self.entries, name=self.name, score=self.score)

        return Board(load)


@component("leaderboard", "file")
class File:
    """A JSON or CSV file that something else keeps up to date; by its suffix, `.csv` or any other for JSON."""

    path: str = option(min_length=1, help="the file")
    entries: str = option(default="", help="key of the array in JSON, dotted; empty: the document is the array")
    name: str = option(default="name", min_length=1, help="key or column of an entry's name")
    score: str = option(default="score", min_length=1, help="key or column of its score, of which more is better")
    max_mib: float = option(default=8.0, above=0, maximum=1024, help="largest file in MiB")

    @property
    def source(self) -> str:
        return self.path

    def build(self, ctx: LeaderboardContext) -> Leaderboard:
        path = Path(self.path)

        def load() -> Sequence[Entry]:
            content = _content(path, int(self.max_mib * _MIB))
            with _Named(path):
                if path.suffix.lower() == ".csv":
                    return parse_csv(content, name=self.name, score=self.score)
                return parse_json(content, entries=self.entries, name=self.name, score=self.score)

        return Board(load)


@component("leaderboard", "metagraph")
class Metagraph:
    """The incentive of each miner of a Bittensor subnet by its hotkey; by default of NATIX StreetVision (72).

    The subnet publishes no leaderboard of its own: validators set weights, and the chain states what share of the
    reward each hotkey earns. Read from the explorer taostats, which wants an API key, or with `file` from what
    `btcli subnets show --netuid 72 --json-output` wrote. Keys that earn dividends alone are validators, and left out.
    """

    netuid: int = option(default=72, minimum=0, maximum=65_535, help="the subnet")
    file: str | None = option(default=None, min_length=1, help="what btcli wrote (default: ask the explorer)")
    url: str = option(
        default="https://api.taostats.io/api/metagraph/latest/v1", help="the explorer, where there is no file"
    )
    token_env: str = option(
        default="TAOSTATS_API_KEY", pattern=_VARIABLE, help="environment variable that holds the explorer's key"
    )
    timeout: float = option(default=20.0, above=0, maximum=300, help="seconds of a whole attempt at one page")
    attempts: int = option(default=4, minimum=1, maximum=10, help="how often a page is tried")
    backoff: float = option(default=5.0, minimum=0, maximum=60, help="longest first wait in seconds; it doubles")
    max_mib: float = option(default=8.0, above=0, maximum=64, help="largest page or file in MiB")

    def __attrs_post_init__(self) -> None:
        _check(self.url)

    @property
    def source(self) -> str:
        return f"{self.file or _shown(self.url)} netuid {self.netuid}"

    def build(self, ctx: LeaderboardContext) -> Leaderboard:
        if self.file is not None:
            return self._of_file(Path(self.file))
        fetcher = _fetcher(self)
        header = _authorization(ctx, self.token_env, "")

        def load() -> Sequence[Entry]:
            found: list[Entry] = []
            number: int | None = 1
            while number is not None:
                query = urllib.parse.urlencode({"netuid": self.netuid, "limit": PAGE, "page": number})
                address = urllib.parse.urlsplit(self.url)._replace(query=query).geturl()
                page = parse_page(fetcher.get(address, authorization=header), self.netuid)
                if page.following is not None and page.following <= number:
                    raise DataError("the metagraph's pages go in a circle")
                found, number = found + page.entries, page.following
            return found

        return Board(load)

    def _of_file(self, path: Path) -> Leaderboard:
        def load() -> Sequence[Entry]:
            content = _content(path, int(self.max_mib * _MIB))
            with _Named(path):
                return parse_page(content, self.netuid).entries

        return Board(load)


class _Named:
    """Gives an error about a file's content the file's name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RoadworkError) and error.path is None:
            error.path = self._path


def _check(url: str) -> None:
    from roadwork_core.fetching import check_url

    try:
        check_url(url)
    except UsageError as error:
        raise ValueError(f"url {error.message.removeprefix('the address ')}") from None


def _fetcher(board: Http | Metagraph) -> Fetcher:
    from roadwork_core.fetching import Fetcher

    return Fetcher(
        timeout=board.timeout,
        attempts=board.attempts,
        backoff=board.backoff,
        max_bytes=int(board.max_mib * _MIB),
    )


def _shown(url: str) -> str:
    """The address without its query, which may hold a secret."""
    return urllib.parse.urlsplit(url)._replace(query="", fragment="").geturl()


def _authorization(ctx: LeaderboardContext, variable: str | None, before: str) -> str | None:
    if variable is None:
        return None
    token = ctx.environ.get(variable, "").strip()
    if not token:
        raise UsageError(f"the environment variable {variable}, which is to hold the token, is not set")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"the token in {variable} holds characters that cannot be sent")
    return before + token


def _content(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise DataError(f"the leaderboard cannot be read: {error.strerror or error}", path=path) from None
    if len(content) > limit:
        raise DataError(f"the leaderboard has more than {limit:,} bytes", path=path)
    return content
