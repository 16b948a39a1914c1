"""One toy bundle for the session; tests that damage it take a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import toy


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound bundle that nobody changes."""
    return toy.make(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    """A sound bundle of one's own."""
    return toy.copy(pristine, tmp_path / "bundle")
