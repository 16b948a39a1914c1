from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from roadwork_core.errors import Problem, SpecError
from roadwork_core.plugins import Plugins

from .toys import resolve, toys


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return toys()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Writes a file below the current folder, which is the test's own, and gives its relative path."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(source: str | Path, **options: object) -> list[Problem]:
    """Every problem of a spec that must not resolve."""
    with pytest.raises(SpecError) as caught:
        resolve(source, **options)  # type: ignore[arg-type]
    return list(caught.value.problems())


def lines(source: str | Path, **options: object) -> list[str]:
    return [str(problem) for problem in problems(source, **options)]
