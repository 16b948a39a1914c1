"""A bundle on a labelled set: scored once, decided by every policy, measured, drawn, written."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ..errors import UsageError
from ..files import pretty_json, write_atomic
from ..policies import scores_csv
from ..report.evaluation import headline
from ..report.html import Report, render
from .figures import draw_decisions
from .measure import Decided, Labelled, decide_all, judge_of, measure
from .mistakes import worst_mistakes
from .robustness import distortions, robustness
from .scoring import Distortion, score_rows

if TYPE_CHECKING:
    from ..bundle.runtime import Runtime
    from ..console import Console
    from ..plugins import Plugins
    from ..spec.model import Evaluate
    from .labelled_set import LabelledSet

SCHEMA = "roadwork.evaluation/1"
METRICS_FILE = "metrics.json"


@frozen(kw_only=True)
class Evaluation:
    """The labelled set with its logits, what each policy decides on it, and all figures as JSON."""

    data: Labelled
    decided: Decided
    metrics: Mapping[str, Any]


def score_set(
    runtime: Runtime,
    found: LabelledSet,
    console: Console,
    *,
    distortion: Distortion | None = None,
    level: int = 0,
    seed: int = 0,
) -> Labelled:
    """The set with the bundle's logits of its pictures, distorted first at a `level` where a `distortion` is given."""
    bundle = runtime.bundle
    logits = score_rows(
        runtime.scorer,
        found.rows,
        classes=len(bundle.labels),
        name=found.name if distortion is None else f"{found.name}, level {level}",
        console=console,
        max_pixels=bundle.manifest["signature"]["input"]["max_pixels"],
        distortion=distortion,
        seed=seed + level,
    )
    return Labelled(logits=logits, rows=found.rows, classes=bundle.labels, name=found.name)


def evaluate(
    runtime: Runtime,
    found: LabelledSet,
    plugins: Plugins,
    console: Console,
    *,
    options: Evaluate,
    seed: int = 0,
    distort: str | None = None,
) -> Evaluation:
    """Every policy of the bundle on the set, and with `distort` (an augmentation with levels) distorted too."""
    bundle, decider = runtime.bundle, runtime.decider
    transforms = {}
    if distort is not None:
        transforms = distortions(distort, plugins, runtime.scorer.preprocessing.size, len(bundle.labels))
    data = score_set(runtime, found, console)
    decided, fallbacks = decide_all(decider, data)
    modes = {name: str(entry["mode"]) for name, entry in bundle.manifest["policies"].items()}
    metrics = {
        "schema": SCHEMA,
        "bundle_id": bundle.id,
        **measure(data, decider, decided, fallbacks, options=options, seed=seed, modes=modes),
        "bad_images": len(found.bad),
    }
    metrics["metrics"] = headline(metrics["policies"][decider.active])
    if distort is not None:
        distorted = {
            level: score_set(runtime, found, console, distortion=transform, level=level, seed=seed).logits
            for level, transform in transforms.items()
        }
        judge = judge_of(data, decider.positive, options, seed)
        metrics["robustness"] = robustness(distort, data, distorted, decider, decided, judge)
    return Evaluation(data=data, decided=decided, metrics=metrics)


def write_evaluation(evaluation: Evaluation, runtime: Runtime, folder: Path) -> Path:
    """Writes metrics.json, scores.csv, decisions.csv, the plots and report.html into `folder`; returns the report.

    The folder appears whole or not at all; one that holds an earlier evaluation is replaced. Raises UsageError where
    it holds anything else.
    """
    check_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        _write(evaluation, runtime, made)
        old = Path(scratch) / "old"
        if folder.exists():
            folder.rename(old)
        made.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return folder / "report.html"


def check_folder(folder: Path) -> None:
    """Raises UsageError for a place that an evaluation may not take."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / METRICS_FILE).is_file()):
        raise UsageError("is there already and holds no evaluation", path=folder, hint="choose another --out")


def _write(evaluation: Evaluation, runtime: Runtime, folder: Path) -> None:
    metrics, data = evaluation.metrics, evaluation.data
    decisions = evaluation.decided[metrics["active"]][0]
    documents = runtime.bundle.policies
    drawn = draw_decisions(metrics, decisions, data.targets, documents)
    mistakes, total = worst_mistakes(
        decisions,
        data.rows,
        metrics["classes"],
        runtime.decider.positive,
        max_pixels=runtime.bundle.manifest["signature"]["input"]["max_pixels"],
    )
    report = Report(
        name=f"{runtime.bundle.name} on {data.name}",
        description=f"Bundle {runtime.bundle.id[:12]}.",
        metrics=metrics,
        policies=documents,
        figures=drawn,
        mistakes=mistakes,
        mistakes_total=total,
        note="If the bundle was trained or fitted on any of these pictures, the figures are too good.",
    )
    write_atomic(folder / METRICS_FILE, pretty_json(metrics))
    write_atomic(folder / "scores.csv", scores_csv(data.rows, data.logits))
    write_atomic(folder / "decisions.csv", _decisions_csv(evaluation))
    for figure in drawn:
        write_atomic(folder / f"{figure.name}.png", figure.png)
    write_atomic(folder / "report.html", render(report).encode())


def _decisions_csv(evaluation: Evaluation) -> bytes:
    data = evaluation.data
    rows = []
    for name, (decisions, _) in evaluation.decided.items():
        for row, found in zip(data.rows, decisions.rows(), strict=True):
            label = "" if found["label"] is None else data.classes[found["label"]]
            members = "|".join(data.classes[member] for member in found["set"])
            rows.append([row.path, row.label, name, label, found["abstain"], found["score"], members, found["reason"]])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "truth", "policy", "label", "abstain", "score", "set", "reason"])
    writer.writerows(rows)
    return text.getvalue().encode()
