"""Starts the processes of one run on this machine, and ends all of them when one fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from roadwork_core.errors import RoadworkError

from .team import EXPLANATION, GRACE, LIFELINE, MEETING, POLL


def launch(arguments: Sequence[str], processes: int) -> int:
    """Runs `roadwork` with these arguments in so many processes; returns the exit code that they agree on.

    SIGINT and SIGTERM go to the first process, which stops with the others in good order. When a process ends badly the
    others are ended. Raises RoadworkError where one was killed.
    """
    with tempfile.TemporaryDirectory(prefix="roadwork-") as meeting:
        reading, writing = os.pipe()
        members: list[subprocess.Popen[bytes]] = []
        with _signals_to(members):
            try:
                for rank in range(processes):
                    members.append(_start(arguments, rank, processes, meeting, reading))
                os.close(reading)
                first = _watch(members)
                if first and first[1] > 0:
                    # It said why, or another process does: they end by themselves unless they are stuck.
                    _wait(members, EXPLANATION)
            finally:
                os.close(writing)
                _end(members)
    if first is None:
        return 0
    rank, code = first
    if code < 0:
        raise RoadworkError(
            f"process {rank + 1} of {processes} was killed by {signal.Signals(-code).name}; the others were ended",
            hint="the same command goes on from the last checkpoint",
        )
    return code


def _start(arguments: Sequence[str], rank: int, processes: int, meeting: str, lifeline: int) -> subprocess.Popen[bytes]:
    threads = max(1, len(os.sched_getaffinity(0)) // processes if hasattr(os, "sched_getaffinity") else 1)
    environment = {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)},
        **{"LOCAL_WORLD_SIZE": str(processes), MEETING: meeting, LIFELINE: str(lifeline)},
    }
    return subprocess.Popen(
        [sys.executable, "-m", "roadwork_core", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        pass_fds=[lifeline],
        # The terminal's Ctrl-C reaches this process alone, which passes it on once.
        process_group=0,
    )


def _watch(members: Sequence[subprocess.Popen[bytes]]) -> tuple[int, int] | None:
    """(rank, code) of the first process that ended badly, None once all have ended well."""
    while True:
        codes = [member.poll() for member in members]
        for rank, code in enumerate(codes):
            if code:
                return rank, code
        if all(code == 0 for code in codes):
            return None
        time.sleep(POLL)


def _end(members: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits for processes that know that they are to end, and kills what does not."""
    _wait(members, GRACE + 2)
    for member in members:
        if member.poll() is None:
            member.kill()
            member.wait()


def _wait(members: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    until = time.monotonic() + seconds
    while any(member.poll() is None for member in members) and time.monotonic() < until:
        time.sleep(POLL)


@contextmanager
def _signals_to(members: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """SIGINT and SIGTERM are passed on to the first of `members`."""

    def pass_on(number: int, _frame: object) -> None:
        if members:
            members[0].send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
