"""When a standing is an alarm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from .history import Poll


@frozen(kw_only=True)
class Alert:
    """`kind` is drop, absent or rank; `text` one line for people. `fresh`: the poll before was no such alarm."""

    kind: str
    text: str
    fresh: bool = True


@frozen(kw_only=True)
class Before:
    """What the polls before say, of those that could be read: the `rank` at the last (None: absent, or there was none),
    whether that rank was an alarm by itself, and the `best` rank since the last alarm of a drop (None: none)."""

    rank: int | None = None
    alarming: bool = False
    best: int | None = None


@frozen(kw_only=True)
class Rules:
    """`drop`: places lost that are an alarm. `worst`: the last rank that is none. None leaves either out.

    Places lost count from the best rank since the last such alarm, so that a slow slide is one as well, once. An entry
    that leaves the leaderboard has dropped below everybody.
    """

    drop: int | None = None
    worst: int | None = None

    def judge(self, poll: Poll, before: Before) -> list[Alert]:
        """The alarms of a poll, none where the leaderboard could not be read."""
        if poll.error is not None:
            return []
        found = []
        rank = None if poll.standing is None else poll.standing.rank
        left = rank is None and before.rank is not None
        if left and (self.drop is not None or self.worst is not None):
            found.append(Alert(kind="absent", text=f"{poll.entry} left the leaderboard, where it was {before.rank}."))
        if self.drop is not None and rank is not None and before.best is not None and rank - before.best >= self.drop:
            lost = rank - before.best
            places = f"{lost} place{'s' if lost > 1 else ''}"
            found.append(Alert(kind="drop", text=f"{poll.entry} lost {places}: rank {rank} after {before.best}."))
        if self.worst is not None and (rank is None or rank > self.worst):
            stands = "is not on the leaderboard" if rank is None else f"has rank {rank}"
            text = f"{poll.entry} {stands}, and {self.worst} is the last rank that is no alarm."
            found.append(Alert(kind="rank", text=text, fresh=not (before.alarming or left)))
        return found
