"""What a leaderboard promises."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ..errors import RoadworkError
from ..kinds import Entry, Kind, LeaderboardContext
from .contract import ComponentContract, refuse

#: What every environment variable holds while a leaderboard is tried: it must come back nowhere.
SECRET = "stand-in-t0ken"


class Environment(Mapping[str, str]):
    """An environment in which every variable is set, to `SECRET`."""

    def __getitem__(self, name: str) -> str:
        return SECRET

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class LeaderboardContract(ComponentContract):
    """A leaderboard gives its entries, each name once, says what it reads, and leaves everything as it is.

    `stand_in_board` is a server for those that ask one. `broken` are changes to the options under which it cannot be
    read: that must be a RoadworkError, which watching survives.
    """

    kind = Kind.LEADERBOARD
    broken: ClassVar[Sequence[Mapping[str, Any]]] = ()

    def exercise(self, component: Any) -> Any:
        entries = self._board(component).read()
        return {"source": component.source, "entries": [(one.name, one.score) for one in entries]}

    def test_gives_entries(self) -> None:
        """Of the type, each name once, the same when asked again."""
        for component in self.cases():
            board = self._board(component)
            entries = board.read()
            if not isinstance(entries, Sequence) or not all(isinstance(entry, Entry) for entry in entries):
                refuse(f"read gives {entries!r:.200}, which is no sequence of Entry")
            names = [entry.name for entry in entries]
            if twice := next((name for name in names if names.count(name) > 1), None):
                refuse(f"it names {twice!r} twice")
            if list(board.read()) != list(entries):
                refuse("read again, it gives other entries")

    def test_says_what_it_reads_and_no_secret(self) -> None:
        """`source` is one line, and what the environment holds stands nowhere in what can be printed."""
        for component in self.cases():
            board, source = self._board(component), getattr(component, "source", None)
            if not isinstance(source, str) or not source or not source.isprintable():
                refuse(f"source is {source!r}, which is no line that says what is read")
            if SECRET in f"{source} {board!r} {component!r}":
                refuse("what the environment holds stands in what it prints")

    def test_leaves_everything_as_it_is(self) -> None:
        """Building and reading write nothing into the current directory."""
        for component in self.cases():
            here = Path.cwd()
            with tempfile.TemporaryDirectory() as elsewhere:
                os.chdir(elsewhere)
                try:
                    self._board(component).read()
                finally:
                    os.chdir(here)
                if left := sorted(path.name for path in Path(elsewhere).iterdir()):
                    refuse(f"it writes {', '.join(left)} into the current directory")

    def test_says_when_it_cannot_be_read(self) -> None:
        """A leaderboard that cannot be had is a RoadworkError, of one line and without a secret."""
        for change in self.broken:
            board = self._board(self.make({**self.base_options(), **change}))
            try:
                board.read()
            except RoadworkError as error:
                if SECRET in str(error):
                    refuse(f"the error holds what the environment holds: {str(error).replace(SECRET, '...')}")
                if not str(error).isprintable():
                    refuse(f"the error is not one line: {error!r}")
            except Exception as error:  # noqa: BLE001 - whatever else it may raise is the finding
                refuse(f"with {dict(change)} read raises {type(error).__name__}, no RoadworkError")
            else:
                refuse(f"with {dict(change)} it can be read")

    @staticmethod
    def _board(component: Any) -> Any:
        return component.build(LeaderboardContext(environ=Environment()))
