"""Whether a challenger is better than the champion: the paired interval of one figure against a margin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, frozen

#: Figures of which less is better.
LESS_IS_BETTER = frozenset({"nll", "brier"})


@frozen
class Verdict:
    """`reason` is one sentence for people."""

    promoted: bool
    reason: str


def judge(comparison: Mapping[str, Any], metric: str, margin: float, *, used: int) -> Verdict:
    """Promotes where the whole interval of challenger less champion (`comparison`, of `evaluation.compare`) is better
    than `margin`, and both were tested on the very same samples.

    `used` hard negatives were new to the challenger; where none was, the reason says so.
    """
    verdict = _judge(comparison, metric, margin)
    if used:
        return verdict
    return evolve(verdict, reason=f"{verdict.reason}; no hard negative was new, so only its spec can make a difference")


def _judge(comparison: Mapping[str, Any], metric: str, margin: float) -> Verdict:
    if comparison["only_first"] or comparison["only_second"]:
        missing = f"{comparison['only_first']} and {comparison['only_second']}"
        return Verdict(False, f"they were not tested on the same samples: {missing} only in one of them")
    line = comparison["metrics"].get(metric)
    if line is None:
        return Verdict(False, f"{metric} is not known on this test split (one class only)")
    change = line["difference"]
    low, high = change["low"], change["high"]
    if change["value"] is None or low is None or high is None:
        return Verdict(False, f"the difference of {metric} has no interval: too few groups in the test split")
    told = f"{metric} changes by {change['value']:+.4f} [{low:+.4f}, {high:+.4f}]"
    better = -high if metric in LESS_IS_BETTER else low
    wanted = f"a gain above {margin:g} at {100 * comparison['level']:g} % confidence"
    if better > margin:
        return Verdict(True, f"{told}: {wanted}")
    return Verdict(False, f"{told}: not {wanted}")
