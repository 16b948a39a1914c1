"""Ours against a bare PyTorch loop and the transformers Trainer, in turn: ratios of medians."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from contenders import CONTENDERS, Tick, Work
from workloads import decode_bound, empty_step, network_bound

LIBRARIES = ("torch", "torchvision", "transformers", "accelerate", "pillow")


def cpu_seconds() -> float:
    """CPU time of this process and of its children, those that have ended included."""
    me, own = psutil.Process(), os.times()
    times = [child.cpu_times() for child in me.children(recursive=True)]
    live = sum(time.user + time.system for time in times)
    return live + own.user + own.system + own.children_user + own.children_system


def rates(contender: Callable[[Work, Tick], None], work: Work, warm: int) -> tuple[float, float]:
    """Pictures a second of wall time and of CPU time, after `warm` steps."""
    marks: list[tuple[float, float]] = []
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count in (warm, work.steps):
            marks.append((time.perf_counter(), cpu_seconds()))

    contender(work, tick)
    (wall, cpu), (wall_end, cpu_end) = marks
    pictures = work.size - warm * work.batch_size
    return pictures / (wall_end - wall), pictures / (cpu_end - cpu)


def compare(title: str, work: Work, *, rounds: int, warm: int) -> None:
    """Rounds of all contenders in turn, the order reversed every other time."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    for number in range(rounds):
        names = list(CONTENDERS) if number % 2 == 0 else list(CONTENDERS)[::-1]
        for name in names:
            found[name].append(rates(CONTENDERS[name], work, warm))
    print(f"\n### {title}\n")
    print("| | images/s, wall | images/s, CPU time | ours is, wall | ours is, CPU time |")
    print("|---|---|---|---|---|")
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    wall_ours, cpu_ours = medians["ours"]
    for name, (wall, cpu) in medians.items():
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {wall_ours / wall:.2f} x | {cpu_ours / cpu:.2f} x |")


def first_steps(folder: Path, *, rounds: int) -> None:
    """Seconds from the start of a process to the end of its first optimizer step."""
    script = Path(__file__).with_name("first_step.py")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, rows in found.items():
            before, start = os.times(), time.perf_counter()
            subprocess.run([sys.executable, script, name, folder], check=True, stderr=subprocess.DEVNULL)
            after = os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            rows.append((time.perf_counter() - start, cpu))
    print("\n### From the start of the process to the first optimizer step (decode-bound)\n")
    print("| | seconds, wall | seconds of CPU time, without loader processes |")
    print("|---|---|---|")
    for name, rows in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"| {name} | {wall:.1f} | {cpu:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["network", "empty", "decode", "first"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    print(f"{datetime.date.today()}, Python {platform.python_version()}, {versions}")
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, 1 thread of torch, load {load:.1f} at the start, {options.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        if "network" in options.parts:
            compare("Network-bound: ResNet-18 at 96 x 96", network_bound(12), rounds=options.rounds, warm=2)
        if "empty" in options.parts:
            compare("Nearly empty step: one linear layer", empty_step(600), rounds=options.rounds, warm=50)
        if "decode" in options.parts:
            work = decode_bound(Path(folder), 480)
            compare("Decode-bound: 640 x 480 JPEG files", work, rounds=options.rounds, warm=3)
        if "first" in options.parts:
            first_steps(Path(folder), rounds=options.rounds)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
