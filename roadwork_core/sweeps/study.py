"""What a sweep knows of its trials, in one SQLite file that Optuna reads too: nothing of it is lost by a kill."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from roadwork_core.errors import UsageError

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from .space import Value

FILE = "study.sqlite3"
_MADE_FOR = "made_for"
#: Of a study that was renewed: every record that it takes over is there.
_WHOLE = "whole"


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without the lines that Optuna logs, and its notes on what is experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


class State(StrEnum):
    """How far a trial is."""

    RUNNING = "running"
    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"


@frozen(kw_only=True)
class Record:
    """A trial as the study has it: `figure` once finished, `epochs` the best value up to each epoch that was seen."""

    number: int
    state: State
    parameters: Mapping[str, Value]
    drawn: Mapping[str, Any]
    figure: float | None = None
    epochs: Mapping[int, float]
    code: int = 0
    error: str | None = None


class Study:
    """The records of a sweep, each change one transaction; without a `folder`, in memory.

    A trial that is carried out again gets a record of its own, which takes the place of the earlier one. `made_for`
    is what the figures follow from. Raises UsageError where the file was made for something else. A study that was
    renewed is another one for Optuna, in the same file under the name "<name> (2)" and so on; the last one counts.
    """

    def __init__(self, folder: Path | None, *, name: str, maximise: bool, made_for: Mapping[str, Any]) -> None:
        import optuna
        import sqlalchemy

        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.path = None if folder is None else folder / FILE
        url = sqlalchemy.URL.create("sqlite", database=str(self.path or ":memory:")).render_as_string()
        self._optuna, self._first, self._name = optuna, name, name
        with quiet_optuna():
            self._storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
            optuna.create_study(
                storage=self._storage,
                study_name=name,
                direction="maximize" if maximise else "minimize",
                load_if_exists=True,
            )
        whole = {study.study_name for study in self._storage.get_all_studies() if study.user_attrs.get(_WHOLE)}
        while (later := self._next_name()) in whole:
            self._name = later
        self._id = self._storage.get_study_id_from_name(self._name)
        self._ids: dict[int, int] = {}
        self._claim(made_for)

    def _next_name(self) -> str:
        number = 1 if self._name == self._first else int(self._name.removeprefix(f"{self._first} (")[:-1])
        return f"{self._first} ({number + 1})"

    def renew(self, superseded: Collection[int]) -> None:
        """Leaves behind what is known of these trials, which then wait to be carried out with the same values.

        Optuna forgets no record and changes none that has ended, and its pruners look at all. So the others move to
        a new study; the old one stays in the file to be looked at. A kill leaves the one or the other, whole.
        """
        states = self._optuna.trial.TrialState
        latest = {int(trial.user_attrs["number"]): trial for trial in self._trials()}
        name, directions = self._next_name(), self._storage.get_study_directions(self._id)
        with quiet_optuna():
            if name in {study.study_name for study in self._storage.get_all_studies()}:
                self._storage.delete_study(self._storage.get_study_id_from_name(name))
            new = self._storage.create_new_study(directions, name)
        for number in sorted(latest):
            trial = latest[number]
            if number in superseded:
                trial = self._optuna.trial.create_trial(
                    state=states.RUNNING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={key: trial.user_attrs[key] for key in ("number", "parameters")},
                )
            self._storage.create_new_trial(new, template_trial=trial)
        self._storage.set_study_user_attr(new, _MADE_FOR, self._storage.get_study_user_attrs(self._id)[_MADE_FOR])
        self._storage.set_study_user_attr(new, _WHOLE, True)
        self._name, self._id = name, new
        self._ids.clear()
        self.records()

    def _trials(self) -> Sequence[optuna.trial.FrozenTrial]:
        found: Sequence[optuna.trial.FrozenTrial] = self._storage.get_all_trials(self._id, deepcopy=False)
        return found

    def _claim(self, made_for: Mapping[str, Any]) -> None:
        text = json.dumps(made_for, sort_keys=True)
        before = self._storage.get_study_user_attrs(self._id).get(_MADE_FOR)
        if before is None:
            self._storage.set_study_user_attr(self._id, _MADE_FOR, text)
        elif before != text:
            old, new = json.loads(before), json.loads(text)
            changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            raise UsageError(
                f"this sweep was begun with another spec: {', '.join(sorted(changed))} changed since, so its trials"
                " say nothing of the new one",
                path=self.path,
                hint="give the spec another name, or delete this file to begin anew",
            )

    def records(self) -> list[Record]:
        """The latest record of each trial, by number."""
        found: dict[int, Record] = {}
        for trial in self._trials():
            number = int(trial.user_attrs["number"])
            self._ids[number] = trial._trial_id
            state = _STATES[trial.state.name]
            found[number] = Record(
                number=number,
                state=state,
                parameters=json.loads(trial.user_attrs["parameters"]),
                drawn=dict(trial.params),
                figure=trial.value if state is State.FINISHED else None,
                epochs=dict(sorted(trial.intermediate_values.items())),
                code=int(trial.user_attrs.get("code", 0)),
                error=trial.user_attrs.get("error"),
            )
        return [found[number] for number in sorted(found)]

    def begin(
        self,
        number: int,
        parameters: Mapping[str, Value],
        drawn: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        """Writes down that this trial is being carried out."""
        template = self._optuna.trial.create_trial(
            state=self._optuna.trial.TrialState.RUNNING,
            params=dict(drawn),
            distributions=dict(distributions),
            user_attrs={"number": number, "parameters": json.dumps(parameters)},
        )
        self._ids[number] = self._storage.create_new_trial(self._id, template_trial=template)

    def saw_epoch(self, number: int, epoch: int, value: float) -> None:
        self._storage.set_trial_intermediate_value(self._ids[number], epoch, value)

    def falls_behind(self, number: int, pruner: optuna.pruners.BasePruner) -> bool:
        """Whether the pruner would end the trial, by the epochs that were seen of it and of all others.

        A pruner may keep notes of its own in the study, so it is to be asked after every epoch.
        """
        with quiet_optuna():
            study = self._optuna.load_study(study_name=self._name, storage=self._storage, pruner=pruner)
            return bool(pruner.prune(study, self._storage.get_trial(self._ids[number])))

    def finish(self, number: int, figure: float) -> None:
        """`figure` is finite."""
        self._end(number, "COMPLETE", [figure])

    def prune(self, number: int, value: float) -> None:
        self._end(number, "PRUNED", [value])

    def fail(self, number: int, code: int, error: str) -> None:
        self._storage.set_trial_user_attr(self._ids[number], "code", code)
        self._storage.set_trial_user_attr(self._ids[number], "error", error)
        self._end(number, "FAIL", None)

    def _end(self, number: int, state: str, values: Sequence[float] | None) -> None:
        self._storage.set_trial_state_values(
            self._ids[number], state=self._optuna.trial.TrialState[state], values=values
        )


_STATES = {
    "RUNNING": State.RUNNING,
    "WAITING": State.RUNNING,
    "COMPLETE": State.FINISHED,
    "PRUNED": State.PRUNED,
    "FAIL": State.FAILED,
}


def in_memory(
    records: Sequence[Record],
    distributions: Mapping[str, BaseDistribution],
    *,
    maximise: bool,
    sampler: optuna.samplers.BaseSampler,
) -> optuna.Study:
    """The records as a study that nothing else sees. A loss that was not finite counts as worse than any figure."""
    import optuna

    states = {
        State.RUNNING: optuna.trial.TrialState.RUNNING,
        State.FINISHED: optuna.trial.TrialState.COMPLETE,
        State.PRUNED: optuna.trial.TrialState.PRUNED,
        State.FAILED: optuna.trial.TrialState.FAIL,
    }
    study = optuna.create_study(
        study_name="sweep",
        direction="maximize" if maximise else "minimize",
        sampler=sampler,
    )
    for record in records:
        diverged = record.state is State.FAILED and record.code == DIVERGED
        study.add_trial(
            optuna.trial.create_trial(
                state=states[State.PRUNED if diverged else record.state],
                params=dict(record.drawn),
                distributions=dict(distributions),
                value=record.figure if record.state is State.FINISHED else None,
                intermediate_values={} if diverged else dict(record.epochs),
            )
        )
    return study


#: The exit code of a run whose loss was not finite.
DIVERGED = 3


def is_figure(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
