"""Looks at a board again and again, and says each poll after it was written: python -m ... FILE SOURCE COUNT."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from roadwork_core.kinds import Entry
from roadwork_core.leaderboard import History, Rules, Watcher


class Growing:
    """The own entry loses a place with every look."""

    def __init__(self) -> None:
        self.looks = 0

    def read(self) -> Sequence[Entry]:
        self.looks += 1
        return [Entry(name="me", score=0.0), *(Entry(name=str(rank), score=1.0) for rank in range(self.looks))]


def main(path: str, entry_of: str, count: int) -> None:
    with History(Path(path)) as history:
        watcher = Watcher(board=Growing(), source=entry_of, entry="me", history=history, rules=Rules(drop=1))
        for _ in range(count):
            print(watcher.look().poll.id, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
