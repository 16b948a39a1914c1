"""Every error is a clear line with the documented exit code; nothing but `--traceback` shows where it arose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roadwork_core import __version__, hookimpl
from roadwork_core.cli import COMMANDS, main
from roadwork_core.errors import ExitCode
from roadwork_core.plugins import Plugins


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command, (_, line) in COMMANDS.items():
        assert command in text
        assert line.split(",")[0] in " ".join(text.split())


def test_no_arguments_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "usage: roadwork" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"usage: roadwork {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"roadwork {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], 'did you mean "run"?'),
        (["--frobnicate"], "unknown option --frobnicate"),
        (["run"], "SPEC"),
        (["run", "a.toml", "b.toml"], "unrecognized arguments: b.toml"),
        (["predict"], "BUNDLE"),
        (["spec", "frobnicate"], "frobnicate"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_a_missing_spec_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", str(tmp_path / "none.toml"), "--runs-dir", str(tmp_path)]) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert "none.toml" in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_errors_are_json_where_json_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    spec = tmp_path / "wrong.toml"
    spec.write_text('name = "x"\nsede = 1\n')
    assert main(["run", str(spec), "--json"]) == ExitCode.USAGE
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 2
    assert {"message", "key", "file", "line", "hint"} <= set(document["errors"][0])
    assert any(error["line"] == 2 and "seed" in error["hint"] for error in document["errors"])


def test_traceback_is_shown_on_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", str(tmp_path / "none.toml"), "--traceback"]) == ExitCode.USAGE
    assert "Traceback" in capsys.readouterr().err


def test_an_unforeseen_error_is_a_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from roadwork_core.cli import runs

    def explode(*_: object) -> int:
        raise ZeroDivisionError("division by\nzero")

    monkeypatch.setattr(runs, "handle", explode)
    assert main(["runs", "list"]) == ExitCode.FAILED
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ZeroDivisionError: division by zero")
    assert len(captured.err.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "roadwork_core", "plugins", "list"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""


def test_no_colour_and_no_bars_off_a_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "roadwork_core", "run", str(tmp_path / "none.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr


class Shouting:
    """A plugin with a command that has an option of its own where the common ones have one too."""

    @hookimpl
    def roadwork_commands(self, subparsers: Any) -> None:
        parser = subparsers.add_parser("shout", help="say it")
        parser.add_argument("-v", "--volume", default="1")
        parser.set_defaults(handler=self.shout)

    def shout(self, options: Any, console: Any) -> int:
        console.info("about to shout")
        if options.volume == "9":
            raise ValueError("hoarse")
        console.out(f"volume {options.volume}")
        return 0


def test_a_plugins_command_takes_the_common_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, only=None: Plugins.of({"loud": Shouting()})))
    assert main(["shout", "-v", "3"]) == 0
    assert tuple(capsys.readouterr()) == ("volume 3\n", "about to shout\n")
    assert main(["shout", "--quiet"]) == 0
    assert tuple(capsys.readouterr()) == ("volume 1\n", "")
    assert main(["shout", "-v", "9", "--traceback"]) == 1
    assert "in shout" in capsys.readouterr().err
