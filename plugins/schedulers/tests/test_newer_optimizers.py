"""Lion and Muon against their papers in numpy, what is torch's own against torch, and all of them cut in two."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from roadwork_schedulers import Adafactor, AdamW, Lion, Muon, NAdam, RAdam, Sgd, Wsd
from torch import nn

from roadwork_core.errors import RoadworkError
from roadwork_core.kinds import OptimizerContext, ParamGroup, SchedulerContext

Floats = NDArray[np.float64]
ALL = [Adafactor(), AdamW(), Lion(), Muon(), NAdam(), RAdam(), Sgd()]


def context(**groups: list[nn.Parameter]) -> OptimizerContext:
    return OptimizerContext(groups=[ParamGroup(name=name, params=params) for name, params in groups.items()])


def gradients(shape: tuple[int, ...], steps: int, seed: int = 0) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for _ in range(steps)]


def test_lion_takes_the_step_of_the_paper() -> None:
    value, mean = np.array([[1.0, -2.0, 0.5]]), np.zeros((1, 3))
    weight = nn.Parameter(torch.tensor(value))
    optimizer = Lion(lr=0.01, weight_decay=0.3, betas=(0.8, 0.95)).build(context(w=[weight]))
    for gradient in gradients((1, 3), 60):
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
        value = value - 0.01 * (np.sign(0.8 * mean + 0.2 * gradient) + 0.3 * value)
        mean = 0.95 * mean + 0.05 * gradient
    np.testing.assert_allclose(weight.detach(), value, rtol=1e-12)
    np.testing.assert_allclose(optimizer.state[weight]["exp_avg"], mean, rtol=1e-12)


def orthogonal(gradient: Floats, steps: int) -> Floats:
    """The quintic Newton-Schulz iteration as published, in float64."""
    x = gradient.T if gradient.shape[0] > gradient.shape[1] else gradient
    x = x / np.linalg.norm(x)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    result: Floats = x.T if gradient.shape[0] > gradient.shape[1] else x
    return result


@pytest.mark.parametrize("shape", [(6, 4), (4, 10)])
@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_takes_an_orthogonal_step_as_long_as_adamws(shape: tuple[int, int], nesterov: bool) -> None:
    value, mean = np.ones(shape), np.zeros(shape)
    weight = nn.Parameter(torch.ones(shape))
    component = Muon(lr=0.1, weight_decay=0.2, momentum=0.9, nesterov=nesterov)
    optimizer = component.build(context(backbone=[weight]))
    for gradient in gradients(shape, 3):
        weight.grad = torch.from_numpy(gradient).float()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient
        ahead = 0.1 * gradient + 0.9 * mean if nesterov else mean
        value = value - 0.1 * 0.2 * value - 0.1 * 0.2 * max(shape) ** 0.5 * orthogonal(ahead, 5)
    # torch iterates in bfloat16.
    np.testing.assert_allclose(weight.detach(), value, atol=0.02)


def test_muon_leaves_vectors_convolutions_and_the_head_to_adamw() -> None:
    shapes: dict[str, list[tuple[int, ...]]] = {
        "backbone": [(4, 6), (3, 2, 2, 2), (5,)],
        "head": [(2, 4)],
        "head.no_decay": [(2,)],
    }

    def weights() -> dict[str, list[nn.Parameter]]:
        torch.manual_seed(0)
        return {name: [nn.Parameter(torch.randn(shape)) for shape in group] for name, group in shapes.items()}

    found, expected = weights(), weights()
    options: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.05, "betas": (0.8, 0.9), "eps": 1e-6}
    mine, theirs = Muon(**options).build(context(**found)), AdamW(**options).build(context(**expected))
    for step in range(3):
        for group in (*found.values(), *expected.values()):
            for weight in group:
                weight.grad = torch.full_like(weight, 0.1 * (step + 1))
        mine.step()
        theirs.step()
    same = {name: [torch.equal(a, b) for a, b in zip(found[name], expected[name], strict=True)] for name in shapes}
    assert same == {"backbone": [False, True, True], "head": [True], "head.no_decay": [True]}
    assert [group["name"] for group in mine.param_groups] == ["backbone", "backbone", "head", "head.no_decay"]


def test_muon_without_a_matrix_before_the_head_says_what_to_use() -> None:
    convolution, head = nn.Parameter(torch.zeros(2, 2, 3, 3)), nn.Parameter(torch.zeros(2, 4))
    with pytest.raises(RoadworkError, match=r'no weight matrix trains before the head.*\(set optimizer.use = "adamw"'):
        Muon().build(context(backbone=[convolution], head=[head]))


def test_torchs_own_are_given_every_option() -> None:
    start = torch.linspace(-1, 1, 12).reshape(3, 4)
    cases: list[tuple[Any, Any]] = [
        (
            NAdam(lr=0.02, weight_decay=0.1, betas=(0.7, 0.9), eps=1e-5, momentum_decay=0.01),
            lambda w: torch.optim.NAdam(
                w, 0.02, (0.7, 0.9), 1e-5, 0.1, momentum_decay=0.01, decoupled_weight_decay=True
            ),
        ),
        (
            RAdam(lr=0.02, weight_decay=0.1, betas=(0.7, 0.9), eps=1e-5),
            lambda w: torch.optim.RAdam(w, 0.02, (0.7, 0.9), 1e-5, 0.1, decoupled_weight_decay=True),
        ),
        (
            Adafactor(lr=0.02, weight_decay=0.1, beta2_decay=-0.6, eps=0.01, clip=1.5),
            lambda w: torch.optim.Adafactor(w, 0.02, beta2_decay=-0.6, eps=(None, 0.01), d=1.5, weight_decay=0.1),
        ),
    ]
    for component, make in cases:
        mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        optimizers = component.build(context(w=[mine])), make([theirs])
        for gradient in gradients((3, 4), 8):
            for weight, optimizer in zip((mine, theirs), optimizers, strict=True):
                weight.grad = torch.from_numpy(gradient).float()
                optimizer.step()
        torch.testing.assert_close(mine, theirs)
        assert not torch.equal(mine, start)


@pytest.mark.parametrize("component", ALL, ids=lambda component: type(component).__name__)
def test_decay_spares_what_does_not_decay(component: Any) -> None:
    weight, other, bias = (nn.Parameter(torch.ones(shape)) for shape in ((3, 4), (2, 3, 1, 1), (4,)))
    groups = [
        ParamGroup(name="w", params=[weight, other], lr_scale=0.5),
        ParamGroup(name="b", params=[bias], decay=False),
    ]
    component = type(component)(lr=0.1, weight_decay=0.4)
    optimizer = component.build(OptimizerContext(groups=groups))
    for parameter in (weight, other, bias):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter in (weight, other):
        torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, 1 - 0.5 * 0.1 * 0.4))
    assert torch.equal(bias.detach(), torch.ones(4))


@pytest.mark.parametrize("component", ALL, ids=lambda component: type(component).__name__)
@settings(max_examples=8, deadline=None)
@given(stop=st.integers(0, 9), seed=st.integers(0, 100))
def test_cut_anywhere_and_resumed_it_ends_with_the_same_weights_to_the_bit(
    component: Any, stop: int, seed: int
) -> None:
    """Optimizer and scheduler together, their state in between."""
    steps = [[torch.from_numpy(g).float() for g in gradients(shape, 10, seed)] for shape in ((4, 3), (3,))]

    def make() -> tuple[list[nn.Parameter], torch.optim.Optimizer, Any]:
        weights = [nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(3))]
        optimizer = component.build(context(backbone=weights))
        surroundings = SchedulerContext(optimizer=optimizer, total_steps=10, steps_per_epoch=5)
        return weights, optimizer, Wsd(warmup_ratio=0.2, decay_ratio=0.4).build(surroundings)

    def train(weights: list[nn.Parameter], optimizer: Any, scheduler: Any, first: int, last: int) -> None:
        for step in range(first, last):
            for weight, own in zip(weights, steps, strict=True):
                weight.grad = own[step].clone()
            optimizer.step()
            scheduler.step()

    whole = make()
    train(*whole, 0, 10)
    before = make()
    train(*before, 0, stop)
    kept = copy.deepcopy([part.state_dict() for part in before[1:]])
    after = make()
    with torch.no_grad():
        for new, old in zip(after[0], before[0], strict=True):
            new.copy_(old)
    for part, state in zip(after[1:], kept, strict=True):
        part.load_state_dict(state)
    train(*after, stop, 10)
    for one, other in zip(whole[0], after[0], strict=True):
        assert torch.equal(one, other)
