"""Carries out trials as processes of their own, several at a time; the end of one is not the end of the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import define, field, frozen

from roadwork_core.errors import ExitCode, RunLockedError
from roadwork_core.files import write_atomic
from roadwork_core.runs import Run, RunLock, StageManifest

from .space import Trial

#: Seconds between two looks at the processes.
POLL = 0.05
#: Seconds that an interrupted trial gets to write its checkpoint.
PATIENCE = 30.0
#: Libraries that would each take all cores for every trial.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Process(Protocol):
    """A process that was started, here or elsewhere, as `subprocess.Popen` has it."""

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class Starter(Protocol):
    """Starts a command that works on `run`, its output in two files; `environment` is laid under the process's own."""

    def __call__(
        self, command: Sequence[str], *, run: Run, out: Path, err: Path, environment: Mapping[str, str]
    ) -> Process: ...


def start_here(command: Sequence[str], *, run: Run, out: Path, err: Path, environment: Mapping[str, str]) -> Process:
    """A process of this machine."""
    with out.open("wb") as stdout, err.open("wb") as stderr:
        # A session of its own: Ctrl-C reaches the sweep alone, which then ends its trials one by one.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**environment, **os.environ},
            start_new_session=True,
        )


def is_held(run: Run) -> bool:
    """Whether a process, such as one that outlived a killed sweep, works on the run."""
    if not run.path.is_dir():
        return False
    try:
        with RunLock(run):
            return False
    except RunLockedError:
        return True


@frozen(kw_only=True)
class Stop:
    """Why a trial is not worth going on with: `value` is the best of its epochs up to `epoch`."""

    epoch: int
    value: float


@frozen(kw_only=True)
class Ending:
    """How a trial ended: the exit code of its run, what it said where that is not 0, and whether it was stopped."""

    trial: Trial
    code: int
    error: str | None
    seconds: float = 0.0
    stop: Stop | None = None


@define(kw_only=True)
class _Working:
    trial: Trial
    process: Process
    started: float
    stop: Stop | None = None
    stopped_at: float = 0.0


@define(kw_only=True)
class Engine:
    """`folder` keeps each trial's spec and what it wrote: specs/NAME.toml, logs/NAME.{out,err}."""

    folder: Path
    runs_dir: Path
    jobs: int
    tell: Callable[[str], None]
    on_end: Callable[[Ending], None] = lambda ending: None
    #: Asked of each trial that is worked on, at every look: one that answers with a reason is ended.
    hopeless: Callable[[Trial], Stop | None] = lambda trial: None
    start: Starter = start_here
    #: What carries out a spec.
    command: Sequence[str] = (sys.executable, "-m", "roadwork_core", "run")
    _working: list[_Working] = field(factory=list, init=False)

    def carry_out(self, trials: Iterable[Trial]) -> list[Ending]:
        """The endings in the order of the trials' numbers, of which each is taken when there is room for it.

        KeyboardInterrupt ends the processes cleanly and goes on up.
        """
        source, endings, held = iter(trials), list[Ending](), list[Trial]()
        prepared, more = self._is_any_prepared(), True
        try:
            while more or held or self._working:
                for trial in [trial for trial in held if not is_held(self.run_of(trial))]:
                    held.remove(trial)
                    self._start(trial)
                # The first one renders, fetches and looks at the pictures for all.
                while more and len(self._working) + len(held) < (self.jobs if prepared or endings else 1):
                    following = next(source, None)
                    if following is None:
                        more = False
                    elif is_held(self.run_of(following)):
                        self.tell(f"{following.name}: another process works on it; waiting")
                        held.append(following)
                    else:
                        self._start(following)
                endings += self._ended()
                time.sleep(POLL)
        except BaseException:
            self._stop()
            raise
        return sorted(endings, key=lambda ending: ending.trial.number)

    def spec_file(self, trial: Trial) -> Path:
        """The spec of a trial as a file, written where it is not there or another one."""
        path = self.folder / "specs" / f"{trial.name}.toml"
        content = trial.text.encode()
        if not path.is_file() or path.read_bytes() != content:
            write_atomic(path, content)
        return path

    def run_of(self, trial: Trial) -> Run:
        return self.run_named(trial.name)

    def run_named(self, name: str) -> Run:
        return Run(name=name, path=self.runs_dir / name)

    def _is_any_prepared(self) -> bool:
        names = (path.stem for path in (self.folder / "specs").glob("*.toml"))
        return any(StageManifest.read(self.runs_dir / name / "prepare") is not None for name in names)

    def _start(self, trial: Trial) -> None:
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
        process = self.start(
            [*self.command, str(self.spec_file(trial)), "--runs-dir", str(self.runs_dir), "--json"],
            run=self.run_of(trial),
            out=logs / f"{trial.name}.out",
            err=logs / f"{trial.name}.err",
            environment={name: threads for name in THREADS if self.jobs > 1},
        )
        self.tell(f"{trial.name}: started")
        self._working.append(_Working(trial=trial, process=process, started=time.monotonic()))

    def _ended(self) -> list[Ending]:
        endings = []
        for working in list(self._working):
            if (code := working.process.poll()) is None:
                self._look_at(working)
                continue
            self._working.remove(working)
            stop = working.stop if code != 0 else None
            ending = Ending(
                trial=working.trial,
                code=code,
                error=None if code == 0 or stop else self._error_of(working.trial, code),
                seconds=time.monotonic() - working.started,
                stop=stop,
            )
            self.on_end(ending)
            endings.append(ending)
        return endings

    def _look_at(self, working: _Working) -> None:
        """Ends a hopeless trial, by force where it does not end by itself."""
        if working.stop is None:
            working.stop = self.hopeless(working.trial)
            if working.stop is not None:
                working.stopped_at = time.monotonic()
                working.process.terminate()
        elif time.monotonic() - working.stopped_at > PATIENCE:
            working.process.kill()

    def _error_of(self, trial: Trial, code: int) -> str:
        """What the run said went wrong: from its JSON, else the last line that it wrote, else its signal."""
        logs = self.folder / "logs"
        out, err = ((logs / f"{trial.name}.{end}").read_text(errors="replace") for end in ("out", "err"))
        try:
            document: Any = json.loads(out.strip().splitlines()[-1])
            return "; ".join(str(error["message"]) for error in document["errors"])
        except (ValueError, IndexError, KeyError, TypeError):
            pass
        if code < 0:
            return f"ended by signal {-code}"
        lines = err.strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else f"exit code {code}"

    def _stop(self) -> None:
        for working in self._working:
            working.process.terminate()
        deadline = time.monotonic() + PATIENCE
        for working in self._working:
            try:
                working.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                working.process.kill()
                working.process.wait()


def exit_code(endings: Sequence[int]) -> int:
    """0 where every trial is finished; otherwise 1, or what all of them ended with where none is."""
    failed = [code for code in endings if code != 0]
    if not failed:
        return int(ExitCode.OK)
    known = {int(code) for code in ExitCode}
    if len(failed) == len(endings) and len(set(failed)) == 1 and failed[0] in known:
        return failed[0]
    return int(ExitCode.FAILED)
