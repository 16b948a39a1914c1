"""What the trials came to on val_select, with paired intervals; test is read for the chosen one only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve, frozen

from roadwork_core.errors import DataError
from roadwork_core.metrics import SCORE_METRICS, margin, nll, sweep
from roadwork_core.metrics.intervals import percentile_interval, resampled_weights
from roadwork_core.policies import read_scores
from roadwork_core.runs import Run, StageManifest
from roadwork_core.training.selection import LOWER_IS_BETTER, epoch_metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .space import Value

SAMPLES = "samples/val_select.jsonl"


@frozen(kw_only=True)
class Interval:
    """A figure with its bounds, which are nan where one group alone says nothing of the spread."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        return {key: number(getattr(self, key)) for key in ("value", "low", "high")}


@frozen(kw_only=True)
class Result:
    """One trial: `figure` is the selecting metric on val_select, `difference` this one's less the best one's."""

    name: str
    run_dir: str
    parameters: Mapping[str, Value]
    code: int = 0
    error: str | None = None
    figure: Interval | None = None
    difference: Interval | None = None
    epoch: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "run_dir": self.run_dir,
            "parameters": dict(self.parameters),
            "status": "finished" if self.figure is not None else "failed",
            "exit_code": self.code,
            "error": self.error,
            "val_select": self.figure.to_json() if self.figure else None,
            "difference": self.difference.to_json() if self.difference else None,
            "epoch": self.epoch,
        }


def number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def metric_of(name: str, logits: NDArray[np.float64], labels: NDArray[np.int64], positive: int) -> float:
    """One of the metrics that choose an epoch, as training computes it; nan where the samples do not define it."""
    if name == "nll":
        return float(nll(logits, labels))
    truth = labels == positive
    if name in SCORE_METRICS:
        return float(SCORE_METRICS[name](margin(logits, positive), truth, None))
    if logits.shape[1] > 2:
        found = epoch_metrics(logits, labels, positive)[name]
        return math.nan if found is None else found
    if truth.all() or not truth.any():
        return math.nan
    return float(sweep(margin(logits, positive), truth, name, n_thresholds=0).value)


def compare_trials(
    results: Sequence[Result], metric: str, *, resamples: int, level: float, seed: int = 0
) -> tuple[list[Result], Result | None]:
    """The results with their figures, and the best of them; of equal ones the earlier.

    A result with exit code 0 is read from its run. The figure is `metric` of the logits that the bundle's model and
    test-time augmentation give on val_select; intervals are by group and paired: every trial meets the same
    resamples. Raises DataError where the trials did not have the same val_select.
    """
    finished = [index for index, result in enumerate(results) if result.code == 0]
    if not finished:
        return list(results), None
    runs = [Run(name=results[index].name, path=Path(results[index].run_dir)) for index in finished]
    _require_same_samples(runs)
    scores = [read_scores(run.folder("score") / "val_select.csv") for run in runs]
    positive = int(json.loads((runs[0].folder("prepare") / "classes.json").read_bytes())["positive"])
    labels, groups = scores[0].labels, scores[0].groups
    if labels is None:
        raise DataError("val_select has no labels", path=runs[0].path)
    codes = np.arange(len(labels), dtype=np.int64) if groups is None else groups
    values = np.array([metric_of(metric, score.logits, labels, positive) for score in scores])
    if np.isnan(values).any():
        raise DataError(f"val_select does not define {metric}, by which trials are compared")
    drawn = np.empty((0, len(scores)))
    if len(np.unique(codes)) > 1:
        rows = []
        for weights in resampled_weights(codes, resamples, np.random.default_rng(seed)):
            picked = np.repeat(np.arange(len(labels)), weights.astype(np.int64))
            rows.append([metric_of(metric, score.logits[picked], labels[picked], positive) for score in scores])
        drawn = np.array(rows)
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
    best = int(np.argmin(values) if metric in LOWER_IS_BETTER else np.argmax(values))
    made = list(results)
    for place, index in enumerate(finished):
        column = drawn[:, place]
        made[index] = evolve(
            results[index],
            figure=_interval(float(values[place]), column, level),
            difference=_interval(float(values[place] - values[best]), column - drawn[:, best], level),
            epoch=_epoch(runs[place]),
        )
    return made, made[finished[best]]


def _interval(value: float, drawn: NDArray[np.float64], level: float) -> Interval:
    low, high = percentile_interval(drawn, level) if drawn.size else (math.nan, math.nan)
    return Interval(value=value, low=low, high=high)


def _epoch(run: Run) -> int | None:
    manifest = StageManifest.read(run.folder("train"))
    found = manifest.metrics.get("val_select", {}).get("epoch") if manifest else None
    return int(found) if isinstance(found, int) else None


def _require_same_samples(runs: Sequence[Run]) -> None:
    digests = {}
    for run in runs:
        manifest = StageManifest.read(run.folder("prepare"))
        digests[run.name] = manifest.outputs.get(SAMPLES, {}).get("sha256") if manifest else None
    if len(set(digests.values())) > 1:
        other = next(name for name, digest in digests.items() if digest != digests[runs[0].name])
        raise DataError(
            f"{runs[0].name} and {other} do not have the same val_select: the data changed between them",
            path=runs[0].path.parent,
            hint="the same command again brings all of them to the data as they are now",
        )


def metrics_on_test(best: Result) -> dict[str, Any]:
    """The metrics on test of the chosen trial; of no other trial are they looked at."""
    manifest = StageManifest.read(Path(best.run_dir) / "evaluate")
    found: dict[str, Any] = dict(manifest.metrics.get("test", {})) if manifest else {}
    return found


def importance(
    results: Sequence[Result], *, permutations: int = 2000, seed: int = 0
) -> tuple[list[dict[str, Any]] | None, str]:
    """What share of a grid's variance each key explains alone, and a sentence; None where nothing honest is known.

    Only a whole grid says it exactly: there the main effects are orthogonal (the first-order part of a functional
    analysis of variance). `p` is the share of random orders of the figures in which the key explains as much.
    """
    keys = list(results[0].parameters) if results else []
    axes = {key: list(dict.fromkeys(result.parameters[key] for result in results)) for key in keys}
    size = math.prod(len(values) for values in axes.values())
    figures = [result.figure.value for result in results if result.figure is not None]
    if len(figures) < size or len(results) != size:
        return None, "Not computed: the finished trials are not a whole grid, so effects cannot be told apart."
    if size < 4 or sum(len(levels) > 1 for levels in axes.values()) < 2:
        return None, "Not computed: it takes two keys and four trials at least."
    values = np.array(figures)
    spread = float(values.var())
    if spread == 0.0:
        return None, "Not computed: every trial has the same figure."
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(values) for _ in range(permutations)])
    found: list[dict[str, Any]] = []
    for key, levels in axes.items():
        index = np.array([levels.index(result.parameters[key]) for result in results])
        member = np.eye(len(levels))[:, index]
        means = member / member.sum(axis=1, keepdims=True)
        share = float((means @ values).var() / spread)
        chance = (orders @ means.T).var(axis=1) / spread
        p = float((1 + np.count_nonzero(chance >= share - 1e-12)) / (1 + permutations))
        found.append({"key": key, "share": min(1.0, share), "p": p})
    rest = max(0.0, 1.0 - sum(entry["share"] for entry in found))
    return found, f"The rest, {rest:.0%}, is interaction and chance. p: how often chance alone explains as much."
