"""Which trials a `[sweep]` stands for: the same ones every time it is asked."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
from attrs import frozen

from roadwork_core.errors import Origin, Problem, SpecError, UsageError
from roadwork_core.plugins import Plugins
from roadwork_core.spec import ResolvedSpec, dump_toml, load_spec
from roadwork_core.spec.dump import toml_value
from roadwork_core.spec.model import NAME_PATTERN, SweepParameter
from roadwork_core.spec.positions import parse_key
from roadwork_core.spec.sweeping import range_values, value_at

Value = bool | int | float | str
#: How often a search draws again for a trial that is there already, before it has had them all.
DRAWS = 200


@frozen(kw_only=True)
class Trial:
    """One spec of a sweep. `text` is the whole spec in TOML, without `[sweep]`; `parameters` what was varied."""

    name: str
    number: int
    parameters: Mapping[str, Value]
    text: str


def trials_of(
    source: Path | str,
    resolved: ResolvedSpec,
    plugins: Plugins,
    *,
    overrides: Sequence[str] = (),
    unset: Sequence[str] = (),
) -> list[Trial]:
    """The trials in order, named `<spec>-<number>` from 0, each resolved once so that what is wrong is said now.

    A random trial follows from the sweep's seed, its own number and the names of the keys: more trials keep the first
    ones. `overrides` and `unset` are those that `resolved` was read with. Raises UsageError for a spec without
    `[sweep]`, SpecError where the values of a trial do not go together.
    """
    sweep = resolved.spec.sweep
    if sweep is None:
        raise UsageError(
            "the spec has no [sweep]", path=source, hint="write one, or carry out this one spec with roadwork run"
        )
    sizes = integer_keys(source, sweep.parameters, plugins, overrides, unset)
    if sweep.method == "grid":
        chosen = _grid(sweep.parameters, sizes)
    else:
        chosen = _random(sweep.parameters, sizes, trials=sweep.trials or 1, seed=sweep.seed or 0)
    trials, problems = [], []
    for number, parameters in enumerate(chosen):
        try:
            trials.append(make_trial(source, resolved, plugins, number, parameters, overrides=overrides, unset=unset))
        except SpecError as error:
            problems += [problem for problem in error.problems() if problem not in problems]
    if problems:
        raise SpecError(problems)
    return trials


def make_trial(
    source: Path | str,
    resolved: ResolvedSpec,
    plugins: Plugins,
    number: int,
    parameters: Mapping[str, Value],
    *,
    overrides: Sequence[str] = (),
    unset: Sequence[str] = (),
) -> Trial:
    """The trial with these values, resolved once. Raises SpecError where they do not go together."""
    name = f"{resolved.spec.name}-{number}"
    settings = [f"{key}={toml_value(value)}" for key, value in parameters.items()]
    try:
        made = load_spec(source, plugins, overrides=[*overrides, *settings], unset=unset, as_trial=True)
    except SpecError as error:
        raise SpecError([_of_trial(problem, name) for problem in error.problems()]) from None
    if len(name) > 100:
        problem = f"is too long for its trials, which must match {NAME_PATTERN}"
        raise SpecError([Problem(problem, "name", resolved.origins.get(("name",)))])
    return Trial(name=name, number=number, parameters=parameters, text=dump_toml({**made.values, "name": name}))


def _of_trial(problem: Problem, name: str) -> Problem:
    note = f"in the trial {name}"
    return attrs.evolve(problem, hint=f"{problem.hint}; {note}" if problem.hint else note)


def integer_keys(
    source: Path | str,
    parameters: Mapping[str, SweepParameter],
    plugins: Plugins,
    overrides: Sequence[str],
    unset: Sequence[str],
) -> dict[str, bool]:
    """Whether a range is one of integers: what its key's type says, not how the ends are written."""
    found = {}
    for key, parameter in parameters.items():
        if parameter.values is None:
            ends = [
                load_spec(
                    source, plugins, overrides=[*overrides, f"{key}={toml_value(end)}"], unset=unset, as_trial=True
                )
                for end in (parameter.low, parameter.high)
            ]
            found[key] = all(type(value_at(end.values, parse_key(key))) is int for end in ends)
    return found


def _grid(parameters: Mapping[str, SweepParameter], integers: Mapping[str, bool]) -> list[dict[str, Value]]:
    axes = [_axis(parameter, integers.get(key, False)) for key, parameter in parameters.items()]
    return [dict(zip(parameters, values, strict=True)) for values in itertools.product(*axes)]


def _axis(parameter: SweepParameter, integers: bool) -> Sequence[Value]:
    values = parameter.values or range_values(parameter, integers=integers)
    if values is None:  # `spec check` refuses it
        raise SpecError([Problem("this range has no end of values", "sweep.parameters", Origin("default"))])
    return values


def _random(
    parameters: Mapping[str, SweepParameter], integers: Mapping[str, bool], *, trials: int, seed: int
) -> list[dict[str, Value]]:
    """Trials that differ from one another; fewer than asked for where the space has no more."""
    chosen: list[dict[str, Value]] = []
    seen: set[str] = set()
    for number in range(trials):
        for attempt in range(DRAWS):
            drawn = {
                key: _draw(parameter, integers.get(key, False), _generator(seed, number, attempt, key))
                for key, parameter in parameters.items()
            }
            if (mark := repr(sorted(drawn.items()))) not in seen:
                seen.add(mark)
                chosen.append(drawn)
                break
        else:
            break
    return chosen


def _generator(seed: int, number: int, attempt: int, key: str) -> np.random.Generator:
    name = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, number, attempt, name])


def _draw(parameter: SweepParameter, integers: bool, rng: np.random.Generator) -> Value:
    low, high = parameter.low, parameter.high
    if parameter.values is not None or low is None or high is None:
        values = parameter.values or ()
        return values[int(rng.integers(len(values)))]
    if parameter.step is not None and (steps := range_values(parameter, integers=integers)):
        return steps[int(rng.integers(len(steps)))]
    if integers and not parameter.log:
        return int(rng.integers(int(low), int(high) + 1))
    if integers:
        # Each integer gets its share of the logarithmic scale, the last one too.
        drawn = math.exp(rng.uniform(math.log(low), math.log(high + 1)))
        return min(int(high), math.floor(drawn))
    if parameter.log:
        return float(min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high))
    return float(rng.uniform(low, high))
