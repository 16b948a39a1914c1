"""Runs of the command line in forked processes, so that a test which starts twenty of them imports torch once."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import define, field

from tests.faults import kill_before

ROOT = Path(__file__).parents[2]
PRELOADED = (
    *("torch", "torchvision.transforms.v2", "accelerate", "peft", "transformers.models.dinov2", "matplotlib.figure"),
    *("matplotlib.backends.backend_agg", "scipy.stats", "scipy.optimize", "safetensors.torch", "torch.optim"),
    *(f"roadwork_core.stages.{name}" for name in ("prepare", "adapt", "train", "score", "fit", "evaluate", "bundle")),
)
PATIENCE = 240.0


@define
class Started:
    """A command under way: `pid` is its process, `out` and `err` the files that its streams go to."""

    pid: int
    out: Path
    err: Path
    server: Server
    code: int | None = field(default=None)

    def ended(self) -> bool:
        if self.code is None:
            self.code = self.server.ask("poll", self.pid)
        return self.code is not None

    def wait(self) -> int:
        """The exit code; minus the signal's number where a signal ended it."""
        if self.code is None:
            self.code = self.server.ask("wait", self.pid)
        assert self.code is not None
        return self.code

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stdout(self) -> str:
        return self.out.read_text()

    def stderr(self) -> str:
        return self.err.read_text()

    def until(self, seen: Callable[[], bool]) -> bool:
        """Looks without a pause until `seen()`; False where the command ended first."""
        deadline = time.monotonic() + PATIENCE
        looks = 0
        while not seen():
            looks += 1
            if looks % 50 == 0 and self.ended():
                return seen()
            assert time.monotonic() < deadline, f"nothing happened for {PATIENCE:.0f} s:\n{self.stderr()}"
        return True

    def cpu_seconds(self) -> float:
        """Time that the process has computed, which is the same on a busy machine."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server:
    """A process that has imported everything and forks a `roadwork` command whenever it is asked to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.forking"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self, argv: Sequence[object], cwd: Path, env: dict[str, str] | None = None, *, kill_before: int = 0
    ) -> Started:
        """Begins `roadwork ARGV` in the folder `cwd`, outside of any git checkout.

        It is killed before its change of a file with the number `kill_before`, if it comes so far.
        """
        self._number += 1
        out, err = (self._folder / f"{self._number}.{stream}" for stream in ("out", "err"))
        pid = self.ask("start", [str(word) for word in argv], str(cwd), str(out), str(err), env or {}, kill_before)
        assert pid is not None
        return Started(pid, out, err, self)

    def run(
        self, argv: Sequence[object], cwd: Path, env: dict[str, str] | None = None, *, kill_before: int = 0
    ) -> Started:
        """Runs it to its end."""
        started = self.start(argv, cwd, env, kill_before=kill_before)
        started.wait()
        return started

    def ask(self, *request: object) -> int | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: int | None = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def serve() -> None:
    """Answers the requests on standard input: one JSON line for one JSON line."""
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        word, *rest = json.loads(line)
        answer = _fork(*rest) if word == "start" else _ended(rest[0], 0 if word == "wait" else os.WNOHANG)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)


def _ended(pid: int, options: int) -> int | None:
    found, status = os.waitpid(pid, options)
    return os.waitstatus_to_exitcode(status) if found else None


def _fork(argv: list[str], cwd: str, out: str, err: str, env: dict[str, str], limit: int) -> int:
    # The files are there before the process id is known to the one who reads them.
    streams = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644) for path in (out, err)]
    pid = os.fork()
    if pid:
        for descriptor in streams:
            os.close(descriptor)
        return pid
    code = 70
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((null, *streams)):
            os.dup2(descriptor, number)
        os.chdir(cwd)
        os.environ.update(env)
        from roadwork_core.cli import main

        if limit:
            kill_before(limit)
        code = main(argv)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
