"""Data that cannot be used, with every reason at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import DataError, Problem

#: Problems of one kind that are spelled out; the rest are counted.
SHOWN = 20


class DataProblems(DataError):
    """Several things that are wrong with the data; `found` holds each."""

    def __init__(self, found: Iterable[Problem]) -> None:
        self.found = tuple(found)
        super().__init__(self.found[0].message, hint=self.found[0].hint)

    def problems(self) -> Sequence[Problem]:
        return self.found


def listed(summary: Problem, details: Sequence[Problem]) -> DataProblems:
    """An error with a summary, the first of its details, and how many more there are."""
    rest = len(details) - SHOWN
    more = [Problem(f"and {rest} more")] if rest > 0 else []
    return DataProblems([summary, *details[:SHOWN], *more])
