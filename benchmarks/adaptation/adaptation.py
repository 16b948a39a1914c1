"""Does a self-supervised stage before training help? One spec with and without [adapt], several seeds, one test set.

Two cases: rendered streets, trained in clear and overcast weather and tested in rain, fog and snow (adapted to the
training pictures alone, or also to unlabelled pictures of that other weather); and the sign photographs of
../shared/data. Differences are paired by test group and averaged over the seeds; the interval is a bootstrap of the
groups. Prints the tables of docs/benchmarks/adaptation.md. Finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from roadwork_core.evaluation.past_run import answers_of_run
from roadwork_core.metrics import COUNT_METRICS, Counts, auroc, group_counts
from roadwork_core.metrics.inputs import group_codes
from roadwork_core.metrics.intervals import resampled_weights
from roadwork_core.plugins import Plugins

ROOT = Path(__file__).resolve().parents[2]
RESAMPLES = 2000
#: The quickstart's network on smaller pictures, so that all runs fit into an hour of two cores.
WEATHER = """
spec_version = 1
name = "weather"
extends = ["{root}/specs/quickstart.toml"]
unset = ["data"]
[data]
use = "mixed"
[[data.sources]]
name = "home"
split = "home"
dataset = {{ use = "synthetic_roadwork", n = 1000, weather = ["clear", "overcast"], seed = 11 }}
[[data.sources]]
name = "away"
split = "away"
dataset = {{ use = "synthetic_roadwork", n = 800, weather = ["rain", "fog", "snow"], seed = 12 }}
[data.splits]
train = 0.6
val_select = 0.2
val_calib = 0.2
test = 0.0
assign = {{ home = ["train", "val_select", "val_calib"], away = ["test"] }}
[backbone]
image_size = 32
[train]
epochs = 6
[evaluate]
bootstrap = 100
"""
#: Pictures of the test's weather, of other streets, as anyone can take them without labelling.
AWAY = 'data = { use = "synthetic_roadwork", n = 400, weather = ["rain", "fog", "snow"], seed = 13 }'


@frozen(kw_only=True)
class Case:
    """A spec, what is set in it for all runs, the adapter of the stage adapt, its epochs, and more pictures for it."""

    spec: Path
    settings: tuple[str, ...] = ()
    adapter: str
    epochs: int
    pictures: Mapping[str, str]

    def adapt(self, objective: str, pictures: str) -> str:
        parts = [f'objective = {{ use = "{objective}" }}', f"adapter = {self.adapter}", f"epochs = {self.epochs}"]
        parts += [part for part in ("batch_size = 64", self.pictures[pictures]) if part]
        return f"adapt={{ {', '.join(parts)} }}"


def cases(runs_dir: Path) -> dict[str, Case]:
    weather = runs_dir / "weather.toml"
    weather.write_text(WEATHER.format(root=ROOT))
    return {
        "weather": Case(
            spec=weather, adapter='{ use = "full" }', epochs=4, pictures={"train": "", "train and away": AWAY}
        ),
        "signs": Case(
            spec=ROOT / "specs" / "signs.toml",
            # A probe of the features, which adapting is to make better: the head alone trains.
            settings=(
                *("backbone.image_size=64", "augment=[]", 'adapter={ use = "frozen" }', "train.epochs=30"),
                "evaluate.bootstrap=100",
            ),
            # The checkpoint's norms are folded into its convolutions.
            adapter='{ use = "full", freeze_norms = true }',
            epochs=2,
            pictures={"train": ""},
        ),
    }


def run(case: Case, runs_dir: Path, name: str, seed: int, adapt: str | None) -> Path:
    """The directory of one finished run."""
    settings = [f'name="{name}"', f"seed={seed}", "data.workers=0", *case.settings, *([adapt] if adapt else [])]
    command = [sys.executable, "-m", "roadwork_core", "run", str(case.spec), "--runs-dir", str(runs_dir), "--json"]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stdout}")
    return Path(json.loads(done.stdout)["run_dir"])


class Measured:
    """MCC and AUROC of one run's test answers, as functions of how often each group is drawn."""

    def __init__(self, folder: Path, plugins: Plugins) -> None:
        answers, classes = answers_of_run(folder, plugins)
        order = np.argsort(answers.keys)
        self.keys = np.array(answers.keys)[order]
        self.groups = answers.groups[order]
        self.truth = answers.targets[order] == classes["positive"]
        self.said = answers.answering.labels[order] == classes["positive"]
        self.scores = answers.answering.scores[order]

    def figures(self, weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        table = group_counts(self.truth, self.said, None, weights).sum(axis=0)
        return np.array(
            [float(COUNT_METRICS["mcc"](Counts.from_columns(table))), auroc(self.scores, self.truth, weights)]
        )


def compare(plain: list[Path], adapted: list[Path]) -> str:
    """Means over the seeds and the mean difference with its interval, as cells of a table."""
    plugins = Plugins.load()
    first, second = ([Measured(folder, plugins) for folder in folders] for folders in (plain, adapted))
    if any(not np.array_equal(one.keys, first[0].keys) for one in (*first, *second)):
        raise SystemExit("the runs were not tested on the same pictures")
    codes = group_codes(first[0].groups, len(first[0].keys))

    def means(weights: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return tuple(np.mean([one.figures(weights) for one in side], axis=0) for side in (first, second))  # type: ignore[return-value]

    before, after = means(np.ones(len(codes)))
    drawn = [means(weights) for weights in resampled_weights(codes, RESAMPLES, np.random.default_rng(0))]
    # A resample of few groups may hold one class alone, and then says nothing of AUROC.
    low, high = np.nanquantile([b - a for a, b in drawn], [0.025, 0.975], axis=0)
    each = [
        b.figures(np.ones(len(codes)))[0] - a.figures(np.ones(len(codes)))[0]
        for a, b in zip(first, second, strict=True)
    ]
    cells = [
        f"{b:.3f} | {a:.3f} | {a - b:+.3f} [{left:+.3f}, {right:+.3f}]"
        for b, a, left, right in zip(before, after, low, high, strict=True)
    ]
    return f"{' | '.join(cells)} | {', '.join(f'{value:+.3f}' for value in each)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=["weather", "signs"], choices=["weather", "signs"])
    parser.add_argument("--objectives", nargs="+", default=["vicreg", "simsiam", "dino"])
    options = parser.parse_args()
    options.runs_dir.mkdir(parents=True, exist_ok=True)
    seeds = range(1, options.seeds + 1)
    heads = ("data", "objective", "pictures", *("MCC without", "with", "difference"), "AUROC without", "with")
    print(f"| {' | '.join(heads)} | difference | MCC by seed |")
    print("|:--|:--|:--|--:|--:|--:|--:|--:|--:|--:|")
    for name in options.cases:
        case = cases(options.runs_dir)[name]
        plain = [run(case, options.runs_dir, f"{name}-plain-{seed}", seed, None) for seed in seeds]
        for objective, pictures in product(options.objectives, case.pictures):
            adapt = case.adapt(objective, pictures)
            called = f"{name}-{objective}-{pictures.replace(' ', '-')}"
            adapted = [run(case, options.runs_dir, f"{called}-{seed}", seed, adapt) for seed in seeds]
            print(f"| {name} | `{objective}` | {pictures} | {compare(plain, adapted)} |", flush=True)


if __name__ == "__main__":
    main()
