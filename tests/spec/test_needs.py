"""What a component needs beyond its distribution's dependencies is looked for before anything is done."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from roadwork_core import component, option
from roadwork_core.cli import main
from roadwork_core.errors import NotInstalledError, SpecError
from roadwork_core.extras import Requirement, require
from tests.e2e.tiny import tiny_spec

from .toys import MINIMAL, Built, plugin, resolve, toys

ABSENT = "a_library_that_nobody_has"
ACME = "pip install acme[gpu]"


@component("head", "acme")
class Acme(Built):
    """A stranger's head that needs a library for one of its ways."""

    way: str = option(default="plain", help="how")

    def needs(self) -> list[Requirement]:
        return [Requirement((ABSENT, "json"), ACME)] if self.way == "fast" else []


@component("head", "wrong")
class Wrong(Built):
    """Says what it needs in words."""

    def needs(self) -> Any:
        return ["a library"]


def missing(text: str, *, also: tuple[str, ...] = ()) -> list[str]:
    resolved = resolve(text, plugins=toys(acme=plugin(Acme, Wrong)))
    try:
        resolved.require_installed(also=also)
    except NotInstalledError as error:
        return [str(problem) for problem in error.problems()]
    return []


def test_a_strangers_component_says_what_it_needs_at_its_line() -> None:
    spec = MINIMAL + '[head]\nuse = "acme"\n'
    assert missing(spec) == []
    assert missing(spec + 'way = "fast"\n') == [
        f'<text>:8 head: the head "acme" needs what is not installed: {ABSENT} ({ACME})'
    ]


def test_what_only_a_trial_needs_the_sweep_needs_and_no_run() -> None:
    sweep = '[head]\nuse = "acme"\n[sweep.parameters]\n"head.way" = { values = ["plain", "fast"] }\n'
    assert missing(MINIMAL + sweep) == []
    (said,) = missing(MINIMAL + sweep, also=("sweep",))
    assert f'the head "acme" needs what is not installed: {ABSENT}' in said


def test_a_study_needs_optuna_where_trials_follow_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    sweep = '[sweep]\nmethod = "{}"\ntrials = 3\n[sweep.parameters]\n"backbone.width" = {{ low = 1, high = 9 }}\n'
    assert missing(MINIMAL + sweep.format("random"), also=("sweep",)) == []
    (said,) = missing(MINIMAL + sweep.format("tpe"), also=("sweep",))
    assert said.startswith("<text>:8 sweep: [sweep] needs what is not installed: optuna (")
    assert said.endswith("uv pip install '.[sweeps]')")


def test_a_bundle_that_must_carry_onnx_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert missing(MINIMAL + '[bundle]\nonnx = "auto"\n') == []
    (said,) = missing(MINIMAL + '[bundle]\nonnx = "on"\n')
    assert said.startswith("<text>:8 bundle: [bundle] needs what is not installed: onnxscript (")


def test_an_answer_that_cannot_be_used_is_the_plugins_fault() -> None:
    with pytest.raises(SpecError, match=r"head: Wrong.needs\(\) fails: TypeError: 'a library' is no Requirement"):
        missing(MINIMAL + '[head]\nuse = "wrong"\n')


@pytest.mark.parametrize("modules", [(), ("a.b",), ("",), ("torch>=2",)])
def test_a_requirement_names_top_level_modules(modules: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        Requirement(modules, ACME)


def test_require_is_for_those_who_build_without_a_spec() -> None:
    require("it", [Requirement(("json",), ACME)])
    with pytest.raises(NotInstalledError, match=f"it needs what is not installed: {ABSENT}"):
        require("it", [Requirement(("json", ABSENT), ACME)])


# --- the commands, with the tracker mlflow and without its library


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    extra = '[[tracker]]\nuse = "mlflow"\n[sweep.parameters]\n"optimizer.lr" = { values = [0.1, 0.2] }\n'
    return tiny_spec(tmp_path, extra=extra)


@pytest.mark.parametrize("command", [("spec", "check"), ("run",), ("run", "--processes", "2"), ("sweep",)], ids=str)
def test_every_command_says_so_before_it_does_anything(
    command: tuple[str, ...], spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    options = [] if command[0] == "spec" else ["--runs-dir", str(runs)]
    assert main([*command, str(spec), *options]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert 'tracker.0: the tracker "mlflow" needs what is not installed: mlflow (' in line
    assert line.endswith("uv pip install '.[mlflow]')")
    assert not runs.exists()


def test_a_script_reads_it_as_an_error_of_exit_code_1(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spec", "check", str(spec), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 1
    assert [problem["key"] for problem in said["errors"]] == ["tracker.0"]
    assert "'.[mlflow]'" in said["errors"][0]["hint"]
