"""No key of a spec is decoration: a run reads every leaf of the resolved spec, and a walk over them all proves it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from roadwork_core.cli.run import execute
from roadwork_core.component import is_component
from roadwork_core.console import Console
from roadwork_core.plugins import Plugins
from roadwork_core.runs import Run
from roadwork_core.spec import load_spec

from .tiny import tiny_spec

#: Modules that handle every key alike: being seen by them does not make a key useful.
BLIND = ("attr.", "attrs.", "roadwork_core.spec.", "roadwork_core.runs.fingerprint", __name__)
#: Read before the resolved spec exists.
READ_BY_THE_READER = {"spec_version"}
#: Read only where another key says so, delta by the inductive variant and keep by select = "confident", or by another
#: command: `roadwork sweep`, `roadwork leaderboard`.
READ_ON_CONDITION = {"leaderboard", "policy.scrc.delta", "sweep", "tta.keep"}
#: Tables that only a fusion of that name reads.
READ_BY_A_FUSION = ("tta.attention", "tta.learned")


def tables(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every attrs instance in a resolved spec with its dotted key: sections and components."""
    if isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from tables(item, f"{key}.{index}")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from tables(item, f"{key}.{name}")
    elif attrs.has(type(value)):
        yield key.strip("."), value
        for field in attrs.fields(type(value)):
            inner = getattr(value, field.name)
            own = key if field.name == "component" else f"{key}.{field.name}"
            yield from tables(inner, own)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, str]]:
    """(id of the instance, field) of every attribute read outside of the modules that are blind to meaning."""
    return set()


def watch(instances: list[Any], reads: set[tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in {type(instance) for instance in instances}:
        names = {field.name for field in attrs.fields(cls)}

        def record(self: Any, name: str, names: set[str] = names) -> Any:
            if name in names:
                module = sys._getframe(1).f_globals.get("__name__", "")
                if not module.startswith(BLIND):
                    reads.add((id(self), name))
            return object.__getattribute__(self, name)

        monkeypatch.setattr(cls, "__getattribute__", record, raising=False)


@pytest.mark.slow
def test_every_leaf_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: set[tuple[int, str]]) -> None:
    spec_path = tiny_spec(tmp_path, everything=True)
    plugins = Plugins.load()
    resolved = load_spec(spec_path, plugins)
    found = list(tables(resolved.spec))
    watch([instance for _, instance in found], reads, monkeypatch)
    execute(Run(name=resolved.spec.name, path=tmp_path / "runs" / "tiny"), resolved, plugins, Console(verbosity=-1))
    unread = [
        f"{key}.{field.name}".strip(".")
        for key, instance in found
        for field in attrs.fields(type(instance))
        if (id(instance), field.name) not in reads
    ]
    unread = [key for key in unread if not key.startswith(READ_BY_A_FUSION)]
    assert sorted(set(unread) - READ_BY_THE_READER - READ_ON_CONDITION) == []
    assert sum(is_component(instance) for _, instance in found) >= 14
