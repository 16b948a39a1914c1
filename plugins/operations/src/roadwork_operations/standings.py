"""Where one entry of a leaderboard stands: rank, gaps and percentile, right at the edges."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from roadwork_core.errors import DataError


@frozen(kw_only=True)
class Entry:
    """One line of a leaderboard: a name and a finite score, of which more is better."""

    name: str
    score: float


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
    """The standing of an entry, None where the leaderboard does not have it (an empty one has nobody)."""
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


def parse_entries(content: bytes, *, entries: str = "", name: str = "name", score: str = "score") -> list[Entry]:
    """The entries of a JSON document: an array of objects, at the dotted key `entries` where it is not the whole.

    `name` and `score` are the keys of each. Raises DataError for anything else: no JSON, another shape, a score that
    is no finite number, a name that is there twice.
    """
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise DataError("the leaderboard did not answer with JSON") from None
    for part in entries.split(".") if entries else ():
        if not isinstance(found, dict) or part not in found:
            raise DataError(f'the leaderboard\'s answer has no "{entries}"')
        found = found[part]
    if not isinstance(found, list):
        raise DataError("the leaderboard's entries are not an array", hint="name the key that holds them")
    made: dict[str, Entry] = {}
    for index, item in enumerate(found):
        if not isinstance(item, dict) or not {name, score} <= item.keys():
            raise DataError(f'entry {index} of the leaderboard has no "{name}" and "{score}"')
        value, who = item[score], str(item[name])
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"entry {index} of the leaderboard: {value!r} is no finite score")
        if who in made:
            raise DataError(f"the leaderboard names {who!r} twice")
        made[who] = Entry(name=who, score=float(value))
    return list(made.values())
