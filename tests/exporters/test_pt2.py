"""Why no exporter writes torch.export's archives (docs/decisions/0002): what they hold, and what loading them does.

These are facts about torch. When one of them changes, the decision is to be looked at again.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

Change = Callable[[str, bytes], bytes]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network for any batch size, as `torch.export.save` writes it."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(network, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=shapes)
    path = tmp_path_factory.mktemp("pt2") / "network.pt2"
    torch.export.save(program, path)
    return path


def rewritten(archive: Path, target: Path, change: Change) -> Path:
    with zipfile.ZipFile(archive) as before, zipfile.ZipFile(target, "w") as after:
        for entry in before.infolist():
            after.writestr(entry.filename, change(entry.filename, before.read(entry)))
    return target


def without_inputs(name: str, content: bytes) -> bytes:
    return b"" if "/sample_inputs/" in name else content


def test_an_archive_holds_a_pickle_of_the_example_inputs(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        (name,) = (name for name in opened.namelist() if "/sample_inputs/" in name)
        with opened.open(name) as inner, zipfile.ZipFile(inner) as pickled:
            assert any(entry.endswith("data.pkl") for entry in pickled.namelist())


def test_without_it_an_archive_loads_and_no_pickle_is_read(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("reads a pickle")

    for name in ("torch.load", "pickle.loads", "pickle.load", "pickle.Unpickler"):
        monkeypatch.setattr(name, refuse)
    program = torch.export.load(rewritten(archive, tmp_path / "bare.pt2", without_inputs))
    assert program.module()(torch.zeros(5, 3, 8, 8)).shape == (5, 2)


def test_even_so_loading_carries_out_what_the_archive_says(archive: Path, tmp_path: Path) -> None:
    proof = tmp_path / "carried-out"
    code = f"__import__('pathlib').Path('{proof}').touch() or 2".encode()

    def plant(name: str, content: bytes) -> bytes:
        if re.search(r"/models/\w+\.json$", name):
            content, count = re.subn(rb'("expr_str": ?)"[^"]*"', rb'\1"' + code + rb'"', content)
            assert count
        return without_inputs(name, content)

    torch.export.load(rewritten(archive, tmp_path / "planted.pt2", plant))
    assert proof.exists(), "sizes are no longer evaluated as Python: the decision may be looked at again"
