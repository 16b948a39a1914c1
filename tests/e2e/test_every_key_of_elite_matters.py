"""No key of specs/elite.toml is decoration: another value of it visibly changes what the run does, and only that."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from roadwork_core.console import Console
from roadwork_core.errors import RoadworkError
from roadwork_core.files import sha256_file
from roadwork_core.plugins import Plugins
from roadwork_core.policies import load_policies, read_scores
from roadwork_core.runs import Outcome, Run, carry_out, engine, plan
from roadwork_core.spec import ResolvedSpec, load_spec
from roadwork_core.stages import STAGES

from .elite import SMALL, SPEC, dinov2
from .elite_changes import Change, Refusal, changes
from .pictures import CLASSES, draw

NAMES = tuple(stage.name for stage in STAGES)
KEYS = changes("", "")
CASES = [(key, number) for key, found in KEYS.items() for number in range(len(found))]


@frozen
class Elite:
    """A run of the spec with its smallest settings, in a runs directory of its own."""

    runs: Path
    plugins: Plugins
    checkpoint: Path
    pictures: Path

    def copy(self, runs: Path) -> Elite:
        shutil.copytree(self.runs, runs)
        return Elite(runs, self.plugins, self.checkpoint, self.pictures)

    def resolved(self, settings: Sequence[str] = (), unset: Sequence[str] = ()) -> ResolvedSpec:
        own = (f'backbone.model="{self.checkpoint}"', *SMALL, "evaluate.bootstrap=100", "data.workers=0")
        env = {"ROADWORK_DATA": str(self.pictures)}
        return load_spec(SPEC, self.plugins, overrides=[*own, *settings], unset=unset, env=env)

    def first(self, resolved: ResolvedSpec) -> str | None:
        """The first stage that is not up to date."""
        outcomes = plan(self._run(resolved), resolved, self.plugins, Console(verbosity=-1))
        return next((outcome.name for outcome in outcomes if outcome.outcome is Outcome.PENDING), None)

    def go(self, resolved: ResolvedSpec, last: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Carries the run out up to the stage `last`; the stages that ran."""
        with monkeypatch.context() as patch:
            patch.setattr(engine, "STAGES", STAGES[: NAMES.index(last) + 1])
            outcomes = carry_out(self._run(resolved), resolved, self.plugins, Console(verbosity=-1))
        return [outcome.name for outcome in outcomes if outcome.outcome is Outcome.RAN]

    def _run(self, resolved: ResolvedSpec) -> Run:
        return Run(name=resolved.spec.name, path=self.runs / resolved.spec.name)

    def shows(self, what: str, name: str = "elite") -> Any:
        """A digest of a file, a value in one, or a policy's decisions."""
        folder = self.runs / name
        if what == "run":
            return name if folder.is_dir() else None
        if what.startswith("decisions/"):
            return self._decisions(folder, what.removeprefix("decisions/"))
        path, _, pointer = what.partition("#")
        if not pointer:
            return sha256_file(folder / path)
        text = (folder / path).read_text()
        value = [json.loads(line) for line in text.splitlines()] if path.endswith("l") else json.loads(text)
        for part in pointer.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        return value

    def _decisions(self, folder: Path, policy: str) -> list[Any]:
        documents = {path.stem: json.loads(path.read_bytes()) for path in (folder / "fit/policies").glob("*.json")}
        decide = load_policies(documents, self.plugins)[policy].decide
        rows = decide(read_scores(folder / "score" / "test.csv").logits).rows()
        return [(row["label"], row["set"]) for row in rows]


def leaves(value: Any, key: str = "") -> Iterator[str]:
    """Dotted keys of the values in a TOML document; a table in an array counts, a list of numbers is one value."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, f"{key}.{name}".strip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, item in enumerate(value):
            yield from leaves(item, f"{key}.{index}")
    else:
        yield key


def value_of(values: Any, key: str) -> Any:
    """The value of a dotted key, None where the spec lacks it."""
    for part in key.split("."):
        if isinstance(values, list | tuple):
            values = values[int(part)]
        else:
            values = values.get(part) if isinstance(values, dict) else None
    return values


def mislabelled(pictures: Path) -> Path:
    """One frame of each sequence changes places with one of the other class, so that every cut makes mistakes."""
    for folder in sorted((pictures / CLASSES[0]).iterdir()):
        one, other = folder / "frame-4.png", pictures / CLASSES[1] / folder.name / "frame-4.png"
        kept = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(kept)
    return pictures


@pytest.fixture(scope="module")
def elite(tmp_path_factory: pytest.TempPathFactory) -> Elite:
    folder = tmp_path_factory.mktemp("elite")
    pictures = mislabelled(draw(folder / "data"))
    (pictures / "roadwork" / "sequence-00" / "broken.png").write_bytes(b"\x89PNG no more")
    made = Elite(folder / "runs", Plugins.load(), dinov2(folder / "dinov2"), pictures)
    with pytest.MonkeyPatch.context() as patch:
        assert made.go(made.resolved(), NAMES[-1], patch) == list(NAMES)
    return made


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Another checkpoint and another folder of pictures."""
    folder = tmp_path_factory.mktemp("others")
    return str(dinov2(folder / "dinov2", seed=1)), str(draw(folder / "data", seed=1))


def test_the_table_has_every_key_of_the_spec_and_no_other() -> None:
    assert sorted(KEYS) == sorted(leaves(tomllib.loads(SPEC.read_text())))


@pytest.mark.slow
def test_without_a_change_nothing_that_is_compared_differs(
    elite: Elite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: made twice from nothing, a run shows the same, so that a difference below is the key's."""
    again = Elite(tmp_path / "runs", elite.plugins, elite.checkpoint, elite.pictures)
    assert again.go(again.resolved(), "fit", monkeypatch) == list(NAMES[: NAMES.index("fit") + 1])
    compared = {what for found in KEYS.values() for change in found for what in compared_by(change)}
    compared = {what for what in compared if not what.startswith(("evaluate/", "bundle/"))}
    assert len(compared) > 20
    assert {what: again.shows(what) for what in compared} == {what: elite.shows(what) for what in compared}
    assert elite.first(elite.resolved()) is None


def compared_by(change: Change | Refusal) -> tuple[str, ...]:
    return () if isinstance(change, Refusal) else (*change.differs, *change.becomes, *change.same)


@pytest.mark.slow
@pytest.mark.parametrize(("key", "number"), CASES, ids=[f"{key}-{number}" for key, number in CASES])
def test_another_value_changes_what_the_run_does(
    elite: Elite, others: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, number: int
) -> None:
    change = changes(*others)[key][number]
    run = elite.copy(tmp_path / "runs")
    if isinstance(change, Refusal):
        with pytest.raises(RoadworkError) as caught:
            run.go(run.resolved(change.settings), "prepare", monkeypatch)
        told = "\n".join(str(part) for part in (caught.value, caught.value.path, getattr(caught.value, "problems", "")))
        assert [word for word in change.words if word not in told] == []
        return
    last = change.last or change.first
    given = run.resolved(change.given)
    if change.given:
        run.go(given, last, monkeypatch)
    before = {what: run.shows(what) for what in compared_by(change)}
    changed = run.resolved([*change.given, *change.settings], change.unset)
    assert value_of(changed.values, key) != value_of(given.values, key)
    assert run.first(changed) == change.first
    ran = run.go(changed, last, monkeypatch)
    assert ran == list(NAMES[NAMES.index(change.first) : NAMES.index(last) + 1])
    after = {what: run.shows(what, changed.spec.name) for what in compared_by(change)}
    assert [what for what in change.differs if after[what] == before[what]] == []
    assert {what: after[what] for what in change.becomes} == dict(change.becomes)
    assert [what for what in change.becomes if after[what] == before[what]] == []
    assert [what for what in change.same if after[what] != before[what]] == []
