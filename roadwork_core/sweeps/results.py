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

    from roadwork_core.policies.scores import Scores

    from .engine import Stop
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
    """One trial: `figure` is the selecting metric on val_select, `difference` this one's less the best one's.

    One that was `pruned` has neither.
    """

    name: str
    run_dir: str
    parameters: Mapping[str, Value]
    code: int = 0
    error: str | None = None
    figure: Interval | None = None
    difference: Interval | None = None
    epoch: int | None = None
    pruned: Stop | None = None

    @property
    def status(self) -> str:
        if self.pruned is not None:
            return "pruned"
        return "finished" if self.figure is not None else "failed"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "run_dir": self.run_dir,
            "parameters": dict(self.parameters),
            "status": self.status,
            "exit_code": self.code,
            "error": self.error,
            "val_select": self.figure.to_json() if self.figure else None,
            "difference": self.difference.to_json() if self.difference else None,
            "epoch": self.epoch,
            "pruned": {"epoch": self.pruned.epoch, "value": self.pruned.value} if self.pruned else None,
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
    finished = [index for index, result in enumerate(results) if result.code == 0 and result.pruned is None]
    if not finished:
        return list(results), None
    runs = [Run(name=results[index].name, path=Path(results[index].run_dir)) for index in finished]
    _require_same_samples(runs)
    scores = [_scores_of(run) for run in runs]
    positive = _positive_of(runs[0])
    labels, groups = _labels_of(runs[0], scores[0]), scores[0].groups
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


def figure_of(run: Run, metric: str) -> float:
    """`metric` on val_select of a finished run, as `compare_trials` has it; nan where it is not defined."""
    scores = _scores_of(run)
    return metric_of(metric, scores.logits, _labels_of(run, scores), _positive_of(run))


def _scores_of(run: Run) -> Scores:
    return read_scores(run.folder("score") / "val_select.csv")


def _labels_of(run: Run, scores: Scores) -> NDArray[np.int64]:
    if scores.labels is None:
        raise DataError("val_select has no labels", path=run.path)
    return scores.labels


def _positive_of(run: Run) -> int:
    return int(json.loads((run.folder("prepare") / "classes.json").read_bytes())["positive"])


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
