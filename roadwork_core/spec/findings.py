"""What resolving a spec finds: every problem and warning, in the order of the text."""

from __future__ import annotations

from ..errors import Origin, Problem, SpecError


class Findings:
    """Collects problems, so that all are reported at once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        #: False once a part of the document is missing (a base that cannot be read): then what is absent may
        #: stand there, and only what is present can be judged.
        self.whole = True
        #: The files that were read as bases.
        self.bases: set[str] = set()

    def add(
        self, message: str, *, key: str | None = None, origin: Origin | None = None, hint: str | None = None
    ) -> None:
        problem = Problem(message, key=key or None, origin=origin, hint=hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def warn(self, message: str, *, key: str, origin: Origin, hint: str | None = None) -> None:
        self.warnings.append(Problem(message, key=key, origin=origin, hint=hint))

    def raise_if_any(self, source: str | None = None) -> None:
        """Raises SpecError; `source` is the spec's own file, whose problems come first."""
        if self.problems:
            raise SpecError(sorted(self.problems, key=lambda problem: _order(problem, source)))


def _order(problem: Problem, source: str | None) -> tuple[bool, bool, str, int]:
    """The spec's own lines, then its bases', then what has no line."""
    origin = problem.origin
    if origin is None:
        return (True, True, "", 0)
    return (origin.source != source, origin.line is None, origin.source, origin.line or 0)
