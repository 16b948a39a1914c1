"""Every hook is documented with its exact arguments, and is called where the documentation says."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadwork_core import hookimpl, hookspecs
from roadwork_core.discovery import hook_names
from roadwork_core.errors import Problem, SpecError
from roadwork_core.kinds import Kind
from roadwork_core.plugins import Plugins
from roadwork_core.spec import load_spec

from .sites import place, roadwork, write_plugin

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "hooks.md"
SPEC = ROOT / "specs" / "quickstart.toml"


def documented() -> dict[str, str]:
    """The signature of each hook as the page's headings give it, by name."""
    return dict(re.findall(r"^## `(roadwork_\w+)\((.*)\)`$", PAGE.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("name", hook_names())
def test_a_hook_is_documented_with_its_exact_arguments(name: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
    assert documented().get(name) == arguments


def test_nothing_is_documented_that_is_no_hook() -> None:
    assert list(documented()) == hook_names()


@pytest.mark.parametrize("name", hook_names())
def test_a_hook_has_a_docstring_and_a_test_that_calls_it(name: str) -> None:
    assert getattr(hookspecs, name).__doc__
    assert callable(getattr(sys.modules[__name__], f"test_{name}_is_called", None)), f"write test_{name}_is_called"


def test_every_hook_is_called_by_the_core() -> None:
    source = "".join(path.read_text() for path in (ROOT / "roadwork_core").rglob("*.py"))
    called = set(re.findall(r"\bhook\.(roadwork_\w+)\(", source))
    # Discovery asks each plugin for its components itself, so that one that fails harms no other.
    assert called == set(hook_names()) - {"roadwork_components"}


class Ear:
    """A plugin that writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @hookimpl
    def roadwork_run_started(self, run: Any) -> None:
        self.heard.append(("started", run.name))

    @hookimpl
    def roadwork_epoch_finished(self, run: Any, metrics: Mapping[str, Any]) -> None:
        self.heard.append(("epoch", run.name, metrics["epoch"]))

    @hookimpl
    def roadwork_run_finished(self, result: Mapping[str, Any]) -> None:
        self.heard.append(("finished", result["status"]))


def test_roadwork_components_is_called() -> None:
    from .faulty import gives, made

    cls = made("loss", gives(len))
    plugins = Plugins.of({"p": SimpleNamespace(roadwork_components=hookimpl(lambda: [cls]))})
    assert plugins.get(Kind.LOSS, "faulty") is cls


def test_roadwork_spec_resolved_is_called() -> None:
    class Guard:
        @hookimpl
        def roadwork_spec_resolved(self, spec: Any) -> list[Problem]:
            return [Problem(f"{spec.name} is not allowed here", key="name")]

    plugins = Plugins.load()
    assert load_spec(SPEC, plugins).spec.name
    with pytest.raises(SpecError, match="is not allowed here"):
        load_spec(SPEC, plugins.extended({"guard": Guard()}))


def test_roadwork_run_started_is_called() -> None:
    ear = Ear()
    Plugins.of({"ear": ear}).hook.roadwork_run_started(run=SimpleNamespace(name="trial"))
    assert ear.heard == [("started", "trial")]


def test_roadwork_epoch_finished_is_called() -> None:
    ear = Ear()
    run = SimpleNamespace(name="trial")
    Plugins.of({"ear": ear}).hook.roadwork_epoch_finished(run=run, metrics={"epoch": 3, "loss": 0.1})
    assert ear.heard == [("epoch", "trial", 3)]


def test_roadwork_run_finished_is_called() -> None:
    ear = Ear()
    run = SimpleNamespace(name="trial")
    Plugins.of({"ear": ear}).hook.roadwork_run_finished(run=run, result={"status": "failed"})
    assert ear.heard == [("finished", "failed")]


RUN_BODY = """
import json, os
from roadwork_core import hookimpl

def told(*words):
    with open(os.environ["EAR"], "a") as file:
        print(json.dumps(words), file=file)

@hookimpl
def roadwork_run_started(run):
    told("started", run.name)

@hookimpl
def roadwork_run_finished(run, result):
    told("finished", run.name, result["status"])
"""


def test_a_run_tells_its_beginning_and_its_end_even_where_it_fails(tmp_path: Path) -> None:
    site = write_plugin(tmp_path / "site", "run_ear", RUN_BODY)
    nothing = tmp_path / "no-such-folder"
    spec = tmp_path / "spec.toml"
    spec.write_text(
        'spec_version = 1\nname = "trial"\n[data]\nuse = "image_folder"\nroot = "' + str(nothing) + '"\n'
        '[backbone]\nuse = "small_cnn"\n'
    )
    done = roadwork("run", str(spec), "--runs-dir", str(tmp_path / "runs"), site=site, EAR=str(tmp_path / "heard"))
    assert done.returncode == 1, done.stderr
    heard = (tmp_path / "heard").read_text().splitlines()
    assert heard == ['["started", "trial"]', '["finished", "trial", "failed"]']


def test_roadwork_bundle_check_is_called() -> None:
    class Guard:
        @hookimpl
        def roadwork_bundle_check(self, bundle: Any) -> list[Problem]:
            return [Problem(f"{bundle.path} is too old")]

    answers = Plugins.of({"guard": Guard()}).hook.roadwork_bundle_check(bundle=SimpleNamespace(path="elite"))
    assert [str(problem) for answer in answers for problem in answer] == ["elite is too old"]


def test_roadwork_commands_is_called(tmp_path: Path) -> None:
    site = place(tmp_path, "acme_commands")
    done = roadwork("greet", "world", site=site)
    assert (done.returncode, done.stdout) == (0, "hello, world\n")
    listed = roadwork("--help", site=site)
    assert re.search(r"greet\s+\(from acme_commands\)", listed.stdout)
    mistaken = roadwork("gret", site=site)
    assert mistaken.returncode == 2
    assert 'did you mean "greet"?' in mistaken.stderr


def test_help_lists_announced_commands_without_importing_the_plugin(tmp_path: Path) -> None:
    site = place(tmp_path, "acme_commands")
    (site / "acme_commands" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    done = roadwork("--help", site=site)
    assert done.returncode == 0
    assert "greet" in done.stdout
