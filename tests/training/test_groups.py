"""Each part learns at its own rate, vectors do not decay, and what is frozen does not drift."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from roadwork_core.errors import RoadworkError
from roadwork_core.kinds import OptimizerContext, ParamGroup
from roadwork_core.spec.model import LrScale
from roadwork_core.testing import stand_ins
from roadwork_core.training.groups import block_depths, learning_rates, parameter_groups, set_training_mode

from .toy import ToyBackbone


def adapted() -> tuple[ToyBackbone, set[int]]:
    backbone = ToyBackbone()
    original = {id(parameter) for parameter in backbone.parameters()}
    backbone.conv.weight.requires_grad_(False)
    backbone.register_parameter("low_rank", nn.Parameter(torch.zeros(4, 2)))
    backbone.register_parameter("magnitude", nn.Parameter(torch.zeros(4)))
    return backbone, original


def test_backbone_adapter_and_head_have_their_own_rates() -> None:
    backbone, original = adapted()
    scale = LrScale(backbone=0.1, adapter=1.0, head=5.0)
    groups = parameter_groups(backbone, nn.Linear(12, 2), original, scale)
    optimizer = torch.optim.AdamW(OptimizerContext(groups=groups).param_groups(1e-2, 0.3))
    assert learning_rates(optimizer) == pytest.approx({"backbone": 1e-3, "adapter": 1e-2, "head": 5e-2})


def test_each_trainable_weight_is_in_one_group_and_frozen_ones_in_none() -> None:
    backbone, original = adapted()
    head = nn.Linear(12, 2)
    groups = parameter_groups(backbone, head, original, LrScale())
    listed = [id(parameter) for group in groups for parameter in group.params]
    trainable = [id(p) for p in (*backbone.parameters(), *head.parameters()) if p.requires_grad]
    assert sorted(listed) == sorted(trainable)


def test_biases_norms_and_other_vectors_do_not_decay() -> None:
    backbone, original = adapted()
    head = nn.Linear(12, 2)
    groups = parameter_groups(backbone, head, original, LrScale())
    decay = {
        id(parameter): group["weight_decay"]
        for group in OptimizerContext(groups=groups).param_groups(1e-2, 0.3)
        for parameter in group["params"]
    }
    assert decay[id(head.weight)] == decay[id(backbone.low_rank)] == 0.3
    for vector in (head.bias, backbone.conv.bias, backbone.norm.weight, backbone.norm.bias, backbone.magnitude):
        assert decay[id(vector)] == 0.0


def rates(groups: list[ParamGroup], lr: float = 1.0) -> dict[int, float]:
    return {
        id(parameter): group["lr"]
        for group in OptimizerContext(groups=groups).param_groups(lr)
        for parameter in group["params"]
    }


def test_layer_decay_lowers_the_rate_block_by_block() -> None:
    """BEiT's table for three blocks: head and last norm 1, blocks .5, .25, .125 from the last, embeddings .0625."""
    backbone, head = stand_ins.backbone(), nn.Linear(16, 2)
    original = {id(parameter) for parameter in backbone.parameters()}
    groups = parameter_groups(backbone, head, original, LrScale(backbone=0.1, layer_decay=0.5))
    found = rates(groups, lr=2.0)
    expected = {"patches": 0.0625, "layers.0": 0.125, "layers.1": 0.25, "layers.2": 0.5, "norm": 1.0}
    for name, parameter in backbone.named_parameters():
        [factor] = [factor for prefix, factor in expected.items() if name.startswith(f"{prefix}.")]
        assert found[id(parameter)] == pytest.approx(2.0 * 0.1 * factor, rel=1e-12), name
    assert found[id(head.weight)] == 2.0
    assert len(found) == len(original) + 2
    assert len({group.name for group in groups}) == len(groups)
    optimizer = torch.optim.SGD(OptimizerContext(groups=groups).param_groups(2.0))
    assert learning_rates(optimizer) == pytest.approx({"backbone": 0.2, "head": 2.0})


def test_layer_decay_keeps_weights_and_vectors_apart() -> None:
    backbone = stand_ins.backbone()
    groups = parameter_groups(
        backbone, nn.Linear(16, 2), {id(p) for p in backbone.parameters()}, LrScale(layer_decay=0.9)
    )
    for group in groups:
        assert {parameter.ndim > 1 for parameter in group.params} == {group.decay}


def test_without_layer_decay_a_backbone_needs_no_blocks() -> None:
    backbone = ToyBackbone()
    assert not hasattr(backbone, "blocks")
    assert rates(parameter_groups(backbone, nn.Linear(12, 2), {id(p) for p in backbone.parameters()}, LrScale()))


def test_what_stands_before_the_blocks_is_told_from_what_stands_after() -> None:
    backbone = stand_ins.backbone()
    depths = block_depths(backbone)
    assert {depths[id(parameter)] for parameter in backbone.patches.parameters()} == {4}
    assert {depths[id(parameter)] for parameter in backbone.norm.parameters()} == {0}


def test_a_model_of_which_nothing_trains_is_refused() -> None:
    backbone, head = ToyBackbone(), nn.Linear(12, 2)
    for parameter in (*backbone.parameters(), *head.parameters()):
        parameter.requires_grad_(False)
    with pytest.raises(RoadworkError, match="no weight of the model trains"):
        parameter_groups(backbone, head, {id(p) for p in backbone.parameters()}, LrScale())


def test_a_frozen_backbone_keeps_its_statistics_and_drops_nothing_out() -> None:
    backbone, head = ToyBackbone(), nn.Linear(12, 2)
    backbone.requires_grad_(False)
    set_training_mode(backbone, head)
    pictures = torch.randn(6, 3, 8, 8)
    mean = backbone.get_buffer("norm.running_mean").clone()
    assert torch.equal(backbone(pictures), backbone(pictures))
    assert torch.equal(backbone.get_buffer("norm.running_mean"), mean)
    assert head.training


def test_a_frozen_batchnorm_inside_a_training_backbone_keeps_its_statistics() -> None:
    backbone, head = ToyBackbone(), nn.Linear(12, 2)
    backbone.norm.requires_grad_(False)
    set_training_mode(backbone, head)
    mean = backbone.get_buffer("norm.running_mean").clone()
    backbone(torch.randn(6, 3, 8, 8))
    assert torch.equal(backbone.get_buffer("norm.running_mean"), mean)
    assert backbone.dropout.training
