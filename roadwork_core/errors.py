"""The failures that a user can cause or meet: data here, rendered in one place (`roadwork_core.cli`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path

from attrs import frozen


class ExitCode(IntEnum):
    """What a `roadwork` command answers to the shell."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NUMERICAL = 3
    VERIFICATION = 4


@frozen
class Origin:
    """Where a value was written: a file with its line, the command line, or a default."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@frozen
class Problem:
    """One thing that is wrong: what, where (`origin`, dotted `key`) and what to do (`hint`)."""

    message: str
    key: str | None = None
    origin: Origin | None = None
    hint: str | None = None

    def __str__(self) -> str:
        where = " ".join(str(part) for part in (self.origin, self.key) if part is not None)
        text = f"{where}: {self.message}" if where else self.message
        return printable(f"{text} ({self.hint})" if self.hint else text)

    def to_json(self) -> dict[str, object]:
        return {
            "message": self.message,
            "key": self.key,
            "file": self.origin.source if self.origin else None,
            "line": self.origin.line if self.origin else None,
            "hint": self.hint,
        }


def printable(text: str) -> str:
    """Control characters escaped: whatever a stranger's file holds, this is one line and commands no terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class RoadworkError(Exception):
    """A failure that is shown as one clear line and ends a command with `exit_code`.

    `path` (and `line`) name the file or folder concerned; `hint` says what to do.
    """

    exit_code = ExitCode.FAILED

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        path: Path | str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.path = path
        self.line = line

    def problems(self) -> Sequence[Problem]:
        """Every problem that this error stands for, at least one."""
        origin = None if self.path is None else Origin(str(self.path), self.line)
        return (Problem(self.message, origin=origin, hint=self.hint),)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems())


class UsageError(RoadworkError):
    """A wrong argument or input file of a command: exit code 2."""

    exit_code = ExitCode.USAGE


class DataError(RoadworkError):
    """The data cannot be used as the spec says (too few samples, a crossing group, a bad image): exit code 1."""


class InfeasibleError(RoadworkError):
    """A guarantee cannot be given from this much data; the message names the sample size needed: exit code 1."""


class RunLockedError(RoadworkError):
    """Another process works on this run directory: exit code 1."""


class NumericalError(RoadworkError):
    """A loss or weight became non-finite; names the step: exit code 3."""

    exit_code = ExitCode.NUMERICAL


class VerificationError(RoadworkError):
    """A bundle is not what it claims to be; `failures` lists every reason: exit code 4."""

    exit_code = ExitCode.VERIFICATION

    def __init__(self, message: str, failures: Iterable[Problem] = (), *, path: Path | str | None = None) -> None:
        super().__init__(message, path=path)
        self.failures = tuple(failures)

    def problems(self) -> Sequence[Problem]:
        return self.failures or super().problems()


class SpecError(RoadworkError):
    """A spec that cannot be used; `found` holds every problem, not only the first: exit code 2."""

    exit_code = ExitCode.USAGE

    def __init__(self, found: Iterable[Problem]) -> None:
        problems = tuple(found)
        super().__init__(f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in the spec")
        self.found = problems

    def problems(self) -> Sequence[Problem]:
        return self.found


class NotInstalledError(RoadworkError):
    """Something is right and cannot be done here, for want of packages; `found` says which: exit code 1."""

    def __init__(self, found: Iterable[Problem]) -> None:
        self.found = tuple(found)
        super().__init__("; ".join(problem.message for problem in self.found))

    def problems(self) -> Sequence[Problem]:
        return self.found


class UnknownComponentError(RoadworkError):
    """No plugin supplies a component of this kind and name, several do, or the one that does is broken: exit code 2."""

    exit_code = ExitCode.USAGE
