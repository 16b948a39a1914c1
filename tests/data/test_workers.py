"""Loader processes outlive a signal to the group while their parent needs them, and never their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from PIL import Image
from roadwork_core.data.loading import BatchSchedule, RawImages, make_loader
from roadwork_core.data.sample import Row
from roadwork_core.data import workers

folder, deed = Path(sys.argv[1]), sys.argv[2]
Image.new("RGB", (8, 8)).save(folder / "x.png")
row = Row(index=0, path=str(folder / "x.png"), label="a", target=0, split="train", group="", sha256="", phash="",
          width=8, height=8)
if deed == "early kill":  # the second worker starts when its parent is dead
    set_up = workers._set_up
    workers._set_up = lambda leaving, number: (time.sleep(2 * number), set_up(leaving, number))
schedule = BatchSchedule()
loader = make_loader(RawImages([row] * 40, min_side=0), schedule, workers=2)
schedule.set(0, [[i] for i in range(40)])
if deed == "group":
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
batches = iter(loader)
if deed != "group":
    next(batches)
print(*(worker.pid for worker in loader._iterator._workers), flush=True)
if deed == "group":  # at once: the workers have only just been forked
    os.killpg(0, signal.SIGTERM)
    os.killpg(0, signal.SIGINT)
    print(sum(1 for _ in batches), flush=True)
elif deed == "error":
    raise ValueError("while iterating")
elif deed.endswith("kill"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("deed", "code"),
    [("end", 0), ("error", 1), ("group", 0), ("kill", -signal.SIGKILL), ("early kill", -signal.SIGKILL)],
    ids=lambda value: str(value),
)
def test_workers_do_their_work_and_end_with_their_parent(tmp_path: Path, deed: str, code: int) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), deed]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    pids, *rest = out.decode().splitlines()
    assert process.returncode == code
    assert rest == (["40"] if deed == "group" else [])
    deadline = time.monotonic() + 30
    while any(alive(int(pid)) for pid in pids.split()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(int(pid)) for pid in pids.split())
