"""A training killed at any moment goes on, and ends with the same bytes as one that was never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = 7
BATCHES = 48


class Trainings:
    """A process that forks trainings one after the other."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.toy"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, folder: Path, pause: float) -> int:
        """Begins one and returns its process id."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{folder} {pause}\n")
        self.process.stdin.flush()
        word, pid = self.line().split()
        assert word == "pid"
        return int(pid)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, int]:
        """Waits for the end; (exit code, batches that began meanwhile)."""
        batches = 0
        while (line := self.line()) == "batch\n":
            batches += 1
        word, code = line.split()
        assert word == "ended"
        return int(code), batches


@pytest.fixture(scope="module")
def trainings() -> Iterator[Trainings]:
    made = Trainings()
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    made.process.wait(timeout=30)


@pytest.mark.slow
def test_sigkill_at_random_moments_changes_no_byte_of_the_weights(tmp_path: Path, trainings: Trainings) -> None:
    trainings.start(tmp_path / "unkilled", 0)
    assert trainings.end() == (0, BATCHES)
    expected = (tmp_path / "unkilled" / "weights.safetensors").read_bytes()
    rng = random.Random(20)
    began = 0
    for _ in range(KILLS):
        pid = trainings.start(tmp_path / "killed", 0.01)
        for _ in range(rng.randint(1, 4)):
            began += trainings.line() == "batch\n"
        # The kill lands in a step, in the writing of a checkpoint, in a validation or between epochs.
        time.sleep(rng.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        code, more = trainings.end()
        assert code == -signal.SIGKILL
        began += more
    trainings.start(tmp_path / "killed", 0)
    code, rest = trainings.end()
    assert code == 0
    assert rest < BATCHES, "the last attempt began anew instead of going on"
    assert began + rest > BATCHES
    assert (tmp_path / "killed" / "weights.safetensors").read_bytes() == expected


@pytest.mark.slow
def test_sigterm_ends_with_a_checkpoint_and_the_next_attempt_ends_alike(tmp_path: Path, trainings: Trainings) -> None:
    trainings.start(tmp_path / "whole", 0)
    assert trainings.end() == (0, BATCHES)
    pid = trainings.start(tmp_path / "stopped", 0.01)
    for _ in range(5):
        trainings.line()
    os.kill(pid, signal.SIGTERM)
    code, more = trainings.end()
    assert code != 0
    trainings.start(tmp_path / "stopped", 0)
    code, rest = trainings.end()
    assert (code, 5 + more + rest) == (0, BATCHES)
    names = "stopped", "whole"
    first, second = ((tmp_path / name / "weights.safetensors").read_bytes() for name in names)
    assert first == second
