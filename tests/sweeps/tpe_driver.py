"""A sweep by TPE whose trials are arithmetic; ends itself by SIGKILL at the point that it is told."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from roadwork_core.runs import Run
from roadwork_core.spec.model import Sweep, SweepParameter
from roadwork_core.sweeps import Trial
from roadwork_core.sweeps.engine import Ending
from roadwork_core.sweeps.study import Study
from roadwork_core.sweeps.tpe import TpeSearch

PARAMETERS = {
    "lr": SweepParameter(low=1e-5, high=1e-1, log=True),
    "layers": SweepParameter(low=1, high=9),
    "smoothing": SweepParameter(low=0.0, high=0.3, step=0.05),
    "loss": SweepParameter(values=("a", "b", "c")),
}


def objective(parameters: Mapping[str, Any]) -> float:
    """Best at lr 1e-3, layers 5, loss b."""
    import math

    away = (math.log10(parameters["lr"]) + 3) ** 2 + (parameters["layers"] - 5) ** 2 / 8
    return -away - (parameters["loss"] != "b") - parameters["smoothing"]


def make_search(
    folder: Path | None,
    *,
    trials: int = 14,
    value: Callable[[Mapping[str, Any]], float] = objective,
    done: bool = True,
    **options: Any,
) -> TpeSearch:
    """A search whose runs are known by their trial alone."""
    made: dict[str, Mapping[str, Any]] = {}

    def make(number: int, parameters: Mapping[str, Any]) -> Trial:
        made[f"toy-{number}"] = parameters
        return Trial(name=f"toy-{number}", number=number, parameters=parameters, text="[train]\nepochs = 5\n")

    given: dict[str, Any] = {"seed": 3, "startup_trials": 5, "parameters": PARAMETERS, **options}
    sweep = Sweep(method="tpe", trials=trials, **given)
    return TpeSearch(
        name="toy",
        sweep=sweep,
        integers={"layers": True},
        metric="mcc",
        study=Study(folder, name="toy-sweep", maximise=True, made_for={"metric": "mcc"}),
        make=make,
        figure=lambda run: value(made[run.name]),
        is_done=lambda trial: done,
        has_these_data=lambda trial: done,
        run_of=lambda name: Run(name=name, path=(folder or Path()) / name),
    )


def carry_out(search: TpeSearch, after: Callable[[str], None] = lambda event: None) -> list[Trial]:
    """One trial at a time; `after` hears of every begin and end."""
    found = []
    for trial in search.trials():
        after("begin")
        found.append(trial)
        search.ended(Ending(trial=trial, code=0, error=None))
        after("end")
    return found


if __name__ == "__main__":
    left = int(sys.argv[2])

    def count(event: str) -> None:
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    whole = make_search(Path(sys.argv[1]))
    carry_out(whole, count)
    print(json.dumps([dict(record.parameters) for record in whole.records()]))  # noqa: T201
