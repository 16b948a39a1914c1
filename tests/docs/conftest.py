"""One small run of the quickstart, and a folder as a reader has it who has followed the tutorial."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .pages import ROOT
from .shell import QUICKSTART, Line, Shell


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared folder, made once however many workers there are; copies of it work only at `work` beside it,
    because a run knows its pictures by their path."""
    base = tmp_path_factory.getbasetemp()
    base = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "workshop"
    base.mkdir(exist_ok=True)
    with _locked(base):
        if not (base / "pristine").exists():
            _prepare(base / "work")
            shutil.copytree(base / "work", base / "copying", symlinks=True)
            (base / "copying").rename(base / "pristine")
    return base / "pristine"


@pytest.fixture
def shell(pristine: Path) -> Iterator[Shell]:
    """A shell in a fresh copy; other workers wait."""
    work = pristine.parent / "work"
    with _locked(pristine.parent):
        if work.exists():
            shutil.rmtree(work)
        shutil.copytree(pristine, work, symlinks=True)
        made = Shell(work)
        try:
            yield made
        finally:
            made.uninstall()


@contextlib.contextmanager
def _locked(base: Path) -> Iterator[None]:
    with (base / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare(folder: Path) -> None:
    folder.mkdir()
    shutil.copytree(ROOT / "specs", folder / "specs")
    shell = Shell(folder)
    assert shell.run(Line(0, f"roadwork run {QUICKSTART}", 0)) == 0, shell.output
    bundle = folder / "runs" / "quickstart" / "bundle" / "quickstart"
    shutil.copytree(bundle, folder / "runs" / "street" / "bundle" / "street")
    _write_pictures(folder)
    _write_scores(folder / "logits.csv")


def _write_pictures(folder: Path) -> None:
    """Pictures where the pages say that there are some."""
    draws = np.random.default_rng(0)
    for place in ("path/to/pictures", "new-pictures", "pictures/roadwork", "pictures/no_roadwork"):
        (folder / place).mkdir(parents=True)
        for number in (1, 2):
            pixels = draws.integers(0, 256, (36, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / place / f"{number}.png")


def _write_scores(path: Path) -> None:
    """Logits of 600 samples in groups of two that overlap as those of a fair classifier do."""
    draws = np.random.default_rng(0)
    labels = np.repeat(draws.integers(0, 2, 300), 2)
    margins = (labels * 2 - 1) * 2.0 + draws.normal(0, 1.5, 600)
    rows = [
        f"0.0,{margin!r},{label},drive-{row // 2}"
        for row, (margin, label) in enumerate(zip(margins.tolist(), labels, strict=True))
    ]
    path.write_text("\n".join(["logit_0,logit_1,label,group", *rows]) + "\n")
