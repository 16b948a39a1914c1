"""The command says what is wrong in one line, and its help imports no server."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from roadwork_serving.settings import read_token

from roadwork_core.errors import UsageError

from .conftest import Site


def test_help_imports_neither_torch_nor_a_server() -> None:
    program = """
import sys
from roadwork_core.cli import main
main(["serve", "--help"])
print(sorted({"torch", "fastapi", "uvicorn", "prometheus_client", "pydantic"} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "--token-file" in done.stdout
    assert done.stderr.strip() == "[]"


def test_the_list_of_commands_names_it() -> None:
    program = "from roadwork_core.cli import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "serve" in done.stdout


def test_a_port_that_is_taken(site: Site, bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = site.roadwork(arguments=[["serve", str(bundle), "--port", port]])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--port takes another" in done.stderr


def test_no_bundle(site: Site, tmp_path: Path) -> None:
    done = site.roadwork(arguments=[["serve", str(tmp_path / "none"), "--port", "0"]])
    assert done.returncode in (2, 4)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["--port", "70000"], ["--timeout", "nan"], ["--queue", "-1"], ["--workers", "0"]])
def test_a_number_out_of_range(words: list[str]) -> None:
    from roadwork_core.cli import main

    assert main(["serve", "somewhere", *words]) == 2


def test_tokens_come_from_a_file_or_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("0123456789abcdef\n")
    variable = {"ROADWORK_SERVE_TOKEN": "fedcba9876543210"}
    assert read_token(path, variable) == "0123456789abcdef"
    assert read_token(None, variable) == "fedcba9876543210"
    assert read_token(None, {}) is None


@pytest.mark.parametrize("text", ["", "short", "with a space in the middle", "ünicode-ünicode-ünicode"])
def test_a_token_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(UsageError, match="at least 16"):
        read_token(path, {})
    with pytest.raises(UsageError, match="No such file"):
        read_token(tmp_path / "none", {})
