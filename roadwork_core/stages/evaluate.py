"""The stage that looks at test, once: every policy as it will be served, figures with intervals, the report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from roadwork_core.bundle.deciding import Decider, decider_of
from roadwork_core.data.table import read_rows
from roadwork_core.decisions import ABSTAIN, Decisions
from roadwork_core.errors import RoadworkError
from roadwork_core.files import pretty_json, write_atomic
from roadwork_core.metrics import sigmoid
from roadwork_core.policies import Scores, read_scores
from roadwork_core.report import figures as plots
from roadwork_core.report.evaluation import Judge, headline
from roadwork_core.report.html import Mistake, Report, render

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from roadwork_core.data.sample import Row
    from roadwork_core.runs import StageContext

SCHEMA = "roadwork.metrics/1"
SPLIT = "test"
#: Mistakes that the report shows, and the longer side of their thumbnails in pixels.
MISTAKES = 12
THUMBNAIL = 320


def run(ctx: StageContext) -> Mapping[str, Any]:
    """Writes metrics.json, report.html and each plot as PNG; returns the headline of the active policy."""
    scores = read_scores(ctx.input("score", "test.csv"))
    rows = read_rows(ctx.input("prepare", "samples/test.jsonl"))
    classes = _read(ctx, "prepare", "classes.json")
    documents = {name: _read(ctx, "fit", f"policies/{name}.json") for name in ctx.spec.policy}
    decider = _decider(ctx, documents, classes)
    decided, fallbacks = _decide(decider, scores)
    metrics = _metrics(ctx, scores, decider, decided, fallbacks, classes["classes"])
    write_atomic(ctx.folder / "metrics.json", pretty_json(metrics))
    drawn = _figures(ctx, metrics, decided[decider.active][0], scores, documents)
    for figure in drawn:
        write_atomic(ctx.folder / f"{figure.name}.png", figure.png)
    page = _report(ctx, metrics, decided[decider.active][0], rows, documents, drawn)
    write_atomic(ctx.folder / "report.html", render(page).encode())
    return {"test": metrics["test"], "active": metrics["active"], "n": metrics["n"], "groups": metrics["groups"]}


def _read(ctx: StageContext, stage: str, name: str) -> Any:
    return json.loads(ctx.input(stage, name).read_bytes())


def _decider(ctx: StageContext, documents: Mapping[str, Mapping[str, Any]], classes: Mapping[str, Any]) -> Decider:
    active = ctx.spec.bundle.active
    decider = decider_of(
        documents,
        ctx.plugins,
        active=str(active) if active is not None else next(iter(ctx.spec.policy)),
        fallback=ctx.spec.bundle.fallback,
        num_classes=len(classes["classes"]),
        positive=classes["positive"],
    )
    for name, reason in decider.broken.items():
        raise RoadworkError(f"the fitted policy {name} cannot be restored: {reason}")
    return decider


def _decide(
    decider: Decider, scores: Scores
) -> tuple[dict[str, tuple[Decisions, Decisions]], dict[str, Mapping[str, int]]]:
    """What each policy decides, as it is and where it may not abstain, and how often the fallback answered for it."""
    decided: dict[str, tuple[Decisions, Decisions]] = {}
    fallbacks: dict[str, Mapping[str, int]] = {}
    for name in decider.policies:
        plain = decider.decide(scores.logits, policy=name)
        for row, reason in plain.errors.items():
            raise RoadworkError(f"no decision on sample {row} of {SPLIT}: {reason}")
        answering = decider.decide(scores.logits, policy=name, must_answer=True)
        decided[name] = (plain.decisions, answering.decisions)
        fallbacks[name] = dict(plain.fallbacks)
    return decided, fallbacks


def _labels(scores: Scores) -> NDArray[np.int64]:
    if scores.labels is None:
        raise RoadworkError(f"the scores of {SPLIT} have no labels")
    return scores.labels


def _metrics(
    ctx: StageContext,
    scores: Scores,
    decider: Decider,
    decided: Mapping[str, tuple[Decisions, Decisions]],
    fallbacks: Mapping[str, Mapping[str, int]],
    classes: list[str],
) -> dict[str, Any]:
    options = ctx.spec.evaluate
    judge = Judge(
        labels=_labels(scores),
        groups=scores.groups,
        classes=classes,
        positive=decider.positive,
        resamples=options.bootstrap,
        level=options.level,
        seed=ctx.spec.seed,
    )
    policies = judge.policies(decided)
    for name, entry in policies.items():
        entry["mode"] = str(getattr(ctx.spec.policy[name], "mode", "fast"))
        entry["fallbacks"] = dict(fallbacks[name])
    active = policies[decider.active]
    return {
        "schema": SCHEMA,
        "split": SPLIT,
        "n": judge.n,
        "groups": len(np.unique(judge.group_names)),
        "classes": classes,
        "positive": classes[decider.positive],
        "negative": classes[1 - decider.positive] if len(classes) == 2 else None,
        "level": options.level,
        "bootstrap": options.bootstrap,
        "active": decider.active,
        "fallback": decider.fallback,
        "test": headline(active),
        "confusion": active["confusion"],
        "policies": policies,
    }


def _figures(
    ctx: StageContext,
    metrics: Mapping[str, Any],
    decisions: Decisions,
    scores: Scores,
    documents: Mapping[str, Mapping[str, Any]],
) -> list[plots.Figure]:
    positive = metrics["classes"].index(metrics["positive"])
    truth = _labels(scores) == positive
    active = metrics["policies"][metrics["active"]]
    drawn = [plots.confusion(metrics["confusion"])]
    if truth.any() and not truth.all():
        answered = ~decisions.abstain
        said = decisions.labels == positive
        recall = _share(said, answered & truth)
        working = _point(_share(said, answered & ~truth), recall)
        precise = _point(recall, _share(truth, answered & said))
        of = "of the pictures it answers" if active["abstains"] else "of all pictures"
        drawn.append(plots.roc(decisions.scores, truth, working, of))
        drawn.append(plots.precision_recall(decisions.scores, truth, precise))
    names = (metrics["negative"] or "other classes", metrics["positive"])
    drawn += [
        plots.score_histogram(decisions.scores, truth, names, _cut(documents[metrics["active"]])),
        plots.calibration(decisions.scores, truth, active["scores"]["ece"]),
        plots.risk_against_coverage(
            decisions.scores,
            truth,
            {
                name: (entry["coverage"]["value"], entry["selective_risk"]["value"])
                for name, entry in metrics["policies"].items()
                if entry["selective_risk"]["value"] is not None
            },
        ),
    ]
    for path in ctx.inputs("fit", "sweeps/*.csv"):
        drawn += _threshold_figure(path, documents[path.stem])
    history = [json.loads(line) for line in ctx.input("train", "history.jsonl").read_text().splitlines()]
    if history:
        drawn.append(plots.training(history, ctx.spec.train.select_by, _best_epoch(history, ctx.spec.train.select_by)))
    return drawn


def _share(hit: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(hit[among].mean()) if among.any() else None


def _point(x: float | None, y: float | None) -> tuple[float, float] | None:
    return None if x is None or y is None else (x, y)


def _cut(document: Mapping[str, Any]) -> float | None:
    """The cut on P(positive) that a policy says that it has."""
    cut = document["summary"].get("threshold_probability")
    return float(cut) if isinstance(cut, int | float) else None


def _threshold_figure(path: Path, document: Mapping[str, Any]) -> list[plots.Figure]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    cut = _cut(document)
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
    rows: list[Row],
    documents: Mapping[str, Mapping[str, Any]],
    drawn: list[plots.Figure],
) -> Report:
    from roadwork_core.runs.fingerprint import components_in, library_versions, plugin_versions
    from roadwork_core.spec import dump_toml

    mistakes, total = _mistakes(ctx, metrics["classes"], decisions, rows)
    return Report(
        name=ctx.spec.name,
        description=ctx.spec.description,
        metrics=metrics,
        policies=documents,
        figures=drawn,
        mistakes=mistakes,
        mistakes_total=total,
        data=_read(ctx, "prepare", "report.json"),
        spec=dump_toml(ctx.resolved.values),
        versions={**library_versions(), **plugin_versions(list(components_in(ctx.spec)), ctx.plugins)},
    )


def _mistakes(
    ctx: StageContext, classes: list[str], decisions: Decisions, rows: list[Row]
) -> tuple[list[Mistake], int]:
    """The wrong answers given with the most confidence, and how many wrong answers there are."""
    targets = np.array([row.target for row in rows], dtype=np.int64)
    wrong = np.flatnonzero((decisions.labels != ABSTAIN) & (decisions.labels != targets))
    positive = _read(ctx, "prepare", "classes.json")["positive"]
    confidence = np.where(decisions.labels == positive, decisions.scores, 1.0 - decisions.scores)
    worst = sorted(wrong.tolist(), key=lambda row: (-confidence[row], row))[:MISTAKES]
    return [
        Mistake(
            path="/".join(Path(rows[row].path).parts[-2:]),
            truth=classes[targets[row]],
            decided=classes[int(decisions.labels[row])],
            score=float(decisions.scores[row]),
            reason=decisions.reasons[row],
            jpeg=_thumbnail(Path(rows[row].path), ctx.spec.data.max_pixels),
        )
        for row in worst
    ], len(wrong)


def _thumbnail(path: Path, max_pixels: int) -> bytes | None:
    from PIL import Image

    from roadwork_core.data.decode import BadImageError, decode

    try:
        picture = Image.fromarray(decode(path, min_side=THUMBNAIL // 2, max_pixels=max_pixels))
    except BadImageError:
        return None
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return content.getvalue()
