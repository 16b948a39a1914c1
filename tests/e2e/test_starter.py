"""A stranger's first run: `spec new`, pictures of one's own, `run`, `predict`, and no network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest

from roadwork_core.cli import main

from .pictures import draw


def test_a_new_spec_runs_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: socket.socket, address: Any) -> NoReturn:
        raise OSError(f"no network: {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "pictures")
    assert main(["spec", "new", "street.toml"]) == 0
    # Everything as the starter has it, but that it takes seconds.
    small = ["train.epochs=1", "backbone.image_size=32", "data.workers=0", "evaluate.bootstrap=100"]
    settings = [word for one in ['data.root="pictures"', *small] for word in ("--set", one)]
    assert main(["run", "street.toml", *settings, "-q"]) == 0, capsys.readouterr().err
    assert main(["predict", "runs/street/bundle/street", "pictures/roadwork/sequence-00", "--json"]) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith('{"path"')]) == 5
