"""Watching a leaderboard: what an entry's standing is and was, and when that is an alarm."""

from .alerts import Alert, Rules
from .history import History, Poll
from .standing import Standing, standing_of
from .watching import Look, Watcher, moment

__all__ = ["Alert", "History", "Look", "Poll", "Rules", "Standing", "Watcher", "moment", "standing_of"]
