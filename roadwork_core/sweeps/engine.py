"""Carries out trials as processes of their own, several at a time; the end of one is not the end of the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

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


@frozen(kw_only=True)
class Ending:
    """How a trial ended: the exit code of its run, and what it said where that is not 0."""

    trial: Trial
    code: int
    error: str | None
    seconds: float


@frozen(kw_only=True)
class _Working:
    trial: Trial
    process: subprocess.Popen[bytes]
    files: tuple[IO[bytes], IO[bytes]]
    started: float


@define(kw_only=True)
class Engine:
    """`folder` keeps each trial's spec and what it wrote: specs/NAME.toml, logs/NAME.{out,err}."""

    folder: Path
    runs_dir: Path
    jobs: int
    tell: Callable[[str], None]
    on_end: Callable[[Ending], None] = lambda ending: None
    #: What carries out a spec.
    command: Sequence[str] = (sys.executable, "-m", "roadwork_core", "run")
    _working: list[_Working] = field(factory=list, init=False)

    def carry_out(self, trials: Sequence[Trial]) -> list[Ending]:
        """The endings in the order of `trials`. KeyboardInterrupt ends the processes cleanly and goes on up."""
        pending, endings = deque(trials), list[Ending]()
        waiting: set[str] = set()
        try:
            while pending or self._working:
                # The first one renders, fetches and looks at the pictures for all.
                alone = not endings and not any(self._is_prepared(trial) for trial in trials)
                free = (1 if alone else self.jobs) - len(self._working)
                for _ in range(min(free, len(pending))):
                    trial = pending.popleft()
                    if self._is_held(trial):
                        if trial.name not in waiting:
                            self.tell(f"{trial.name}: another process works on it; waiting")
                            waiting.add(trial.name)
                        pending.append(trial)
                    else:
                        self._start(trial)
                endings += self._ended()
                time.sleep(POLL)
        except BaseException:
            self._stop()
            raise
        order = {trial.name: index for index, trial in enumerate(trials)}
        return sorted(endings, key=lambda ending: order[ending.trial.name])

    def spec_file(self, trial: Trial) -> Path:
        """The spec of a trial as a file, written where it is not there or another one."""
        path = self.folder / "specs" / f"{trial.name}.toml"
        content = trial.text.encode()
        if not path.is_file() or path.read_bytes() != content:
            write_atomic(path, content)
        return path

    def run_of(self, trial: Trial) -> Run:
        return Run(name=trial.name, path=self.runs_dir / trial.name)

    def _is_prepared(self, trial: Trial) -> bool:
        return StageManifest.read(self.run_of(trial).folder("prepare")) is not None

    def _is_held(self, trial: Trial) -> bool:
        """Whether a process, such as one that outlived a killed sweep, works on the trial's run."""
        run = self.run_of(trial)
        if not run.path.is_dir():
            return False
        try:
            with RunLock(run):
                return False
        except RunLockedError:
            return True

    def _start(self, trial: Trial) -> None:
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        files = (logs / f"{trial.name}.out").open("wb"), (logs / f"{trial.name}.err").open("wb")
        command = [*self.command, str(self.spec_file(trial)), "--runs-dir", str(self.runs_dir), "--json"]
        threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
        environment = {**{name: threads for name in THREADS if self.jobs > 1}, **os.environ}
        # A session of its own: Ctrl-C reaches the sweep alone, which then ends its trials one by one.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=files[0],
            stderr=files[1],
            env=environment,
            start_new_session=True,
        )
        self.tell(f"{trial.name}: started")
        self._working.append(_Working(trial=trial, process=process, files=files, started=time.monotonic()))

    def _ended(self) -> list[Ending]:
        done = [working for working in self._working if working.process.poll() is not None]
        self._working = [working for working in self._working if working not in done]
        endings = []
        for working in done:
            for file in working.files:
                file.close()
            code = working.process.returncode
            ending = Ending(
                trial=working.trial,
                code=code,
                error=None if code == 0 else self._error_of(working.trial, code),
                seconds=time.monotonic() - working.started,
            )
            self.on_end(ending)
            endings.append(ending)
        return endings

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
            for file in working.files:
                file.close()


def exit_code(endings: Sequence[int]) -> int:
    """0 where every trial is finished; otherwise 1, or what all of them ended with where none is."""
    failed = [code for code in endings if code != 0]
    if not failed:
        return int(ExitCode.OK)
    known = {int(code) for code in ExitCode}
    if len(failed) == len(endings) and len(set(failed)) == 1 and failed[0] in known:
        return failed[0]
    return int(ExitCode.FAILED)
