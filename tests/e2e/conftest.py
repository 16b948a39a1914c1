"""What the end-to-end tests share: a process that forks commands, and one run that nobody touches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .forking import Server


@pytest.fixture(scope="session")
def roadwork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("streams"))
    yield server
    server.close()
