"""What quantisation changes: logits and decisions on the golden pictures, figures on labelled ones."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from roadwork_core.console import Console
from roadwork_core.evaluation.compare import Answers, compare
from roadwork_core.evaluation.labelled_set import dataset_for, read_labelled
from roadwork_core.evaluation.measure import Labelled, decide_all
from roadwork_core.evaluation.scoring import score_rows
from roadwork_core.kinds import ExporterContext

from .pictures import Picture

if TYPE_CHECKING:
    from roadwork_core.decisions import Decisions

    from .onnx_runtime import OnnxPredictor

Floats = NDArray[np.float64]
#: Of `compare`'s figures, those that a decision alone determines.
_SHOWN = ("mcc", "accuracy", "coverage")


@frozen
class _Scorer:
    """An export in the place of a bundle's scorer."""

    predictor: OnnxPredictor

    @property
    def min_side(self) -> int:
        return max(self.predictor.preprocessing.min_side, self.predictor.tta.min_side)

    def logits(self, pictures: Sequence[Any]) -> Floats:
        """Tensors, uint8 (3, H, W) each, to logits, float64 (n, C)."""
        return self.predictor.logits([picture.numpy().view(Picture) for picture in pictures])


def on_golden(
    ctx: ExporterContext, predictor: OnnxPredictor, pictures: Sequence[Any], expected: Floats
) -> dict[str, Any]:
    """Largest differences to the bundle's `expected` logits (n, C), and by policy the share of equal decisions."""
    actual = _Scorer(predictor).logits(pictures)
    agreement = {}
    shift = 0.0
    for name in sorted(ctx.runtime.decider.policies):
        before = ctx.runtime.decider.decide(expected, policy=name).decisions
        after = predictor.decider.decide(actual, policy=name).decisions
        agreement[name] = _agreement(before, after)
        shift = max(shift, float(np.abs(after.scores - before.scores).max()))
    return {
        "n": len(pictures),
        "logits": float(np.abs(actual - expected).max()),
        "scores": shift,
        "agreement": agreement,
    }


def on_labelled(ctx: ExporterContext, predictor: OnnxPredictor, where: str) -> dict[str, Any]:
    """Figures of both networks on a labelled set, second less first with paired intervals, by policy.

    `where` is a folder with one folder per class, a manifest or the name of a dataset component.
    """
    bundle = ctx.runtime.bundle
    quiet = Console(verbosity=-1)
    max_pixels = bundle.manifest["signature"]["input"]["max_pixels"]
    component = dataset_for(where, (), ctx.plugins)
    name = Path(where).name
    with tempfile.TemporaryDirectory() as cache:
        found = read_labelled(
            component, name, bundle.labels, ctx.plugins, quiet, cache_dir=Path(cache), max_pixels=max_pixels
        )
        ctx.report(f"measuring both networks on the {len(found.rows)} pictures of {name}")
        scorer: Any = _Scorer(predictor)
        logits = [
            score_rows(one, found.rows, classes=len(bundle.labels), name=name, console=quiet, max_pixels=max_pixels)
            for one in (ctx.runtime.scorer, scorer)
        ]
    before, after = (
        decide_all(decider, data)[0]
        for decider, data in zip(
            (ctx.runtime.decider, predictor.decider),
            (Labelled(logits=one, rows=found.rows, classes=bundle.labels, name=name) for one in logits),
            strict=True,
        )
    )
    keys = [str(row.index) for row in found.rows]
    targets = np.array([row.target for row in found.rows], dtype=np.int64)
    groups = np.array([row.group for row in found.rows], dtype=object)
    policies = {}
    for policy in sorted(before):
        first, second = (
            Answers(keys=keys, targets=targets, groups=groups, answering=answering, answered=~plain.abstain)
            for plain, answering in (before[policy], after[policy])
        )
        figures: Mapping[str, Any] = compare(first, second, positive=bundle.positive)
        policies[policy] = {
            "agreement": _agreement(before[policy][0], after[policy][0]),
            **{metric: _plain(figures["metrics"][metric]) for metric in _SHOWN},
        }
    return {"data": name, "n": len(found.rows), "groups": len(np.unique(groups.astype(str))), "policies": policies}


def _agreement(first: Decisions, second: Decisions) -> float:
    """The share of samples with the same label, or the same abstention, and the same set."""
    same = (first.labels == second.labels) & (first.sets == second.sets).all(axis=1)
    return float(same.mean())


def _plain(figure: Mapping[str, Any]) -> dict[str, Any]:
    difference = figure["difference"]
    return {
        "float32": figure["first"],
        "int8": figure["second"],
        "difference": {key: difference[key] for key in ("value", "low", "high", "level")},
    }


def cost_in_words(found: Mapping[str, Any]) -> str:
    """`export.json`'s table `quantization` as sentences."""
    golden = found["golden"]
    agreement = ", ".join(f"{name} {share:.1%}" for name, share in golden["agreement"].items())
    text = (
        f"On the {golden['n']} golden pictures scores move by up to {golden['scores']:.3g}, and decisions are the same"
        f" for: {agreement}."
    )
    if (labelled := found["labelled"]) is None:
        return f"{text} Its cost on labelled pictures was not measured."
    lines = []
    for name, figures in labelled["policies"].items():
        change = figures["mcc"]["difference"]
        between = "" if change["low"] is None else f" [{change['low']:+.4f}, {change['high']:+.4f}]"
        lines.append(f"{name} {change['value']:+.4f}{between}")
    return (
        f"{text} On {labelled['n']} pictures of {labelled['data']} MCC changes by (95 % interval, paired, whole groups"
        f" drawn): {'; '.join(lines)}."
    )
