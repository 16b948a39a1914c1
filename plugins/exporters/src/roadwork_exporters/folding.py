"""The score of a bundle as one linear layer: the head, a temperature and a cut folded into each other."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray

from roadwork_core.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from roadwork_core.bundle import Bundle

Floats = NDArray[np.float64]
_RULE = "threshold"


@frozen
class Rule:
    """score = sigma((margin - cut) / temperature), so that the cut lands on one half."""

    policy: str
    cut: float
    temperature: float

    def scores(self, logits: Floats, positive: int) -> Floats:
        """Logits, float64 (n, 2), to scores (n,)."""
        margins = logits[:, positive] - logits[:, 1 - positive]
        scores: Floats = 1.0 / (1.0 + np.exp(-(margins - self.cut) / self.temperature))
        return scores


def rule_of(bundle: Bundle, policy: str | None, *, calibrated: bool = True) -> Rule:
    """The cut of a threshold policy (default: the active one, or the first that there is), and the temperature
    that a policy of the bundle fitted (1 where none did, or not `calibrated`).

    Raises UsageError for more than two classes, and where there is no such policy.
    """
    if len(bundle.labels) != 2:
        raise UsageError(f"one cut decides between two classes, this bundle has {len(bundle.labels)}")
    cuts = [name for name, document in bundle.policies.items() if document["use"].rpartition("/")[2] == _RULE]
    if policy is not None and policy not in bundle.policies:
        bundle.policy_for(policy=policy)
    if not cuts or (policy is not None and policy not in cuts):
        raise UsageError(
            f"one linear layer cannot decide as {policy or bundle.active!r} does",
            hint=f"--set policy={cuts[0]}" if cuts else 'fit a threshold policy: [policy.NAME] use = "threshold"',
        )
    chosen = policy or (bundle.active if bundle.active in cuts else cuts[0])
    cut = bundle.policies[chosen]["state"]["threshold"]
    fitted = sorted(bundle.policies) if calibrated else ()
    temperatures = [found for name in fitted if (found := _temperature(bundle.policies[name]))]
    return Rule(chosen, float(cut), temperatures[0] if temperatures else 1.0)


def _temperature(document: Mapping[str, Any]) -> float | None:
    calibrator = document["state"].get("calibrator")
    found = calibrator.get("temperature") if isinstance(calibrator, Mapping) else None
    return float(found) if isinstance(found, int | float) and found > 0 else None


def affine(head: nn.Module, features: int) -> tuple[Floats, Floats]:
    """Weight, float64 (C, features), and bias (C,) of a head. Raises UsageError for one that is not linear."""
    exact = copy.deepcopy(head).double().eval()
    with torch.no_grad():
        bias = exact(torch.zeros(1, features, dtype=torch.float64))[0]
        weight = (exact(torch.eye(features, dtype=torch.float64)) - bias).T
        probe = torch.linspace(-3.0, 5.0, 4 * features, dtype=torch.float64).sin().reshape(4, features) * 10.0
        linear = torch.allclose(exact(probe), probe @ weight.T + bias, rtol=1e-8, atol=1e-8)
    if not linear:
        raise UsageError(
            "the head is not one linear layer, so a classifier of transformers cannot hold it",
            hint='train with [head] use = "linear" and norm = false, or export --to onnx',
        )
    return weight.numpy(), bias.numpy()


def fold(weight: Floats, bias: Floats, rule: Rule, positive: int) -> tuple[Floats, Floats]:
    """The layer whose softmax gives (1 - score, score): negative class first."""
    order = [1 - positive, positive]
    return weight[order] / rule.temperature, (bias[order] - np.array([0.0, rule.cut])) / rule.temperature
