"""One look at a leaderboard after another, each written down before anybody is told."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from attrs import field, frozen

from ..errors import RoadworkError
from ..fetching import Fetcher
from ..kinds import Leaderboard
from .alerts import Alert, Rules
from .history import History, Message, Poll
from .standing import leader_of, standing_of

ALERT_SCHEMA = "roadwork.leaderboard-alert/1"


@frozen(kw_only=True)
class Look:
    """A poll with its alerts. `unsent` says why alerts could not be sent; they wait for the next look."""

    poll: Poll
    alerts: Sequence[Alert] = ()
    unsent: str | None = None


@frozen(kw_only=True)
class Watcher:
    """Looks at a board for an entry. It writes to `history` alone, and to `webhook` where it is given an address."""

    board: Leaderboard
    source: str
    entry: str
    history: History
    rules: Rules = field(factory=Rules)
    webhook: str | None = field(default=None, repr=False)
    fetcher: Fetcher = field(factory=Fetcher)
    clock: Callable[[], float] = time.time

    def look(self) -> Look:
        """Reads the board once. A board that cannot be read is a poll with its reason, and no exception."""
        poll, alerts = self.history.record(self._poll(), self.rules.judge, send=self.webhook is not None)
        return Look(poll=poll, alerts=alerts, unsent=self._send())

    def looks(
        self,
        *,
        every: float,
        count: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
        steady: Callable[[], float] = time.monotonic,
    ) -> Iterator[Look]:
        """Looks `every` so many seconds from the first one on, `count` times or without end.

        A look that takes longer than that makes the next ones start at the following beats; none is made up for.
        """
        start, beat, done = steady(), 0, 0
        while True:
            yield self.look()
            done += 1
            if done == count:
                return
            beat = max(beat + 1, math.ceil((steady() - start) / every))
            sleep(max(0.0, start + beat * every - steady()))

    def _poll(self) -> Poll:
        source, now = self.source, self.clock()
        try:
            entries = self.board.read()
            standing, leader = standing_of(self.entry, entries), leader_of(entries)
        except RoadworkError as error:
            return Poll(time=now, source=source, entry=self.entry, error=str(error))
        return Poll(
            time=now,
            source=source,
            entry=self.entry,
            entries=len(entries),
            leader=leader.name if leader else None,
            leader_score=leader.score if leader else None,
            standing=standing,
        )

    def _send(self) -> str | None:
        """Sends every alert that waits, the oldest first, until one cannot be sent; says why."""
        if self.webhook is None:
            return None
        while (message := self.history.claim(self.source, self.entry, self.clock())) is not None:
            try:
                self.fetcher.post(self.webhook, body_of(message))
            except BaseException as error:
                self.history.settle(message, None)
                if isinstance(error, RoadworkError):
                    return str(error)
                raise
            self.history.settle(message, self.clock())
        return None


def body_of(message: Message) -> bytes:
    """What a webhook is sent: JSON with a line `text`, which chat programs show, and the figures behind it."""
    poll = message.poll
    document = {
        "schema": ALERT_SCHEMA,
        "id": message.id,
        "time": moment(poll.time),
        "kind": message.alert.kind,
        "text": message.alert.text,
        "source": poll.source,
        "entry": poll.entry,
        "rank": poll.standing.rank if poll.standing else None,
        "entries": poll.entries,
    }
    return json.dumps(document, ensure_ascii=False).encode()


def moment(seconds: float) -> str:
    """A time as ISO 8601 in UTC, to the second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
