"""What `[sweep]` may vary: every value must be one that the spec itself could have, said at its own line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

from ..errors import Origin
from ..plugins import Plugins
from .check import Checker
from .crosschecks import cross_check
from .edit import EditError, set_key
from .fields import fields_of
from .findings import Findings
from .hints import nearest
from .model import Spec, Sweep, SweepParameter
from .needs import Need, needs_of
from .positions import parse_key
from .tree import DEFAULT, KeyPath, Node, format_key
from .variables import expand_variables

#: What a trial's val_select figures follow from. Data and splits are what trials are compared on, policies come later.
SWEPT = ("augment", "backbone", "adapt", "adapter", "head", "loss", "optimizer", "scheduler", "train")
#: Keys in these tables that a sweep must leave alone, and why.
FIXED = {"train.select_by": "trials are compared by it"}
#: The most trials of a grid, and the most values that a step may make.
MOST = 10_000

_Reporter = Callable[..., None]


def range_values(parameter: SweepParameter, *, integers: bool) -> tuple[int | float, ...] | None:
    """The values of a range with a step, ends included as far as the step reaches them; None where it has none.

    `integers`: the key takes integers, whose step is 1 unless one is given. Exact: 0.1 + 2 * 0.1 is 0.3.
    """
    low, high, step = parameter.low, parameter.high, parameter.step
    if low is None or high is None or (step is None and (not integers or parameter.log)):
        return None
    first, each = Fraction(str(low)), Fraction(str(1 if step is None else step))
    count = math.floor((Fraction(str(high)) - first) / each) + 1
    if count > MOST:
        return None
    exact = [first + index * each for index in range(count)]
    return tuple(int(value) if integers else float(value) for value in exact)


def check_sweep(
    sweep: Sweep,
    written: Node,
    expanded: Node,
    plugins: Plugins,
    origins: Mapping[KeyPath, Origin],
    env: Mapping[str, str],
    found: Findings,
) -> list[Need]:
    """Adds a problem for each key that cannot be swept and each value that the key does not take.

    `written` is the spec before its variables are expanded, so that what refers to a key goes with it; `expanded` the
    same after, without a problem in itself. Returns what the spec needs with each of the values.
    """

    def report(message: str, *path: str, hint: str | None = None) -> None:
        place: KeyPath = ("sweep", *path)
        while place and origins.get(place, DEFAULT) == DEFAULT:
            place = place[:-1]
        found.add(message, key=format_key(("sweep", *path)), origin=origins.get(place), hint=hint)

    if not sweep.parameters:
        report("names no key to vary", "parameters", hint='write "optimizer.lr" = { values = [1e-4, 1e-3] }')
    _check_method(sweep, report)
    base = {key: child for key, child in written.value.items() if key != "sweep"}
    size = 1
    needs: list[Need] = []
    for name, parameter in sweep.parameters.items():
        before = len(found.problems)
        path = _path(name)
        if path is None:
            report(f'"{name}" is not a key', "parameters", name, hint="write a.b, or a.0.b in arrays")
        elif reason := _refused(path):
            report(reason, "parameters", name)
        else:
            _shape(parameter, name, report)
        if len(found.problems) > before or path is None:
            continue
        table = expanded.value["sweep"].value["parameters"].value[name]
        integers = True
        for node in _candidates(parameter, table):
            kind, needed = _try(path, node, written.with_value(base), plugins, env, found)
            needs += needed
            integers = integers and kind is int
        if len(found.problems) == before and sweep.method == "grid":
            size *= _grid_size(parameter, integers, name, report)
    if size > MOST:
        report(f"the grid has {size:,} trials, more than {MOST:,}", "parameters", hint='write method = "random"')
    return needs


def _check_method(sweep: Sweep, report: _Reporter) -> None:
    """What goes with the method, and what it needs."""
    if sweep.method != "grid" and sweep.trials is None:
        report(f"a {sweep.method} search needs the number of its trials", "trials", hint="write trials = 20")
    for name in ("trials", "seed") if sweep.method == "grid" else ():
        if getattr(sweep, name) is not None:
            report("a grid carries out every combination", name, hint=f'leave {name} out, or write method = "random"')
    if sweep.method != "tpe":
        for name in ("startup_trials", "prune", "prune_after"):
            if getattr(sweep, name) not in (None, "none"):
                report("belongs to another method", name, hint=f'leave {name} out, or write method = "tpe"')
    elif sweep.prune == "none" and sweep.prune_after is not None:
        report("says when to prune, and nothing is pruned", "prune_after", hint='write prune = "median"')
    elif sweep.prune != "none" and "train.epochs" in sweep.parameters:
        report(
            "trials of different lengths are not comparable at the same epoch",
            "prune",
            hint="leave prune out, or do not vary train.epochs",
        )


def _path(name: str) -> KeyPath | None:
    try:
        return parse_key(name)
    except ValueError:
        return None


def _refused(path: KeyPath) -> str | None:
    key = format_key(path)
    if key in FIXED:
        return f"cannot be swept: {FIXED[key]}"
    if path[0] in SWEPT:
        return None
    if path[0] in fields_of(Spec):
        return f"cannot be swept: a sweep varies {', '.join(SWEPT)}, and compares on the same val_select"
    return f'unknown key "{path[0]}" of the spec ({nearest(str(path[0]), SWEPT, what="a sweep varies")})'


def _shape(parameter: SweepParameter, name: str, report: _Reporter) -> None:
    def say(message: str, *path: str, hint: str | None = None) -> None:
        report(message, "parameters", name, *path, hint=hint)

    low, high = parameter.low, parameter.high
    ranged = [key for key in ("low", "high", "step") if getattr(parameter, key) is not None]
    if parameter.values is not None:
        for key in [*ranged, *(["log"] if parameter.log else [])]:
            say("belongs to a range, and values are given", key, hint="keep one of the two")
        if len(set(map(repr, parameter.values))) < len(parameter.values):
            say("names a value twice", "values")
    elif low is None or high is None:
        say("needs values, or both low and high", hint="values = [...], or low = ... and high = ...")
    elif not (math.isfinite(low) and math.isfinite(high) and low < high):
        say(f"low must be below high, got {low!r} and {high!r}", "low")
    elif parameter.log and low <= 0:
        say(f"must be above 0 for a logarithm, got {low!r}", "low")
    elif parameter.log and parameter.step is not None:
        say("cannot go with log", "step", hint="give values, or leave one of the two out")
    elif parameter.step is not None and parameter.step > high - low:
        say(f"is wider than the range, got {parameter.step!r}", "step")
    elif parameter.step is not None and (high - low) / parameter.step >= MOST:
        say(f"makes more than {MOST:,} values", "step")


def _candidates(parameter: SweepParameter, table: Node) -> Iterator[Node]:
    """The nodes of the values, or of what a range can reach: its ends, and its first step."""
    if parameter.values is not None:
        yield from table.value["values"].value
        return
    yield table.value["low"]
    yield table.value["high"]
    step = parameter.step
    if (
        step is not None
        and parameter.low is not None
        and isinstance(step, float)
        and not isinstance(parameter.low, float)
    ):
        node: Node = table.value["step"]
        yield node.with_value(float(Fraction(str(parameter.low)) + Fraction(str(step))))


def _try(
    path: KeyPath, value: Node, document: Node, plugins: Plugins, env: Mapping[str, str], found: Findings
) -> tuple[type | None, list[Need]]:
    """Holds the spec with this value against the classes; the type of the key's value then, and what it needs."""
    trial = Findings()
    try:
        changed = expand_variables(set_key(document, path, value), env, trial)
    except EditError as error:
        found.problems.append(error.problem)
        return None, []
    checker = Checker(plugins, trial)
    spec, values = checker.section(Spec, changed, ())
    if not trial.problems:
        cross_check(spec, checker.origins, trial)
    found.problems += [problem for problem in trial.problems if problem not in found.problems]
    if trial.problems:
        return None, []
    return type(value_at(values, path)), needs_of(checker.made, found)


def value_at(values: object, path: KeyPath) -> object:
    """The value of a key of resolved plain values; None where a table on the way is absent."""
    for part in path:
        if isinstance(values, Mapping):
            values = values.get(part)
        elif isinstance(values, list | tuple):
            values = values[int(part)]
        else:
            return None
    return values


def _grid_size(parameter: SweepParameter, integers: bool, name: str, report: _Reporter) -> int:
    if parameter.values is not None:
        return len(parameter.values)
    values = range_values(parameter, integers=integers)
    if values is None:
        hint = "write values = [...], or a step" if not parameter.log else "write values = [...]"
        report("a grid needs values: this range has no end of them", "parameters", name, hint=hint)
        return 1
    return len(values)
