"""Runs the commands of a page: `roadwork` in this process, what is safe in a shell, and nothing that must not run."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import define, field, frozen

from roadwork_core.cli import _parse, main
from roadwork_core.files import digest_json, sha256_file
from roadwork_core.plugins import Plugins
from roadwork_core.spec import load_spec

from .pages import Block

#: Commands that are not run, by how they begin, and why. Those of `roadwork` are parsed and their spec is checked.
NOT_RUN = {
    "pip install": "changes the environment; the package is put on the path instead",
    "uv sync": "changes the environment",
    "hf download": "fetches ten gigabytes",
    "accelerate launch": "starts processes of its own; tests/training/test_processes.py runs it",
    "roadwork run specs/quickstart.toml --processes": "starts processes; tests/training/test_processes.py runs it",
    "uv run pytest": "is the suite that this test belongs to",
    "uv run ruff": "is a job of its own in CI",
    "uv run mypy": "is a job of its own in CI",
    "roadwork run street.toml": "trains on pictures that the reader has; tests/e2e/test_starter.py runs it",
    "ray start": "starts a cluster; tests/ray has one",
    "roadwork sweep sweep.toml --engine ray": "starts a Ray; tests/ray/test_ray.py runs it",
    "roadwork predict runs/street/bundle/street path/to/pictures --engine": "starts a Ray, as above",
    "roadwork serve": "goes on until it is told to stop; the tests of the plugin serving run it",
    "curl": "asks the server that was not started",
}
#: Laid over the quickstart, and over what a page bases on it, wherever a page runs it, so that it takes seconds.
SMALL = (
    *("data.n=200", "data.width=48", "data.height=36", "data.workers=0", "backbone.image_size=32"),
    *("train.epochs=1", "evaluate.bootstrap=100"),
)
QUICKSTART = "specs/quickstart.toml"
QUICK = (QUICKSTART, "mine.toml")
PYTEST = ["python", "-m", "pytest"]
#: Digests of packages whose tests passed: two pages begin with the same one.
_PASSED: set[str] = set()
_EXIT = re.compile(r"# exit code (\d+)\s*$")
_ASSIGNMENT = re.compile(r"([A-Z_][A-Z0-9_]*)=(.*)")


@frozen
class Line:
    """A line of a block: its commands, joined by && on the page, and the exit code that it announces."""

    number: int
    text: str
    code: int


def lines_of(block: Block) -> Iterator[Line]:
    """The lines of a sh block; one that ends in a backslash goes on."""
    pending, start = "", 0
    for number, text in enumerate(block.text.splitlines(), block.line + 1):
        start = start or number
        if text.endswith("\\"):
            pending += text[:-1]
            continue
        whole, pending, first, start = pending + text, "", start, 0
        announced = _EXIT.search(whole)
        if shlex.split(whole, comments=True):
            yield Line(first, whole, int(announced[1]) if announced else 0)


def simple_commands(text: str) -> list[list[str]]:
    """The words of each command of a line, in the order of their carrying out."""
    commands: list[list[str]] = [[]]
    for word in shlex.split(text, comments=True):
        if word == "&&":
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def reason_not_to_run(words: list[str]) -> str | None:
    text = " ".join(words)
    return next((why for begin, why in NOT_RUN.items() if text == begin or text.startswith(f"{begin} ")), None)


@define
class Shell:
    """A working directory with an environment. `output` collects what the commands wrote, both streams in order."""

    folder: Path
    installed: list[str] = field(factory=list)
    output: str = ""

    def run(self, line: Line) -> int:
        """The exit code of the line's last command, or of the first that fails."""
        code = 0
        for words in simple_commands(line.text):
            code = self._command(words, line.text)
            if code:
                break
        return code

    def _command(self, words: list[str], text: str) -> int:
        variables = {}
        while words and (match := _ASSIGNMENT.fullmatch(words[0])):
            variables[match[1]] = match[2]
            words = words[1:]
        refused = reason_not_to_run(words)
        words = words[2:] if words[:2] == ["uv", "run"] else words
        if refused:
            self._without_running(words)
            return 0
        if words[0] == "cd":
            self.folder = (self.folder / words[1]).resolve()
            return 0
        if words[0] == "roadwork":
            return self._roadwork(words[1:], variables)
        return self._bash(text, words)

    def _without_running(self, words: list[str]) -> None:
        if words[:3] == ["pip", "install", "-e"]:
            self._install((self.folder / words[3]).resolve())
        if words[0] == "roadwork":
            with contextlib.chdir(self.folder):
                _, options = _parse(words[1:])
                if words[1] == "run":
                    load_spec(options.spec, Plugins.load(), overrides=options.overrides, unset=options.unset)

    def _install(self, package: Path) -> None:
        """Makes a package known to this process, as its editable install would."""
        import tomllib

        from tests.plugins.sites import write_metadata

        project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
        site = package / "src"
        write_metadata(site, project["name"], project["version"], project["entry-points"])
        sys.path.insert(0, str(site))
        self.installed.append(str(site))

    def uninstall(self) -> None:
        """Takes back what `pip install -e` stood for."""
        for site in self.installed:
            sys.path.remove(site)
            for name in [entry.name for entry in Path(site).iterdir()]:
                for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                    del sys.modules[module]

    def _roadwork(self, words: list[str], variables: Mapping[str, str]) -> int:
        target = None
        if ">" in words:
            target = words[words.index(">") + 1]
            words = words[: words.index(">")]
        if words[:1] == ["run"] and words[1] in QUICK:
            words = [*words[:2], *(part for key in SMALL for part in ("--set", key)), *words[2:]]
        out, both = io.StringIO(), io.StringIO()
        before = dict(os.environ)
        os.environ.update(variables)
        try:
            with (
                contextlib.chdir(self.folder),
                contextlib.redirect_stdout(out if target else both),
                contextlib.redirect_stderr(both),
            ):
                code = main(words)
        finally:
            os.environ.clear()
            os.environ.update(before)
        if target:
            (self.folder / target).write_text(out.getvalue())
        self.output += both.getvalue()
        return code

    def _bash(self, text: str, words: list[str]) -> int:
        key = digest_json([words, {str(path.relative_to(self.folder)): sha256_file(path) for path in self._sources()}])
        if key in _PASSED:
            return 0
        command = text if "&&" not in text else shlex.join(words)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.output += done.stdout
        if words == PYTEST and done.returncode == 0:
            _PASSED.add(key)
        return done.returncode

    def _sources(self) -> list[Path]:
        return sorted(self.folder.rglob("*.py"))
