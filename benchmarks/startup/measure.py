"""How long `roadwork --help` and `roadwork spec check` take to answer, beside a Python that does nothing.

    python benchmarks/startup/measure.py [--rounds 25] [--write docs/benchmarks/startup.md]

All commands are measured in one run, in turns, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SPEC = REPOSITORY / "specs" / "elite.toml"
ROADWORK = [sys.executable, "-m", "roadwork_core"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "roadwork --help": [*ROADWORK, "--help"],
    "roadwork spec check --help": [*ROADWORK, "spec", "check", "--help"],
    "roadwork spec check specs/elite.toml": [*ROADWORK, "spec", "check", str(SPEC)],
    "roadwork plugins list": [*ROADWORK, "plugins", "list"],
    'python -c "import numpy"': [sys.executable, "-c", "import numpy"],
    'python -c "import torch"': [sys.executable, "-c", "import torch"],
}
BARE, HELP, CHECK = "python -c pass", "roadwork --help", "roadwork spec check specs/elite.toml"
PACKAGES = ("roadwork", "attrs", "pluggy", "tomli", "numpy", "torch")
SLOW = {'python -c "import torch"'}


def measure(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of (wall clock, processor) per command and round; the first round only warms the file cache."""
    environment = {**os.environ, "ROADWORK_DATA": "/data", "OMP_NUM_THREADS": "1"}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, command in COMMANDS.items():
            if name in SLOW and turn > 3:
                continue
            before, start = _processor(), time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=True)
            if turn:
                times[name].append(((time.perf_counter() - start) * 1000, _processor() - before))
    return times


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000


def table(times: dict[str, list[tuple[float, float]]]) -> str:
    bare = statistics.median(wall for wall, _ in times[BARE])
    rows = ["| command | wall clock, ms | fastest, ms | processor, ms | times bare Python |", "|---|--:|--:|--:|--:|"]
    for name, pairs in times.items():
        wall, used = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        middle = statistics.median(wall)
        rows.append(
            f"| `{name}` | {middle:.0f} | {min(wall):.0f} | {statistics.median(used):.0f} | {middle / bare:.1f} |"
        )
    return "\n".join(rows)


def verdicts(times: dict[str, list[tuple[float, float]]]) -> str:
    lines = []
    for column, clock in enumerate(("wall clock", "processor")):
        middle = {name: statistics.median(pair[column] for pair in pairs) for name, pairs in times.items()}
        allowed, more = 3 * middle[BARE] + 100, middle[CHECK] - middle[HELP]
        lines += [
            f"- `{HELP}` by {clock}: {middle[HELP]:.0f} ms of 3 x {middle[BARE]:.0f} + 100 = {allowed:.0f} ms allowed:"
            f" **{'held' if middle[HELP] < allowed else 'missed'}**",
            f"- `spec check` of a full spec by {clock}: {more:.0f} ms more than `--help`, of 300 ms allowed:"
            f" **{'held' if more < 300 else 'missed'}**",
        ]
    return "\n".join(lines)


def page(times: dict[str, list[tuple[float, float]]], rounds: int) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    installed = sum(1 for _ in importlib.metadata.distributions())
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"""\
# Start-up

Checking a spec and asking for help must feel instant, so neither imports torch, transformers, torchvision,
scikit-learn or numpy (`tests/cli/test_spec.py` holds that). How long they take, against a Python that does nothing:

{table(times)}

{verdicts(times)}

Medians of {rounds} rounds ({min(len(pairs) for pairs in times.values())} for the slow ones), each command once a round,
after one round that fills the file cache. "Processor" is user and system time of the child process: on a busy machine
the wall clock also holds the waiting for a core, processor time does not.

Measured {datetime.datetime.now(datetime.UTC):%Y-%m-%d} on {os.cpu_count()} cores of {platform.machine()}. The load over
the last 1, 5 and 15 minutes was {load}; a load above the cores means that every command waited for its turn: then the
processor column is the measure, and the wall clock is to be measured again on an idle machine.
{platform.system()}, Python {platform.python_version()}, {versions};
{installed} distributions installed, of which discovery reads the entry points.

Again: `python benchmarks/startup/measure.py --write docs/benchmarks/startup.md`
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page instead of printing it")
    options = parser.parse_args()
    text = page(measure(options.rounds), options.rounds)
    if options.write is None:
        print(text)
    else:
        options.write.write_text(text, encoding="utf-8")
        print(f"wrote {options.write}")


if __name__ == "__main__":
    main()
