"""Faults of leaderboards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen

from roadwork_core.errors import DataError
from roadwork_core.kinds import Entry
from roadwork_core.testing import LeaderboardContract
from roadwork_core.testing.leaderboards import SECRET

from .faulty import Case, made

ENTRIES = [Entry(name="a", score=1.0)]


@frozen
class Board:
    read: Callable[[], Any]
    token: str = ""


def board(read: Callable[[], Any] = lambda: ENTRIES, source: Any = "a board") -> type:
    return made("leaderboard", lambda self, ctx: Board(read), source=source)


def prints_the_token() -> type:
    build = lambda self, ctx: Board(lambda: ENTRIES, ctx.environ["TOKEN"])  # noqa: E731
    return made("leaderboard", build, source="a board")


def writes_here() -> Any:
    Path("cache.json").write_text("[]")
    return ENTRIES


def fails(error: Exception) -> Callable[[], Any]:
    def read() -> Any:
        raise error

    return read


def changing() -> Callable[[], Any]:
    seen: list[Entry] = []

    def read() -> Any:
        seen.append(Entry(name=str(len(seen)), score=1.0))
        return list(seen)

    return read


def case(check: str, fault: str, cls: type, said: str, **settings: Any) -> Case:
    return Case(contract=LeaderboardContract, check=check, cls=cls, said=said, fault=fault, settings=settings)


BROKEN: dict[str, Any] = {"broken": ({},)}


CASES = [
    case("test_gives_entries", "pairs", board(lambda: [("a", 1.0)]), "no sequence of Entry"),
    case("test_gives_entries", "a generator", board(lambda: iter(ENTRIES)), "no sequence of Entry"),
    case("test_gives_entries", "a name twice", board(lambda: ENTRIES * 2), "names 'a' twice"),
    case("test_gives_entries", "another time", board(changing()), "other entries"),
    case("test_says_what_it_reads_and_no_secret", "no source", board(source=""), "source is ''"),
    case("test_says_what_it_reads_and_no_secret", "two lines", board(source="a\nb"), "no line"),
    case("test_says_what_it_reads_and_no_secret", "the token", prints_the_token(), "stands in what it prints"),
    case("test_leaves_everything_as_it_is", "a file", board(writes_here), "writes cache.json"),
    case("test_says_when_it_cannot_be_read", "silence", board(), "it can be read", **BROKEN),
    case("test_says_when_it_cannot_be_read", "another", board(fails(OSError("gone"))), "raises OSError", **BROKEN),
    case("test_says_when_it_cannot_be_read", "a secret", board(fails(DataError(SECRET))), "the error holds", **BROKEN),
]
