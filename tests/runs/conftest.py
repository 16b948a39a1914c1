"""Runs of three small stages, so that the engine is tested without training anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import Factory, frozen

from roadwork_core.console import Console
from roadwork_core.plugins import Plugins
from roadwork_core.runs import Run, StageContext, StageOutcome, carry_out, engine
from roadwork_core.stages import Stage


@frozen(kw_only=True)
class Scripted(Stage):
    """A stage whose body is given; it counts how often it ran."""

    body: Callable[[StageContext], Mapping[str, Any]]
    calls: list[str] = Factory(list)

    def run(self, ctx: StageContext) -> Mapping[str, Any]:
        self.calls.append(self.name)
        return self.body(ctx)

    def outside(self, ctx: StageContext) -> Any:
        return None


class World:
    """A run directory, a spec as plain values, and the stages first -> second -> third."""

    def __init__(self, path: Path) -> None:
        self.run = Run(name="trial", path=path / "trial")
        self.values: dict[str, Any] = {"seed": 1, "data": {"n": 2, "workers": 1}, "policy": {"cut": 0.5}, "tracker": []}
        self.calls: list[str] = []
        self.console = Console(verbosity=-1)
        self.stages: list[Scripted] = [
            self.stage("first", ("seed", "data"), (), self.write("out.txt")),
            self.stage("second", ("seed",), ("first/out.txt",), self.write("out.txt")),
            self.stage("third", ("policy",), ("second/*",), self.write("out.txt")),
        ]

    def stage(self, name: str, keys: tuple[str, ...], reads: tuple[str, ...], body: Any) -> Scripted:
        return Scripted(name=name, spec_keys=keys, reads=reads, body=body, calls=self.calls)

    def write(self, name: str) -> Callable[[StageContext], Mapping[str, Any]]:
        def body(ctx: StageContext) -> Mapping[str, Any]:
            text = f"{ctx.stage} {self.values['seed'] if ctx.stage != 'third' else self.values['policy']['cut']}"
            (ctx.folder / name).write_text(text)
            return {"length": len(text)}

        return body

    def replace(self, name: str, body: Any) -> None:
        index = [stage.name for stage in self.stages].index(name)
        old = self.stages[index]
        self.stages[index] = self.stage(name, old.spec_keys, old.reads, body)

    @property
    def resolved(self) -> Any:
        return SimpleNamespace(values=self.values, spec=SimpleNamespace(**self.values))

    def go(self, monkeypatch: pytest.MonkeyPatch) -> list[StageOutcome]:
        monkeypatch.setattr(engine, "STAGES", tuple(self.stages))
        self.calls.clear()
        return carry_out(self.run, self.resolved, Plugins.of({}), self.console)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
