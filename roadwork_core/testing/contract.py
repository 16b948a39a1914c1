"""The checks that every component passes, whatever its kind."""

from __future__ import annotations

import functools
import json
import os
import random
import subprocess
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn

import attrs

from ..component import component_info
from ..errors import Problem
from ..kinds import Kind
from ..plugins import Plugins, Status
from ..spec.fields import FieldTypeError, fields_of
from . import static
from .recording import recording
from .results import difference

#: Calls that would move the one state a component may draw from are repeated from this.
SEED = 20_170_807


class ConformanceError(AssertionError):
    """A component breaks a promise of its kind; the message says which."""


class ConformanceWarning(UserWarning):
    """Something that a component should do better, and need not."""


def refuse(reason: str) -> NoReturn:
    """Fails the check that is running."""
    raise ConformanceError(reason)


class ComponentContract(ABC):
    """Subclass the contract of a kind in a test module, name the component, and pytest runs the checks.

    `component` is a name with its plugin ("acme/focal") or a class. `options` are the TOML options to test with:
    give those that have no default. `variants` are changes to them under which fields are read that are not
    otherwise (each is tested like a component of its own).
    """

    kind: ClassVar[Kind]
    component: ClassVar[str | type]
    options: ClassVar[Mapping[str, Any]] = {}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ()

    @abstractmethod
    def exercise(self, component: Any) -> Any:
        """Builds the component, uses what it made, and returns the results, to be compared."""

    # --- what every component promises ---

    def test_loads_without_heavy_libraries(self) -> None:
        """Loading the plugin and checking the class imports no torch, transformers, torchvision, scikit-learn."""
        info = component_info(self.cls)
        if isinstance(self.component, str):
            answer = _load_in_fresh_process("plugin", self.plugins.owner(self.cls).name)
        else:
            answer = _load_in_fresh_process("module", self.cls.__module__, info.file)
        if answer["broken"]:
            refuse(f"the plugin is broken in a process of its own: {'; '.join(answer['broken'])}")
        if answer["heavy"]:
            refuse(f"loading the plugin imports {', '.join(answer['heavy'])}; import them in build")

    def test_speaks_the_kinds_language(self) -> None:
        """It is of this kind, has the kind's methods, and its names mean one thing."""
        info = component_info(self.cls)
        if info.kind is not self.kind:
            refuse(f"{self.cls.__name__} is a {info.kind}, and this is the contract of a {self.kind}")
        try:
            fields_of(self.cls)
        except FieldTypeError as error:
            refuse(str(error))
        _refuse_all([*static.interface_problems(self.cls), *static.name_problems(self.cls)])

    def test_is_frozen(self) -> None:
        """Its fields cannot be assigned to."""
        _refuse_all(static.frozen_problems(self.cls))

    def test_is_documented(self) -> None:
        """The class has a docstring and every option a line of help."""
        _refuse_all(static.documentation_problems(self.cls))
        if plain := static.undocumented(self.cls):
            text = f"{self.cls.__name__}: {', '.join(plain)} would be documented by option(default=..., help=...)"
            warnings.warn(text, ConformanceWarning, stacklevel=1)

    def test_defaults_are_valid(self) -> None:
        """A spec could have written every default."""
        _refuse_all(static.default_problems(self.cls, self.plugins, fields_of(self.cls)))

    def test_names_what_it_needs(self) -> None:
        """What it needs beyond its distribution's dependencies is named by `needs`, which imports none of it."""
        for component in self.cases():
            _refuse_all(static.needs_problems(component))

    def test_survives_toml(self) -> None:
        """Written as TOML and read again it is equal."""
        for component in self.cases():
            if lost := static.toml_difference(component, self.plugins):
                refuse(lost)

    def test_build_reads_every_field(self) -> None:
        """No option is without effect: each is read by `build` or by what it made, in one of the variants."""
        unread = {field.name for field in attrs.fields(self.cls)}
        for component in self.cases():
            copy, read = recording(component)
            seeded(self.exercise)(copy)
            unread -= read
            changed = [f.name for f in attrs.fields(self.cls) if getattr(copy, f.name) != getattr(component, f.name)]
            if changed:
                refuse(f"build changes the component: {', '.join(changed)}")
        if unread:
            refuse(f"nothing reads {', '.join(sorted(unread))}; give `variants` under which it counts, or remove it")

    def test_same_seed_gives_the_same_result(self) -> None:
        """Two runs from one seed agree in every bit."""
        for component in self.cases():
            first, second = (seeded(self.exercise)(component) for _ in range(2))
            if found := difference(first, second):
                refuse(f"two runs from one seed differ: {found}")

    # --- for the contracts of the kinds ---

    def base_options(self) -> Mapping[str, Any]:
        """The options to test with; override it where they must be made first (a folder with pictures)."""
        return self.options

    @property
    def cls(self) -> type:
        """The component's class."""
        if not isinstance(self.component, str):
            return self.component
        return self.plugins.get(self.kind, self.component)

    @property
    def plugins(self) -> Plugins:
        """The installed plugins, and the component where it was given as a class."""
        return _with(None if isinstance(self.component, str) else self.component)

    def make(self, options: Mapping[str, Any] | None = None) -> Any:
        """An instance with `options` (default: those of the contract)."""
        return static.resolve(self.cls, self.base_options() if options is None else options, self.plugins)

    def cases(self) -> list[Any]:
        """One instance for the options and one for each variant of them."""
        base = dict(self.base_options())
        return [self.make(base), *(self.make({**base, **variant}) for variant in self.variants)]


def seeded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, run with every global random generator at the same state."""

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        seed_everything(SEED)
        return function(*arguments, **named)

    return run


def seed_everything(seed: int) -> None:
    """Sets the global generators of torch, numpy and Python."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _refuse_all(problems: Iterable[Problem]) -> None:
    if found := [str(problem) for problem in problems]:
        refuse("\n".join(found))


@functools.cache
def _installed() -> Plugins:
    return Plugins.load()


@functools.lru_cache(maxsize=32)
def _with(cls: type | None) -> Plugins:
    plugins = _installed()
    if cls is None or any(cls in record.components for record in plugins.records):
        return plugins
    extended = plugins.extended({"under_test": SimpleNamespace(roadwork_components=lambda: [cls])})
    if extended.records[-1].status is Status.BROKEN:
        refuse(f"{cls.__name__} cannot be handed over: {extended.records[-1].cause}")
    return extended


@functools.cache
def _load_in_fresh_process(*arguments: str) -> dict[str, list[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-m", "roadwork_core.testing.load_check", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        refuse(f"loading fails in a process of its own:\n{done.stderr.strip()}")
    answer: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return answer
