"""Where one entry of a leaderboard stands: rank, gaps and percentile, right at the edges."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from ..errors import DataError
from ..kinds import Entry


@frozen(kw_only=True)
class Standing:
    """`rank` from 1, equal scores share the best of their ranks; `tied` counts the others with the same score.

    `to_leader` and `to_next` are what is missing to the best score and to the next better one, 0 and None for a
    leader. `percentile` is the share of the others that are worse, equal ones counting half: 100 for a sole leader, 0
    for a sole last, None where there are no others.
    """

    rank: int
    of: int
    score: float
    tied: int
    to_leader: float
    to_next: float | None
    percentile: float | None


def standing_of(name: str, entries: Sequence[Entry]) -> Standing | None:
    """The standing of an entry, None where the leaderboard does not have it (an empty one has nobody).

    Raises DataError for a leaderboard that names one twice: which of the two would stand?
    """
    if len({entry.name for entry in entries}) < len(entries):
        raise DataError("the leaderboard names an entry twice")
    own = next((entry.score for entry in entries if entry.name == name), None)
    if own is None:
        return None
    better = [entry.score for entry in entries if entry.score > own]
    tied = sum(entry.score == own for entry in entries) - 1
    others = len(entries) - 1
    worse = others - tied - len(better)
    return Standing(
        rank=1 + len(better),
        of=len(entries),
        score=own,
        tied=tied,
        to_leader=max(better) - own if better else 0.0,
        to_next=min(better) - own if better else None,
        percentile=100.0 * (worse + tied / 2) / others if others else None,
    )


def leader_of(entries: Sequence[Entry]) -> Entry | None:
    """The entry with the best score, of several the first as the leaderboard lists them."""
    return max(entries, key=lambda entry: entry.score, default=None)
