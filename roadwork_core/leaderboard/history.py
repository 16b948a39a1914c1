"""What was seen of a leaderboard and when: one SQLite file that several watchers may write to."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve, frozen

from ..database import Database
from .alerts import Alert, Before
from .standing import Standing

#: Seconds after which another watcher takes over a message that one had begun to send.
CLAIM = 300.0

_TABLES = """
CREATE TABLE polls (
  id INTEGER PRIMARY KEY, time REAL NOT NULL, source TEXT NOT NULL, entry TEXT NOT NULL, entries INTEGER,
  leader TEXT, leader_score REAL, rank INTEGER, score REAL, tied INTEGER, to_leader REAL, to_next REAL, percentile REAL,
  error TEXT);
CREATE INDEX polls_of ON polls (source, entry, id);
CREATE TABLE alerts (
  id TEXT PRIMARY KEY, poll INTEGER NOT NULL REFERENCES polls (id), kind TEXT NOT NULL, text TEXT NOT NULL,
  wanted INTEGER NOT NULL, claimed REAL, delivered REAL) WITHOUT ROWID;
CREATE INDEX alerts_poll ON alerts (poll);
"""
_OF_POLL = ("time", "source", "entry", "entries", "leader", "leader_score", "error")
_OF_STANDING = ("rank", "score", "tied", "to_leader", "to_next", "percentile")
_COLUMNS = ", ".join(f"polls.{name}" for name in ("id", *_OF_POLL, *_OF_STANDING))


@frozen(kw_only=True)
class Poll:
    """One look at a leaderboard: `time` in seconds since 1970 (UTC), `source` what was read, `entries` how many it had.

    `standing` is None where it does not have the entry. `error` says why it could not be read; nothing else is known
    then. `id` counts the polls of a history.
    """

    time: float
    source: str
    entry: str
    entries: int | None = None
    leader: str | None = None
    leader_score: float | None = None
    standing: Standing | None = None
    error: str | None = None
    id: int = 0


@frozen(kw_only=True)
class Message:
    """An alert that somebody is to hear of. `id` stays the same however often it is sent."""

    id: str
    poll: Poll
    alert: Alert


class History(Database):
    """Polls and alerts at `path`."""

    what = "leaderboard history"
    #: "rwlb".
    application = 0x72776C62
    tables = _TABLES

    def record(
        self, poll: Poll, judge: Callable[[Poll, Before], Sequence[Alert]] | None = None, *, send: bool = False
    ) -> tuple[Poll, Sequence[Alert]]:
        """Writes a poll and what `judge` makes of it and of those before, at once; no other watcher comes between.

        Returns the poll with its number, and the alerts. With `send` those that are new wait to be sent.
        """
        with self._writing() as connection:
            alerts = judge(poll, self._before(poll)) if judge is not None else ()
            values = [getattr(poll, name) for name in _OF_POLL] + [
                getattr(poll.standing, name) if poll.standing else None for name in _OF_STANDING
            ]
            marks = ", ".join("?" * len(values))
            number = connection.execute(
                f"INSERT INTO polls ({', '.join(_OF_POLL + _OF_STANDING)}) VALUES ({marks})", values
            ).lastrowid
            connection.executemany(
                "INSERT INTO alerts (id, poll, kind, text, wanted) VALUES (?, ?, ?, ?, ?)",
                [(uuid.uuid4().hex, number, alert.kind, alert.text, int(send and alert.fresh)) for alert in alerts],
            )
        return evolve(poll, id=number or 0), alerts

    def polls(self, source: str, entry: str, *, since: float | None = None) -> list[Poll]:
        """The polls of an entry in the order of writing."""
        with self._told():
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM polls WHERE source = ? AND entry = ? AND time >= ? ORDER BY id",
                (source, entry, float("-inf") if since is None else since),
            ).fetchall()
        return [_poll(row) for row in rows]

    def alerts(self, source: str, entry: str, *, since: float | None = None) -> list[tuple[Poll, Alert]]:
        """What was alarming, in the order of writing, each with its poll."""
        with self._told():
            rows = self._connection.execute(
                f"SELECT {_COLUMNS}, kind, text FROM alerts JOIN polls ON alerts.poll = polls.id"
                " WHERE source = ? AND entry = ? AND time >= ? ORDER BY polls.id, kind",
                (source, entry, float("-inf") if since is None else since),
            ).fetchall()
        return [(_poll(row[:-2]), Alert(kind=row[-2], text=row[-1])) for row in rows]

    def claim(self, source: str, entry: str, now: float) -> Message | None:
        """The oldest alert that waits to be sent, which no other watcher is given for a while; None where none does."""
        with self._writing() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS}, alerts.id, kind, text FROM alerts JOIN polls ON alerts.poll = polls.id"
                " WHERE source = ? AND entry = ? AND wanted AND delivered IS NULL AND (claimed IS NULL OR claimed < ?)"
                " ORDER BY polls.id, kind LIMIT 1",
                (source, entry, now - CLAIM),
            ).fetchone()
            if row is None:
                return None
            name, kind, text = row[-3:]
            connection.execute("UPDATE alerts SET claimed = ? WHERE id = ?", (now, name))
        return Message(id=name, poll=_poll(row[:-3]), alert=Alert(kind=kind, text=text))

    def settle(self, message: Message, delivered: float | None) -> None:
        """Notes when a claimed message was taken; with None it waits again, to be sent with the next poll."""
        with self._writing() as connection:
            connection.execute("UPDATE alerts SET claimed = NULL, delivered = ? WHERE id = ?", (delivered, message.id))

    def waiting(self, source: str, entry: str) -> int:
        """How many alerts wait to be sent."""
        with self._told():
            found: int = self._connection.execute(
                "SELECT COUNT(*) FROM alerts JOIN polls ON alerts.poll = polls.id"
                " WHERE source = ? AND entry = ? AND wanted AND delivered IS NULL",
                (source, entry),
            ).fetchone()[0]
        return found

    def _before(self, poll: Poll) -> Before:
        """What went before a poll that is about to be written; those that failed say nothing."""
        where = "source = ? AND entry = ? AND error IS NULL"
        of = (poll.source, poll.entry)
        last = self._connection.execute(
            f"SELECT {_COLUMNS} FROM polls WHERE {where} ORDER BY id DESC LIMIT 1", of
        ).fetchone()
        best = self._connection.execute(
            f"SELECT MIN(rank) FROM polls WHERE {where} AND id >= COALESCE((SELECT MAX(poll) FROM alerts"
            f" JOIN polls ON alerts.poll = polls.id WHERE {where} AND kind IN ('drop', 'absent')), 0)",
            of * 2,
        ).fetchone()[0]
        standing = None if last is None else _poll(last).standing
        alarming = (
            last is not None
            and self._connection.execute(
                "SELECT COUNT(*) FROM alerts WHERE poll = ? AND kind = 'rank'", last[:1]
            ).fetchone()[0]
        )
        return Before(rank=standing.rank if standing else None, alarming=bool(alarming), best=best)


def _poll(row: Sequence[Any]) -> Poll:
    head = len(_OF_POLL) + 1
    values = dict(zip(("id", *_OF_POLL), row[:head], strict=True))
    standing = dict(zip(_OF_STANDING, row[head:], strict=True))
    return Poll(standing=None if standing["rank"] is None else Standing(of=values["entries"], **standing), **values)
