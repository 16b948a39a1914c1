"""A search in which each trial follows from those before: tree-structured Parzen estimators, by Optuna."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, field

from roadwork_core.errors import ExitCode, SpecError
from roadwork_core.runs import Run
from roadwork_core.spec.model import Sweep, SweepParameter
from roadwork_core.spec.sweeping import range_values
from roadwork_core.training.selection import LOWER_IS_BETTER, best_epoch

from .engine import Ending, Stop
from .importance import importance_by_forest
from .results import Result
from .search import Known
from .space import DRAWS, Trial, Value
from .study import Record, State, Study, in_memory, is_figure, quiet_optuna

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

#: How often the estimator is asked for a trial that is new, before chance is.
_ESTIMATES = 20


@define(kw_only=True)
class TpeSearch:
    """Draws a trial when there is room for one, and writes down what became of it.

    Trial n follows from the sweep's seed, n and what the study holds when it is drawn: one at a time, a sweep that
    was killed draws what it would have drawn; several at a time, it depends on which of them ended first.
    `make` resolves a trial from its number and values, `figure` reads a finished run, `is_done` says whether nothing
    is left to do for one, `has_these_data` whether the run of one that has not finished was prepared from the data as
    they are. What is known of a trial whose run no longer stands counts for nothing: not for the draws of others, not
    for a pruner and not in a report.
    """

    #: Of the spec: trials are called after it.
    name: str
    sweep: Sweep
    integers: Mapping[str, bool]
    metric: str
    study: Study
    make: Callable[[int, Mapping[str, Value]], Trial]
    figure: Callable[[Run], float]
    is_done: Callable[[Trial], bool]
    has_these_data: Callable[[Trial], bool]
    run_of: Callable[[str], Run]
    warn: Callable[[str], None] = lambda text: None
    _seen: dict[str, int] = field(factory=dict, init=False)

    @property
    def maximise(self) -> bool:
        return self.metric not in LOWER_IS_BETTER

    @property
    def startup(self) -> int:
        return 10 if self.sweep.startup_trials is None else self.sweep.startup_trials

    @property
    def wanted(self) -> int:
        return self.sweep.trials or 1

    def records(self) -> list[Record]:
        """What is known of the trials that the spec asks for."""
        return [record for record in self.study.records() if record.number < self.wanted]

    def known(self) -> list[Known]:
        found = []
        for record in self.records():
            pending = record.state is State.RUNNING or self._is_superseded(record)
            status = "pending" if pending else str(record.state)
            found.append(Known(name=f"{self.name}-{record.number}", parameters=record.parameters, status=status))
        return found

    def undrawn(self) -> int:
        return self.wanted - len(self.records())

    def trials(self) -> Iterator[Trial]:
        """First those that a sweep before this one left unfinished, then new ones, drawn one by one."""
        if superseded := [record.number for record in self.study.records() if self._is_superseded(record)]:
            self.study.renew(superseded)
        for record in self.records():
            if record.state in (State.PRUNED, State.FINISHED):
                continue
            if record.state is State.FAILED:
                self.study.begin(record.number, record.parameters, record.drawn, self.distributions())
            if (trial := self._made(record.number, record.parameters)) is not None:
                yield trial
        while (known := self.study.records()) is not None and len(known) < self.wanted:
            drawn = self._draw(known)
            if drawn is None:
                return
            parameters = self._values(drawn)
            self.study.begin(len(known), parameters, drawn, self.distributions())
            if (trial := self._made(len(known), parameters)) is not None:
                yield trial

    def _is_superseded(self, record: Record) -> bool:
        """Whether its run was of other data, or is gone, so that its figure or its epochs say nothing any more."""
        # One that failed may be one whose values do not go together, of which there is no spec; it is begun anew.
        if record.state is State.FAILED or (record.state is State.RUNNING and not record.epochs):
            return False
        trial = self.make(record.number, record.parameters)
        return not (self.is_done(trial) if record.state is State.FINISHED else self.has_these_data(trial))

    def _made(self, number: int, parameters: Mapping[str, Value]) -> Trial | None:
        """The trial; one whose values do not go together has failed before it began."""
        try:
            return self.make(number, parameters)
        except SpecError as error:
            text = "; ".join(str(problem) for problem in error.problems())
            self.study.fail(number, int(ExitCode.USAGE), text)
            self.warn(text)
            return None

    def ended(self, ending: Ending) -> None:
        """Writes down how a trial ended."""
        number = ending.trial.number
        if ending.stop is not None:
            self.study.prune(number, ending.stop.value)
        elif ending.code != 0:
            self.study.fail(number, ending.code, ending.error or "")
        elif is_figure(value := self.figure(self.run_of(ending.trial.name))):
            self.study.finish(number, value)
        else:
            self.study.fail(number, int(ExitCode.FAILED), f"val_select does not define {self.metric}")

    def hopeless(self, trial: Trial) -> Stop | None:
        """Why the trial is to be ended, by the epochs that its checkpoint tells of; None where it goes on."""
        if self.sweep.prune == "none":
            return None
        from roadwork_core.training.snapshot import history_of

        scratch = self.run_of(trial.name).scratch("train")
        history = history_of(scratch)
        before = self._seen.get(trial.name, 0)
        if history is None or len(history) <= before:
            return None
        last = int(tomllib.loads(trial.text)["train"]["epochs"])
        for count in range(before + 1, len(history) + 1):
            best = best_epoch(history[:count], self.metric)
            if best is None:
                continue
            epoch = int(history[count - 1]["epoch"])
            self.study.saw_epoch(trial.number, epoch, best.value)
            self._seen[trial.name] = count
            if epoch < last and self._is_pruned(trial.number, last):
                return Stop(epoch=epoch, value=best.value)
        return None

    def results(self, run_dir: Callable[[str], str]) -> list[Result]:
        found = []
        for record in self.records():
            name = f"{self.name}-{record.number}"
            epochs = list(record.epochs)
            pruned = record.state is State.PRUNED and epochs
            found.append(
                Result(
                    name=name,
                    run_dir=run_dir(name),
                    parameters=record.parameters,
                    code=record.code,
                    error=record.error,
                    pruned=Stop(epoch=epochs[-1], value=record.epochs[epochs[-1]]) if pruned else None,
                )
            )
        return found

    def importance(self, results: Sequence[Result]) -> tuple[list[dict[str, Any]] | None, str]:
        return importance_by_forest(results, self.distributions(), gathered=True)

    def _is_pruned(self, number: int, epochs: int) -> bool:
        import optuna

        first = self.sweep.prune_after or 1
        pruner: optuna.pruners.BasePruner
        if self.sweep.prune == "median":
            pruner = optuna.pruners.MedianPruner(n_startup_trials=0, n_warmup_steps=first)
        else:
            pruner = optuna.pruners.HyperbandPruner(min_resource=first, max_resource=max(first, epochs))
        behind = self.study.falls_behind(number, pruner)
        finished = sum(record.state is State.FINISHED for record in self.study.records())
        return behind and finished >= self.startup

    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna draws from, by key."""
        return distributions_of(self.sweep, self.integers)

    def _draw(self, known: Sequence[Record]) -> dict[str, Any] | None:
        """Values that no trial had before; None where the space has no others, as far as many draws tell."""
        import optuna

        number, taken = len(known), {_mark(record.parameters) for record in known}
        distributions = self.distributions()
        for attempt in range(DRAWS):
            entropy = np.random.SeedSequence([self.sweep.seed or 0, number, attempt])
            seed = int(entropy.generate_state(1)[0])
            with quiet_optuna():
                sampler: optuna.samplers.BaseSampler
                if attempt < _ESTIMATES:
                    sampler = optuna.samplers.TPESampler(
                        seed=seed, n_startup_trials=self.startup, multivariate=True, constant_liar=True
                    )
                else:
                    sampler = optuna.samplers.RandomSampler(seed=seed)
                study = in_memory(known, distributions, maximise=self.maximise, sampler=sampler)
                drawn = study.ask(fixed_distributions=distributions).params
            if _mark(self._values(drawn)) not in taken:
                return dict(drawn)
        return None

    def _values(self, drawn: Mapping[str, Any]) -> dict[str, Value]:
        """What was drawn as the spec writes it: a range with a step gives its exact values."""
        return {
            key: _exact(drawn[key], parameter, integers=self.integers.get(key, False))
            for key, parameter in self.sweep.parameters.items()
        }


#: What the figures on val_select do not follow from.
_APART = ("name", "description", "tracker", "policy", "evaluate", "bundle")


def made_for(values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved spec that a study's figures follow from; more trials are no other study."""
    found = {key: value for key, value in values.items() if key not in _APART}
    found["data"] = {key: value for key, value in values["data"].items() if key != "workers"}
    found["sweep"] = {key: value for key, value in values["sweep"].items() if key != "trials"}
    return found


def distributions_of(sweep: Sweep, integers: Mapping[str, bool]) -> dict[str, BaseDistribution]:
    """The values and ranges of a sweep as Optuna has them, by key."""
    return {
        key: _distribution(parameter, integers=integers.get(key, False)) for key, parameter in sweep.parameters.items()
    }


def _mark(parameters: Mapping[str, Value]) -> str:
    return repr(sorted(parameters.items()))


def _steps(parameter: SweepParameter, *, integers: bool) -> tuple[int | float, ...] | None:
    return None if parameter.step is None else range_values(parameter, integers=integers)


def _distribution(parameter: SweepParameter, *, integers: bool) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    low, high = parameter.low, parameter.high
    if parameter.values is not None or low is None or high is None:
        return CategoricalDistribution(parameter.values or ())
    steps = _steps(parameter, integers=integers)
    if integers:
        last = int(steps[-1]) if steps else int(high)
        return IntDistribution(int(low), last, log=parameter.log, step=int(parameter.step or 1))
    if steps:
        return FloatDistribution(float(low), float(steps[-1]), step=float(parameter.step or 0))
    return FloatDistribution(float(low), float(high), log=parameter.log)


def _exact(value: Any, parameter: SweepParameter, *, integers: bool) -> Value:
    steps = _steps(parameter, integers=integers)
    if not steps:
        found: Value = value
        return found
    return min(steps, key=lambda step: abs(step - value))
