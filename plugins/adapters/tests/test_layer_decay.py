"""Every adapter's weights learn at the rate of the block that they stand in."""

from __future__ import annotations

from typing import Any

import pytest
from roadwork_adapters import Doran, Full, LastBlocks, Lora
from torch import nn

from roadwork_core.kinds import AdapterContext, OptimizerContext
from roadwork_core.spec.model import LrScale
from roadwork_core.testing import stand_ins
from roadwork_core.training.groups import parameter_groups

#: BEiT's factors for three blocks and a decay of a half: what stands before the blocks, the blocks, what comes after.
FACTORS = {"patches": 1 / 16, "layers.0": 1 / 8, "layers.1": 1 / 4, "layers.2": 1 / 2, "norm": 1.0}
SCALE = LrScale(backbone=0.1, adapter=3.0, layer_decay=0.5)


def rates(component: Any) -> dict[str, float]:
    """Learning rate of every weight that trains, by name, at a rate of 1 for the head."""
    backbone = stand_ins.backbone()
    original = {id(parameter) for parameter in backbone.parameters()}
    adapted = component.build(AdapterContext(backbone=backbone, seed=0))
    groups = parameter_groups(adapted.module, nn.Linear(16, 2), original, SCALE)
    found = {
        id(parameter): group["lr"]
        for group in OptimizerContext(groups=groups).param_groups(1.0)
        for parameter in group["params"]
    }
    trained = {name: parameter for name, parameter in adapted.module.named_parameters() if parameter.requires_grad}
    assert len(found) == len(trained) + 2
    return {name: found[id(parameter)] for name, parameter in trained.items()}


@pytest.mark.parametrize(
    ("component", "whole", "beside"),
    [
        (Full(), ["patches", "layers.0", "layers.1", "layers.2", "norm"], []),
        (LastBlocks(n=2), ["layers.1", "layers.2"], []),
        (LastBlocks(n=1, train_norms=True), ["layers.0", "layers.1", "layers.2", "norm"], []),
        (Lora(rank=2), [], ["layers.0", "layers.1", "layers.2"]),
        (Lora(rank=2, unfreeze_blocks=1), ["layers.2"], ["layers.0", "layers.1"]),
        (Doran(rank=2), [], ["layers.0", "layers.1", "layers.2"]),
    ],
)
def test_the_rate_falls_by_the_same_factor_from_block_to_block(
    component: Any, whole: list[str], beside: list[str]
) -> None:
    found = rates(component)
    seen: dict[str, set[str]] = {"whole": set(), "beside": set()}
    for name, rate in found.items():
        [(prefix, factor)] = [(prefix, factor) for prefix, factor in FACTORS.items() if name.startswith(f"{prefix}.")]
        added = any(part in name for part in ("lora_", "factors", "magnitude", "log_tau"))
        seen["beside" if added else "whole"].add(prefix)
        assert rate == pytest.approx((3.0 if added else 0.1) * factor, rel=1e-12), name
    assert seen == {"whole": set(whole), "beside": set(beside)}
