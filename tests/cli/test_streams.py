"""Odd streams and odd names: a closed or full output, a narrow encoding, a path that is no UTF-8; never a traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from roadwork_core.cli import main
from roadwork_core.console import Console

FULL = Path("/dev/full")
ODD = os.fsdecode(b"bad\xffname.jpg")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", command.replace("ROADWORK", f"{sys.executable} -m roadwork_core")],
        capture_output=True,
        env=os.environ | environment,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("form", ["", " --json"])
def test_a_full_disk_is_one_line(form: str) -> None:
    done = shell(f"ROADWORK runs list --runs-dir /nowhere{form} > /dev/full; ROADWORK plugins list{form} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == "error: No space left on device"
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code(closed: str) -> None:
    assert shell(f"ROADWORK runs list --json {closed}").returncode == 0
    assert shell(f"ROADWORK spec check nowhere.toml --json {closed}").returncode == 2


def test_messages_do_not_move_to_stdout_where_stderr_is_closed() -> None:
    assert shell("ROADWORK spec check nowhere.toml 2>&-").stdout == b""


def test_a_narrow_encoding_escapes(tmp_path: Path) -> None:
    spec = tmp_path / "caf\N{LATIN SMALL LETTER E WITH ACUTE}.toml"
    done = shell(f"ROADWORK spec new {spec}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"caf\\xe9.toml" in done.stdout


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_of_an_odd_path_is_valid_utf8_and_means_that_path(encoding: str) -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="surrogateescape")
    Console(stdout=output).json({"path": ODD})
    output.seek(0)
    assert isinstance(output, io.TextIOWrapper)
    assert json.loads(output.buffer.read().decode("utf-8", "strict")) == {"path": ODD}


def test_json_stays_readable_where_the_output_can_carry_it() -> None:
    output = io.StringIO()
    Console(stdout=output).json({"path": "\N{LATIN SMALL LETTER U WITH DIAERESIS}.jpg"})
    assert "\N{LATIN SMALL LETTER U WITH DIAERESIS}" in output.getvalue()


def test_a_message_is_one_line_and_commands_no_terminal() -> None:
    output = io.StringIO()
    Console(stderr=output).warn("new\nline \x1b[2J")
    assert output.getvalue() == "warning: new\\nline \\x1b[2J\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--json"],
        ["predict", "bundle", "a.jpg", "--json", "--mode", "bogus"],
        ["policy", "fit", "threshold", "--json"],
        ["frobnicate", "--json"],
    ],
)
def test_wrong_usage_is_json_where_json_is_asked_for(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 2
    assert document["errors"][0]["message"]
