"""The directory of one run, and the lock that keeps a second process out."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType

from attrs import frozen

from roadwork_core.errors import RoadworkError, RunLockedError

CACHE = ".cache"


@frozen(kw_only=True)
class Run:
    """One execution of a spec. `path` holds a folder per finished stage; dot-folders are work in progress."""

    name: str
    path: Path

    def folder(self, stage: str) -> Path:
        """Where a stage's finished outputs and manifest are."""
        return self.path / stage

    def fresh(self, stage: str) -> Path:
        """Where a stage writes before it is finished."""
        return self.path / f".{stage}.new"

    def scratch(self, stage: str) -> Path:
        """What a stage keeps between attempts: checkpoints."""
        return self.path / f".{stage}.scratch"

    @property
    def cache(self) -> Path:
        """Shared by all runs of one runs directory: rendered or fetched data."""
        return self.path.parent / CACHE


class RunLock:
    """Held while a process works on a run; the system frees it however that process ends.

    Processes forked meanwhile (loader workers) do not share it, so one that outlives a killed run keeps nobody out.
    Raises RunLockedError where another process holds it, RoadworkError where the file system has no locks.
    """

    def __init__(self, run: Run) -> None:
        self._path = run.path / ".lock"
        self._run = run
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(descriptor)
                raise RoadworkError(
                    f"the run cannot be locked: {error.strerror or error}",
                    path=self._path,
                    hint="choose a --runs-dir on a disk with file locks, such as a local one",
                ) from None
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise RunLockedError(
                f"another process{f' (id {holder})' if holder else ''} is working on this run",
                path=self._run.path,
                hint="wait for it, or give the spec another name or --runs-dir",
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        os.register_at_fork(after_in_child=self._forget)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _forget(self) -> None:
        # The lock belongs to what the descriptor stands for and is held until the last process has closed it.
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
