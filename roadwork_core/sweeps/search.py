"""Where the trials of a sweep come from, and what is known of them: given from the start, or drawn as others end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from attrs import define, field, frozen

from ..spec.model import STUDY
from .engine import Ending, Stop
from .importance import importance, importance_by_forest
from .results import Result
from .space import Trial, Value


@frozen(kw_only=True)
class Known:
    """A trial that is known before anything is done: `status` is pending, finished, pruned or failed."""

    name: str
    parameters: Mapping[str, Value]
    status: str


class Search(Protocol):
    """What the engine takes its trials from and tells how they ended."""

    def known(self) -> list[Known]: ...
    def undrawn(self) -> int: ...
    def trials(self) -> Iterator[Trial]: ...
    def ended(self, ending: Ending) -> None: ...
    def hopeless(self, trial: Trial) -> Stop | None: ...
    def results(self, run_dir: Callable[[str], str]) -> list[Result]: ...
    def importance(self, results: Sequence[Result]) -> tuple[list[dict[str, Any]] | None, str]: ...


@define(kw_only=True)
class FixedSearch:
    """The trials of a grid, or those drawn at random, none of which depends on another."""

    all: Sequence[Trial]
    is_done: Callable[[Trial], bool]
    #: What a forest would need to know of trials drawn at random; None for a grid.
    distributions: Callable[[], Mapping[str, Any]] | None = None
    _endings: dict[str, Ending] = field(factory=dict, init=False)
    _done: dict[str, bool] = field(factory=dict, init=False)

    def _is_done(self, trial: Trial) -> bool:
        # Asked once: it reads and digests the files of a run.
        if trial.name not in self._done:
            self._done[trial.name] = self.is_done(trial)
        return self._done[trial.name]

    def known(self) -> list[Known]:
        return [
            Known(
                name=trial.name,
                parameters=trial.parameters,
                status="finished" if self._is_done(trial) else "pending",
            )
            for trial in self.all
        ]

    def undrawn(self) -> int:
        return 0

    def trials(self) -> Iterator[Trial]:
        return (trial for trial in self.all if not self._is_done(trial))

    def ended(self, ending: Ending) -> None:
        self._endings[ending.trial.name] = ending

    def hopeless(self, trial: Trial) -> Stop | None:
        return None

    def results(self, run_dir: Callable[[str], str]) -> list[Result]:
        found = []
        for trial in self.all:
            ending = self._endings.get(trial.name)
            found.append(
                Result(
                    name=trial.name,
                    run_dir=run_dir(trial.name),
                    parameters=trial.parameters,
                    code=ending.code if ending else 0,
                    error=ending.error if ending else None,
                )
            )
        return found

    def importance(self, results: Sequence[Result]) -> tuple[list[dict[str, Any]] | None, str]:
        if self.distributions is None:
            return importance(results)
        if missing := STUDY.missing():
            return None, f"Not computed: it needs {', '.join(missing)} ({STUDY.install})."
        return importance_by_forest(results, self.distributions(), gathered=False)
