"""The stage that looks at test, once: every policy as it will be served, figures with intervals, the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from roadwork_core.bundle.deciding import Decider, decider_of
from roadwork_core.data.table import read_rows
from roadwork_core.errors import RoadworkError
from roadwork_core.evaluation import Labelled, decide_all, measure
from roadwork_core.evaluation.figures import cut_of, draw_decisions
from roadwork_core.evaluation.mistakes import worst_mistakes
from roadwork_core.files import pretty_json, write_atomic
from roadwork_core.metrics import sigmoid
from roadwork_core.policies import read_scores
from roadwork_core.report import figures as plots
from roadwork_core.report.evaluation import headline
from roadwork_core.report.html import Report, render

if TYPE_CHECKING:
    from roadwork_core.decisions import Decisions
    from roadwork_core.runs import StageContext

SCHEMA = "roadwork.metrics/1"
SPLIT = "test"


def run(ctx: StageContext) -> Mapping[str, Any]:
    """Writes metrics.json, report.html and each plot as PNG; returns the headline of the active policy."""
    classes = _read(ctx, "prepare", "classes.json")
    documents = {name: _read(ctx, "fit", f"policies/{name}.json") for name in ctx.spec.policy}
    data = _test_split(ctx, classes["classes"])
    decider = _decider(ctx, documents, classes)
    decided, fallbacks = decide_all(decider, data)
    modes = {name: str(getattr(policy, "mode", "fast")) for name, policy in ctx.spec.policy.items()}
    metrics = {
        "schema": SCHEMA,
        **measure(data, decider, decided, fallbacks, options=ctx.spec.evaluate, seed=ctx.spec.seed, modes=modes),
    }
    metrics["test"] = headline(metrics["policies"][decider.active])
    if summary := _read(ctx, "score", "tta.json").get("summary"):
        metrics["tta"] = summary
    write_atomic(ctx.folder / "metrics.json", pretty_json(metrics))
    decisions = decided[decider.active][0]
    drawn = draw_decisions(metrics, decisions, data.targets, documents) + _figures_of_the_run(ctx, documents)
    for figure in drawn:
        write_atomic(ctx.folder / f"{figure.name}.png", figure.png)
    page = _report(ctx, metrics, decisions, data, documents, drawn)
    write_atomic(ctx.folder / "report.html", render(page).encode())
    return {"test": metrics["test"], "active": metrics["active"], "n": metrics["n"], "groups": metrics["groups"]}


def _read(ctx: StageContext, stage: str, name: str) -> Any:
    return json.loads(ctx.input(stage, name).read_bytes())


def _test_split(ctx: StageContext, classes: list[str]) -> Labelled:
    scores = read_scores(ctx.input("score", f"{SPLIT}.csv"))
    rows = read_rows(ctx.input("prepare", f"samples/{SPLIT}.jsonl"))
    targets = np.array([row.target for row in rows])
    if scores.labels is None or not np.array_equal(scores.labels, targets):
        raise RoadworkError(f"the scores of {SPLIT} are not those of its samples", hint="delete score/ and run again")
    return Labelled(logits=scores.logits, rows=rows, classes=classes, name=SPLIT)


def _decider(ctx: StageContext, documents: Mapping[str, Mapping[str, Any]], classes: Mapping[str, Any]) -> Decider:
    active = ctx.spec.bundle.active
    return decider_of(
        documents,
        ctx.plugins,
        active=str(active) if active is not None else next(iter(ctx.spec.policy)),
        fallback=ctx.spec.bundle.fallback,
        num_classes=len(classes["classes"]),
        positive=classes["positive"],
    )


def _figures_of_the_run(ctx: StageContext, documents: Mapping[str, Mapping[str, Any]]) -> list[plots.Figure]:
    drawn = []
    for path in ctx.inputs("fit", "sweeps/*.csv"):
        drawn += _threshold_figure(path, documents[path.stem])
    history = [json.loads(line) for line in ctx.input("train", "history.jsonl").read_text().splitlines()]
    if history:
        drawn.append(plots.training(history, ctx.spec.train.select_by, _best_epoch(history, ctx.spec.train.select_by)))
    return drawn


def _threshold_figure(path: Path, document: Mapping[str, Any]) -> list[plots.Figure]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    cut = cut_of(document)
    if not rows or cut is None or not {"probability", "value"} <= rows[0].keys():
        return []
    columns = {name: np.array([float(row[name]) for row in rows]) for name in ("probability", "value")}
    interval = document["summary"].get("threshold_interval") or {}
    low, high = interval.get("low"), interval.get("high")
    bounds = None if low is None or high is None else (float(sigmoid(low)), float(sigmoid(high)))
    metric = str(document["summary"].get("metric", "metric"))
    return [plots.threshold_curve(columns, cut, metric, bounds, path.stem)]


def _best_epoch(history: list[dict[str, Any]], select_by: str) -> int | None:
    from roadwork_core.training.selection import best_epoch

    best = best_epoch(history, select_by)
    return None if best is None else best.epoch


def _report(
    ctx: StageContext,
    metrics: Mapping[str, Any],
    decisions: Decisions,
    data: Labelled,
    documents: Mapping[str, Mapping[str, Any]],
    drawn: list[plots.Figure],
) -> Report:
    from roadwork_core.runs.fingerprint import components_in, library_versions, plugin_versions
    from roadwork_core.spec import dump_toml

    positive = metrics["classes"].index(metrics["positive"])
    mistakes, total = worst_mistakes(
        decisions, data.rows, metrics["classes"], positive, max_pixels=ctx.spec.data.max_pixels
    )
    return Report(
        name=ctx.spec.name,
        description=ctx.spec.description,
        metrics=metrics,
        policies=documents,
        figures=drawn,
        mistakes=mistakes,
        mistakes_total=total,
        data=_read(ctx, "prepare", "report.json"),
        spec=dump_toml(ctx.resolved.experiment),
        versions={**library_versions(), **plugin_versions(list(components_in(ctx.spec)), ctx.plugins)},
        note="The test split was used for nothing but this page.",
    )
