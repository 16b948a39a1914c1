"""The options of the leaderboard; nothing is asked before it is read."""

from __future__ import annotations

from collections.abc import Mapping

from roadwork_core import component, option
from roadwork_core.kinds import Leaderboard, LeaderboardContext


@component("leaderboard", "example")
class Example:
    """A leaderboard whose scores stand in the spec, where another would ask a server."""

    scores: Mapping[str, float] = option(default={"somebody": 1.0}, help="each name with its score")

    @property
    def source(self) -> str:
        return "the spec"

    def build(self, ctx: LeaderboardContext) -> Leaderboard:
        from .boards import Written

        return Written(self.scores)
