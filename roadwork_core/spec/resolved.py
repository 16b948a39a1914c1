"""From a spec's text to a resolved spec: read, merge, override, expand, check."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import attrs

from ..component import component_info
from ..errors import NotInstalledError, Origin, Problem, SpecError
from ..kinds import Kind
from ..plugins import Plugins
from .check import Checker
from .crosschecks import cross_check
from .fields import Slot
from .findings import Findings
from .merge import compose, load_document
from .model import Spec
from .needs import Need, needs_of
from .overrides import apply_overrides
from .positions import parse_key
from .read import TEXT, read_text
from .scalars import FAILED
from .sweeping import check_sweep
from .tree import DEFAULT, KeyPath, Node, node_of
from .variables import expand_variables

#: Tables that `roadwork run` does not read.
OF_OTHER_COMMANDS = ("sweep", "leaderboard")


@attrs.frozen(kw_only=True, eq=False)
class ResolvedSpec:
    """A spec that checked: the instances, the same as plain values, and where each value was written.

    `values` is JSON-able and holds every key with its default; `warnings` are deprecations.
    `source` is the file that was read, or "<text>".
    """

    spec: Spec
    values: Mapping[str, Any]
    source: str
    warnings: tuple[Problem, ...]
    components: tuple[type, ...]
    origins: Mapping[KeyPath, Origin]
    needs: tuple[Need, ...]

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The values without the tables of other commands, which say nothing of what a run makes."""
        return {key: value for key, value in self.values.items() if key not in OF_OTHER_COMMANDS}

    def origin(self, key: str) -> Origin:
        """Where the value of a dotted key (`loss.gamma`, `augment.0.size`) was written; `default` if nowhere.

        Raises KeyError for a key that the spec does not have.
        """
        path = tuple(int(part) if part.isdecimal() else part for part in parse_key(key))
        for candidate in (path, tuple(map(str, path))):
            if candidate in self.origins:
                return self.origins[candidate]
        raise KeyError(key)

    def require_installed(self, *, also: Collection[str] = ()) -> None:
        """Looks for what the components need beyond what is installed with them, without importing it.

        `also` are tables of other commands (`OF_OTHER_COMMANDS`) whose needs count as well as a run's. Raises
        NotInstalledError with a line for each component that lacks something.
        """
        others = set(OF_OTHER_COMMANDS) - set(also)
        if found := [problem for need in self.needs if need.table not in others and (problem := need.problem())]:
            raise NotInstalledError(dict.fromkeys(found))

    def counts(self) -> dict[str, int]:
        """How many components of each kind the spec uses."""
        counted = Counter(component_info(cls).kind for cls in self.components)
        return {str(kind): counted[kind] for kind in Kind if kind in counted}


def load_spec(
    source: Path | str,
    plugins: Plugins,
    *,
    overrides: Sequence[str] = (),
    unset: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
    as_trial: bool = False,
) -> ResolvedSpec:
    """Reads and resolves a spec.

    `source` is a file; a str with a line break or an equals sign is TOML text itself, whose `extends` and
    `${spec_dir}` stand in the current directory. `overrides` are `a.b=<TOML value>` and go over `unset` keys and
    files. `as_trial` leaves `[sweep]` out: the spec is one of those that it stands for. Raises SpecError with every
    problem that was found.
    """
    found = Findings()
    document, folder, shown = _document(source, env, found)
    if document is None:
        found.raise_if_any(shown)
        raise AssertionError("a document without problems is there")
    try:
        document = apply_overrides(document, overrides, unset, folder, found)
        if as_trial:
            document = document.with_value({key: node for key, node in document.value.items() if key != "sweep"})
        written, document = document, expand_variables(document, env, found)
        checker = Checker(plugins, found)
        spec, values = checker.section(Spec, document, ())
    except RecursionError:
        raise SpecError([Problem("is nested too deeply", origin=Origin(shown))]) from None
    if not found.problems:
        cross_check(spec, checker.origins, found)
    if not found.problems:
        _ask_plugins(spec, plugins, checker, found)
    needs = [] if found.problems else needs_of(checker.made, found)
    if not found.problems and spec.sweep is not None:
        tried = check_sweep(spec.sweep, written, document, plugins, checker.origins, env, found)
        # What a trial needs and the spec itself does not, the sweep needs.
        needs += [attrs.evolve(need, table="sweep") for need in tried if need not in needs]
    found.problems = [_placed(problem, shown, found.bases) for problem in found.problems]
    found.raise_if_any(shown)
    return ResolvedSpec(
        spec=spec,
        values=values,
        source=shown,
        warnings=tuple(found.warnings),
        components=tuple(checker.components),
        origins=checker.origins,
        needs=tuple(dict.fromkeys(needs)),
    )


def resolve_component(
    kind: Kind | str, values: Mapping[str, Any], plugins: Plugins, *, source: str | None = None
) -> Any:
    """A component instance from its plain table (`use` and options), for documents outside a spec.

    An option may be None (JSON's null) where its type allows it, as in what `component_options` returns.
    `source` names the document in messages. Raises SpecError with every problem.
    """
    found = Findings()
    origin = Origin(source) if source is not None else DEFAULT
    node = node_of(values, origin, Path.cwd())
    instance, _ = Checker(plugins, found).component(Slot(Kind(kind)), node, ())
    if source is None:
        found.problems = [attrs.evolve(problem, origin=None) for problem in found.problems]
    found.raise_if_any(source)
    assert instance is not FAILED
    return instance


def component_from_settings(
    kind: Kind | str, values: Mapping[str, Any], settings: Sequence[str], plugins: Plugins
) -> Any:
    """A component instance from the table `values` with `settings` over it, each KEY=VALUE with a TOML value.

    For commands that take a component without a spec. Raises SpecError with every problem.
    """
    found = Findings()
    document = apply_overrides(node_of(values, Origin("command line"), Path.cwd()), settings, (), Path.cwd(), found)
    found.raise_if_any()
    return resolve_component(kind, document.plain(), plugins, source="command line")


def _document(source: Path | str, env: Mapping[str, str], found: Findings) -> tuple[Node | None, Path, str]:
    if isinstance(source, str) and ("\n" in source or "=" in source):
        folder = Path.cwd()
        return compose(read_text(source, TEXT, folder), Path(), env, found), folder, TEXT
    path = Path(source)
    folder = Path(os.path.abspath(path)).parent  # noqa: PTH100 - keeps links as they are named
    return load_document(path, env, found), folder, str(path)


def _ask_plugins(spec: Spec, plugins: Plugins, checker: Checker, found: Findings) -> None:
    answers = plugins.hook.roadwork_spec_resolved(spec=spec)
    for problem in (problem for answer in answers for problem in answer):
        if not isinstance(problem, Problem):
            found.add(f"a plugin's roadwork_spec_resolved answers {problem!r}, which is no Problem")
            continue
        origin = problem.origin
        if origin is None and problem.key:
            try:
                path = tuple(int(part) if part.isdecimal() else part for part in parse_key(problem.key))
                origin = checker.origins.get(path)
            except ValueError:
                origin = None
        found.add(problem.message, key=problem.key, origin=origin, hint=problem.hint)


def _placed(problem: Problem, shown: str, bases: Set[str]) -> Problem:
    """A problem in a default or in a file that the spec extends says so."""
    origin = problem.origin
    if origin == DEFAULT:
        note, origin = "this is a default", Origin(shown, 1)
    elif origin is not None and origin.source in bases:
        note = f"in a base of {shown}"
    else:
        return problem
    return attrs.evolve(problem, origin=origin, hint=f"{problem.hint}; {note}" if problem.hint else note)
