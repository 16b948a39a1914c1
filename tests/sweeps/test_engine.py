"""Trials as processes: at most so many, one failure is one failure, what is held is waited for, an end is clean."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from roadwork_core.runs import Run, RunLock
from roadwork_core.sweeps import Ending, Engine, Trial
from roadwork_core.sweeps.engine import exit_code

#: Stands for `roadwork run`: writes when it began and ended, and does what its spec says.
STUB = """\
import json, pathlib, signal, sys, time
spec = pathlib.Path(sys.argv[1])
runs = pathlib.Path(sys.argv[sys.argv.index("--runs-dir") + 1])
run = runs / spec.stem
run.mkdir(parents=True, exist_ok=True)
(run / "begun").write_text(str(time.time()))
def stop(number, frame):
    (run / "stopped").write_text("cleanly")
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
what = spec.read_text()
if what == "fail":
    print(json.dumps({"errors": [{"message": "the loss is nan"}], "exit_code": 3}))
    sys.exit(3)
if what == "die":
    sys.stderr.write("warning: before\\nerror: out of memory\\n")
    sys.exit(1)
if what == "crash":
    signal.raise_signal(signal.SIGKILL)
time.sleep(60 if what == "long" else 0.3)
(run / "ended").write_text(str(time.time()))
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    stub = tmp_path / "stub.py"
    stub.write_text(STUB)
    runs = tmp_path / "runs"
    # As after an earlier trial: something is prepared, so that several begin at once.
    return Engine(
        folder=runs / "toy-sweep",
        runs_dir=runs,
        jobs=2,
        tell=lambda text: None,
        command=(sys.executable, str(stub)),
    )


def trials(*texts: str) -> list[Trial]:
    return [
        Trial(name=f"toy-{number}", number=number, parameters={"x": number}, text=text)
        for number, text in enumerate(texts)
    ]


def test_one_failure_does_not_stop_the_rest_and_is_told(engine: Engine) -> None:
    heard: list[Ending] = []
    engine.on_end = heard.append
    endings = engine.carry_out(trials("fail", "ok", "die", "crash", "ok"))
    assert [ending.code for ending in endings] == [3, 0, 1, -signal.SIGKILL, 0]
    assert [ending.error for ending in endings] == [
        "the loss is nan",
        None,
        "out of memory",
        "ended by signal 9",
        None,
    ]
    assert {ending.trial.name for ending in heard} == {ending.trial.name for ending in endings}


def test_no_more_run_at_once_than_asked_for(engine: Engine) -> None:
    made = trials("fail", *["ok"] * 5)
    engine.carry_out(made)
    spans = [
        (float((engine.run_of(t).path / "begun").read_text()), float((engine.run_of(t).path / "ended").read_text()))
        for t in made[1:]
    ]
    overlap = [sum(begun <= at < ended for begun, ended in spans) for at, _ in spans]
    assert max(overlap) == 2


def test_the_first_trial_prepares_alone(engine: Engine) -> None:
    made = trials("ok", "ok")
    engine.carry_out(made)
    first, second = (engine.run_of(trial).path for trial in made)
    assert float((first / "ended").read_text()) <= float((second / "begun").read_text())


def test_what_another_process_works_on_is_waited_for(engine: Engine) -> None:
    told: list[str] = []
    engine.tell = told.append
    made = trials("fail", "ok")
    lock = RunLock(Run(name="toy-1", path=engine.run_of(made[1]).path))
    lock.__enter__()
    threading.Timer(1.0, lambda: lock.__exit__(None, None, None)).start()
    began = time.monotonic()
    assert [ending.code for ending in engine.carry_out(made)] == [3, 0]
    assert time.monotonic() - began > 1.0
    assert told.count("toy-1: another process works on it; waiting") == 1


def test_an_interrupt_ends_the_trials_cleanly(engine: Engine, tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from roadwork_core.sweeps import Engine, Trial
from roadwork_core.cli.run import _terminate_as_interrupt
engine = Engine(folder=Path({str(engine.folder)!r}), runs_dir=Path({str(engine.runs_dir)!r}), jobs=2,
    tell=lambda text: None, command={tuple(engine.command)!r})
try:
    with _terminate_as_interrupt():
        engine.carry_out([Trial(name="toy-0", number=0, parameters={{}}, text="long")])
except KeyboardInterrupt:
    sys.exit(130)
"""
    process = subprocess.Popen([sys.executable, "-c", program], env=os.environ)
    begun = engine.runs_dir / "toy-0" / "begun"
    deadline = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert (engine.runs_dir / "toy-0" / "stopped").read_text() == "cleanly"


def test_a_spec_file_is_written_once(engine: Engine) -> None:
    [trial] = trials("ok")
    path = engine.spec_file(trial)
    before = path.stat().st_mtime_ns
    assert engine.spec_file(trial).stat().st_mtime_ns == before
    assert engine.spec_file(Trial(name="toy-0", number=0, parameters={}, text="else")).read_text() == "else"


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([], 0), ([0, 0], 0), ([0, 3], 1), ([3, 3], 3), ([2, 3], 1), ([-9, -9], 1), ([1], 1)],
)
def test_the_exit_code(codes: list[int], expected: int) -> None:
    assert exit_code(codes) == expected


def test_the_errors_of_a_run_are_read_from_its_json(engine: Engine) -> None:
    logs = engine.folder / "logs"
    logs.mkdir(parents=True)
    (logs / "toy-0.out").write_text(json.dumps({"errors": [{"message": "a"}, {"message": "b"}]}) + "\n")
    (logs / "toy-0.err").write_text("error: a\n")
    assert engine._error_of(trials("x")[0], 2) == "a; b"
