"""Looks at a leaderboard are written down whole, alarms are raised once, and a webhook hears of each at least once."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from roadwork_core.errors import DataError, UsageError
from roadwork_core.fetching import Fetcher
from roadwork_core.kinds import Entry
from roadwork_core.leaderboard import History, Rules, Watcher
from roadwork_core.leaderboard.history import CLAIM
from roadwork_core.testing.stand_in_board import StandInBoard, stand_in_board

ROOT = Path(__file__).parents[2]


class Scripted:
    """A board that shows the own entry at one rank after another; None: it is absent, an error: it cannot be read."""

    def __init__(self, *ranks: int | Exception | None) -> None:
        self.ranks = list(ranks)

    def read(self) -> Sequence[Entry]:
        rank = self.ranks.pop(0)
        if isinstance(rank, Exception):
            raise rank
        others = [Entry(name=f"other{place}", score=100.0 - place) for place in range(1, 21)]
        return others if rank is None else [*others, Entry(name="me", score=100.5 - rank)]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "h.sqlite") as made:
        yield made


@pytest.fixture
def hook() -> Iterator[StandInBoard]:
    with stand_in_board() as made:
        made.answers = [lambda request: request.say(200, b"ok")]
        yield made


def watcher(history: History, *ranks: int | Exception | None, **options: Any) -> Watcher:
    quick = Fetcher(timeout=5.0, attempts=1)
    return Watcher(board=Scripted(*ranks), source="a board", entry="me", history=history, fetcher=quick, **options)


def alarms(history: History, rules: Rules, *ranks: int | Exception | None) -> list[list[str]]:
    made = watcher(history, *ranks, rules=rules)
    return [[alert.kind for alert in made.look().alerts] for _ in ranks]


def test_a_look_is_kept_as_it_was(history: History) -> None:
    look = watcher(history, 3, clock=lambda: 1234.5).look()
    assert history.polls("a board", "me") == [look.poll]
    assert (look.poll.time, look.poll.entries, look.poll.leader, look.poll.leader_score) == (1234.5, 21, "other1", 99.0)
    assert look.poll.standing is not None
    assert (look.poll.standing.rank, look.poll.standing.tied, look.poll.standing.to_next) == (3, 0, 0.5)
    assert history.polls("another board", "me") == history.polls("a board", "somebody") == []
    assert history.polls("a board", "me", since=1235.0) == []


def test_a_board_that_cannot_be_read_is_a_poll_that_says_so_and_no_alarm(history: History) -> None:
    assert alarms(history, Rules(drop=1, worst=1), 1, DataError("gone"), 1) == [[], [], []]
    assert [poll.error for poll in history.polls("a board", "me")] == [None, "gone", None]


def test_a_board_that_names_one_twice_is_a_poll_that_says_so(history: History) -> None:
    made = watcher(history)
    board: Any = made.board
    board.read = lambda: [Entry(name="me", score=1.0)] * 2
    assert "twice" in str(made.look().poll.error)


@pytest.mark.parametrize(
    ("rules", "ranks", "expected"),
    [
        (Rules(), (1, 9, None, 2), [[], [], [], []]),
        (Rules(drop=3), (1, 3, 4), [[], [], ["drop"]]),
        (Rules(drop=3), (5, 4, 5, 6, 7, 8), [[], [], [], [], ["drop"], []]),
        (Rules(drop=1), (2, 1, 2, 2, 3), [[], [], ["drop"], [], ["drop"]]),
        (Rules(drop=3), (1, DataError("gone"), 4), [[], [], ["drop"]]),
        (Rules(drop=3), (1, None, None, 9, 12), [[], ["absent"], [], [], ["drop"]]),
        (Rules(drop=3), (None, 7), [[], []]),
        (Rules(worst=5), (5, 6, 6, 5, 7), [[], ["rank"], ["rank"], [], ["rank"]]),
        (Rules(worst=5), (None, 5), [["rank"], []]),
        (Rules(worst=5), (3, None, None), [[], ["absent", "rank"], ["rank"]]),
        (Rules(drop=2, worst=5), (4, 6), [[], ["drop", "rank"]]),
    ],
    ids=str,
)
def test_an_alarm_is_a_drop_by_so_many_a_leaving_and_a_rank_below(
    rules: Rules, ranks: Any, expected: list[list[str]], history: History
) -> None:
    assert alarms(history, rules, *ranks) == expected


def sent(hook: StandInBoard) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in hook.requests]


def test_a_webhook_hears_of_an_alarm_when_it_begins_and_not_while_it_stands(
    history: History, hook: StandInBoard
) -> None:
    made = watcher(history, 5, 6, 6, 4, 6, None, None, rules=Rules(worst=5), webhook=hook.url, clock=lambda: 0.0)
    looks = [made.look() for _ in range(7)]
    assert [look.unsent for look in looks] == [None] * 7
    assert [(one["kind"], one["rank"]) for one in sent(hook)] == [("rank", 6), ("rank", 6), ("absent", None)]
    first = sent(hook)[0]
    assert first.pop("id")
    assert first == {
        "schema": "roadwork.leaderboard-alert/1",
        "time": "1970-01-01T00:00:00Z",
        "kind": "rank",
        "text": "me has rank 6, and 5 is the last rank that is no alarm.",
        "source": "a board",
        "entry": "me",
        "rank": 6,
        "entries": 21,
    }
    assert {request.method for request in hook.requests} == {"POST"}


def test_an_entry_that_leaves_from_a_good_rank_is_one_message(history: History, hook: StandInBoard) -> None:
    made = watcher(history, 3, None, rules=Rules(worst=5), webhook=hook.url)
    made.look()
    assert [alert.kind for alert in made.look().alerts] == ["absent", "rank"]
    assert [one["kind"] for one in sent(hook)] == ["absent"]


def test_without_a_webhook_nothing_is_sent_then_or_later(history: History, hook: StandInBoard) -> None:
    watcher(history, 9, rules=Rules(worst=5)).look()
    watcher(history, 9, rules=Rules(worst=5), webhook=hook.url).look()
    assert sent(hook) == []


def test_an_alarm_that_could_not_be_sent_is_kept_told_and_sent_with_the_next_look(
    history: History, hook: StandInBoard
) -> None:
    hook.answers = [lambda request: request.say(500), lambda request: request.say(200, b"")]
    made = watcher(history, 9, 1, rules=Rules(worst=5), webhook=hook.url)
    look = made.look()
    assert [alert.kind for alert in look.alerts] == ["rank"]
    assert look.unsent is not None
    assert "HTTP 500" in look.unsent
    assert hook.url not in look.unsent
    assert history.waiting("a board", "me") == 1
    assert made.look().unsent is None
    assert history.waiting("a board", "me") == 0
    assert len({one["id"] for one in sent(hook)}) == 1, "the same alarm keeps its id"


def test_two_watchers_raise_and_send_an_alarm_once(history: History, hook: StandInBoard) -> None:
    with History(history.path) as other:
        options: dict[str, Any] = {"rules": Rules(drop=1), "webhook": hook.url}
        one, two = watcher(history, 1, 2, 2, **options), watcher(other, 1, 2, 2, **options)
        kinds = [[alert.kind for alert in made.look().alerts] for _ in range(3) for made in (one, two)]
    assert kinds == [[], [], ["drop"], [], [], []]
    assert len(sent(hook)) == 1


def test_a_message_in_another_hand_is_left_alone_until_that_hand_must_be_dead(history: History) -> None:
    made = watcher(history, 9, rules=Rules(worst=5))
    history.record(made._poll(), made.rules.judge, send=True)
    first = history.claim("a board", "me", 1000.0)
    assert first is not None
    assert history.claim("a board", "me", 1000.0 + CLAIM) is None
    again = history.claim("a board", "me", 1001.0 + CLAIM)
    assert again == first
    history.settle(first, 2000.0)
    assert history.claim("a board", "me", 9000.0) is None


def test_looks_keep_the_beat_and_make_up_for_none(history: History) -> None:
    now = [0.0]
    slow = iter([0.0, 0.0, 25.0, 0.0, 0.0])
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    made = watcher(history, 1, 1, 1, 1, 1)
    for _ in made.looks(every=10.0, count=5, sleep=sleep, steady=lambda: now[0]):
        now[0] += next(slow)
    assert waits == [10.0, 10.0, 5.0, 10.0]
    assert now[0] == 60.0


def test_two_writers_and_one_killed_lose_nothing_that_was_said(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    command = [sys.executable, "-m", "tests.leaderboard.watcher", str(path)]
    writers = [
        subprocess.Popen([*command, name, "40"], cwd=ROOT, stdout=subprocess.PIPE, text=True) for name in ("a", "b")
    ]
    victim = subprocess.Popen([*command, "victim", "100000"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    told = [victim.stdout.readline().strip() for _ in range(15)]
    victim.kill()
    told += victim.communicate()[0].split()
    for writer in writers:
        told += writer.communicate(timeout=60)[0].split()
        assert writer.returncode == 0
    with History(path) as history:
        polls = [poll for name in ("a", "b", "victim") for poll in history.polls(name, "me")]
        assert set(map(int, told)) <= {poll.id for poll in polls}
        for name in ("a", "b", "victim"):
            ranks = [poll.standing.rank for poll in history.polls(name, "me") if poll.standing]
            assert ranks == list(range(2, len(ranks) + 2))
            assert len(history.alerts(name, "me")) == len(ranks) - 1, "each poll is there with its alarm, or not at all"
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_of_another_program_is_refused_and_unchanged(tmp_path: Path) -> None:
    from roadwork_core.feedback import FeedbackStore

    FeedbackStore(tmp_path / "f.sqlite").close()
    before = (tmp_path / "f.sqlite").read_bytes()
    with pytest.raises(UsageError, match=r"f\.sqlite: is not a leaderboard history"):
        History(tmp_path / "f.sqlite")
    assert (tmp_path / "f.sqlite").read_bytes() == before
    with pytest.raises(UsageError, match="there is no such leaderboard history"):
        History(tmp_path / "nowhere.sqlite", create=False)
