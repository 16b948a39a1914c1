"""What quantisation changes: logits and decisions on the golden pictures, figures on labelled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from roadwork_core.evaluation import agreement, compare_substitute
from roadwork_core.kinds import ExporterContext

from .pictures import Picture

if TYPE_CHECKING:
    from .onnx_runtime import OnnxPredictor

Floats = NDArray[np.float64]


@frozen
class Substitute:
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
    actual = Substitute(predictor).logits(pictures)
    shares = {}
    shift = 0.0
    for name in sorted(ctx.runtime.decider.policies):
        before = ctx.runtime.decider.decide(expected, policy=name).decisions
        after = predictor.decider.decide(actual, policy=name).decisions
        shares[name] = agreement(before, after)
        shift = max(shift, float(np.abs(after.scores - before.scores).max()))
    return {
        "n": len(pictures),
        "logits": float(np.abs(actual - expected).max()),
        "scores": shift,
        "agreement": shares,
    }


def on_labelled(ctx: ExporterContext, predictor: OnnxPredictor, where: str) -> dict[str, Any]:
    """`compare_substitute` of the float32 network (`first`) and the quantised one (`second`)."""
    scorer: Any = Substitute(predictor)
    return compare_substitute(ctx.runtime, scorer, predictor.decider, where, ctx.plugins, ctx.report)


def cost_in_words(found: Mapping[str, Any]) -> str:
    """`export.json`'s table `quantization` as sentences."""
    golden = found["golden"]
    shares = ", ".join(f"{name} {share:.1%}" for name, share in golden["agreement"].items())
    text = (
        f"On the {golden['n']} golden pictures scores move by up to {golden['scores']:.3g}, and decisions are the same"
        f" for: {shares}."
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
