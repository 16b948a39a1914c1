"""Trials on the machines of a Ray cluster: each is a task that carries out `roadwork run` and waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from roadwork_core import __version__
from roadwork_core.runs import Run

from .engine import PATIENCE, is_held, start_here

#: Seconds between two looks at the process of a task.
_POLL = 0.1
#: How often a task is begun again elsewhere when its machine is lost.
_RETRIES = 3
_INTERRUPTED = 130


@frozen
class RayStarter:
    """Starts a command as a task that takes these resources, on any machine that sees the same files."""

    ray: Any
    needs: Mapping[str, float]

    def __call__(
        self, command: Sequence[str], *, run: Run, out: Path, err: Path, environment: Mapping[str, str]
    ) -> RayProcess:
        task = self.ray.remote(carry_out).options(
            num_cpus=self.needs["CPU"], num_gpus=self.needs["GPU"], max_retries=_RETRIES
        )
        # The interpreter is the machine's own; the number of threads follows from the CPUs that Ray gives the task.
        given = {"arguments": list(command[1:]), "run": run, "out": out, "err": err, "version": __version__}
        return RayProcess(self.ray, task.remote(**given), err)


@define
class RayProcess:
    """A task as the engine sees a process."""

    _ray: Any
    _task: Any
    _err: Path
    _code: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        if self._code is None and self._ray.wait([self._task], timeout=0)[0]:
            self._code = self._result()
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            if not self._ray.wait([self._task], timeout=timeout)[0]:
                raise subprocess.TimeoutExpired("ray task", timeout or 0.0)
            self._code = self._result()
        return self._code

    def terminate(self) -> None:
        self._ray.cancel(self._task, force=False, recursive=False)

    def kill(self) -> None:
        self._ray.cancel(self._task, force=True, recursive=False)

    def _result(self) -> int:
        errors = self._ray.exceptions
        try:
            return int(self._ray.get(self._task))
        except (errors.TaskCancelledError, KeyboardInterrupt):
            return _INTERRUPTED
        except errors.RayTaskError as error:
            if isinstance(error.cause, KeyboardInterrupt):
                return _INTERRUPTED
            self._say(str(error.cause))
        except errors.RayError as error:
            self._say((str(error).strip().splitlines() or [type(error).__name__])[0])
        return 1

    def _say(self, text: str) -> None:
        self._err.write_text(f"error: {text}\n")


def carry_out(*, arguments: Sequence[str], run: Run, out: Path, err: Path, version: str) -> int:
    """On a machine of the cluster: carries out the command with its own Python, and gives its exit code.

    Where an earlier task was lost, what it had started may still work on the run, and is waited for. A cancelled task
    ends the command as Ctrl-C does. Raises RuntimeError where the machine has other files or another version than the
    one that leads the sweep.
    """
    host = os.uname().nodename
    if version != __version__:
        raise RuntimeError(f"{host} has roadwork {__version__}, and the sweep is led by {version}")
    if not out.parent.is_dir():
        raise RuntimeError(f"{host} does not see {out.parent}: the runs directory must be one that all share")
    while is_held(run):
        time.sleep(_POLL)
    process = start_here([sys.executable, *arguments], run=run, out=out, err=err, environment={})
    try:
        while (code := process.poll()) is None:
            time.sleep(_POLL)
    except BaseException:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return code
