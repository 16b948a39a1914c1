"""The leaderboard itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from roadwork_core.kinds import Entry


class Written:
    """Entries from names and scores. `read` raises RoadworkError where a leaderboard cannot be had."""

    def __init__(self, scores: Mapping[str, float]) -> None:
        self._scores = scores

    def read(self) -> Sequence[Entry]:
        return [Entry(name=name, score=score) for name, score in self._scores.items()]
