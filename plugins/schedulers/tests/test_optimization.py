"""Optimizers take one step as written in their papers; schedulers are closed curves that a resumed run stays on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from roadwork_schedulers import AdamW, Constant, Cosine, CosineWarmup, Linear, OneCycle, Sgd
from torch import nn

from roadwork_core.kinds import OptimizerContext, ParamGroup, SchedulerContext

TOTAL = 40


def parameter(values: Any) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def rates(component: Any, total: int = TOTAL, *, lrs: tuple[float, ...] = (1.0,)) -> list[list[float]]:
    """Learning rate of each group at each of the optimizer steps 0 to total - 1."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    optimizer = torch.optim.SGD(groups)
    scheduler = component.build(SchedulerContext(optimizer=optimizer, total_steps=total, steps_per_epoch=4))
    found = []
    for _ in range(total):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def expected(rise: Callable[[float], float], fall: Callable[[float], float], warmup: int) -> list[float]:
    return [
        rise((step + 1) / (warmup + 1)) if step < warmup else fall((step - warmup) / (TOTAL - warmup))
        for step in range(TOTAL)
    ]


@pytest.mark.parametrize(
    ("component", "curve"),
    [
        (Constant(), [1.0] * TOTAL),
        (Constant(warmup_ratio=0.1), expected(lambda x: x, lambda _: 1.0, 4)),
        (Cosine(), expected(float, lambda x: (1 + math.cos(math.pi * x)) / 2, 0)),
        (
            CosineWarmup(warmup_ratio=0.25, min_lr_ratio=0.1),
            expected(lambda x: x, lambda x: 0.1 + 0.9 * (1 + math.cos(math.pi * x)) / 2, 10),
        ),
        (Linear(warmup_ratio=0.1, min_lr_ratio=0.5), expected(lambda x: x, lambda x: 1 - 0.5 * x, 4)),
    ],
)
def test_the_curve_is_the_formula(component: Any, curve: list[float]) -> None:
    np.testing.assert_allclose([row[0] for row in rates(component)], curve, rtol=1e-12)


def test_one_cycle_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    # torch counts the peak at step pct_start * total - 1 and the end at total - 1.
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=TOTAL + 1, pct_start=13 / (TOTAL + 1), div_factor=25, final_div_factor=1e4
    )
    curve = []
    for _ in range(TOTAL):
        curve.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    component = OneCycle(peak_ratio=12 / TOTAL, start_ratio=0.04, min_lr_ratio=4e-6)
    np.testing.assert_allclose([row[0] for row in rates(component)], curve, rtol=1e-9)


ALL = [Constant(warmup_ratio=0.2), Cosine(min_lr_ratio=0.1), CosineWarmup(), Linear(warmup_ratio=0.1), OneCycle()]


@pytest.mark.parametrize("component", ALL)
@settings(max_examples=25, deadline=None)
@given(total=st.integers(1, 300))
def test_every_step_has_a_rate_above_zero_and_the_peak_is_reached(component: Any, total: int) -> None:
    curve = [row[0] for row in rates(component, total)]
    assert min(curve) > 0
    assert max(curve) == pytest.approx(1.0)


@pytest.mark.parametrize("component", ALL)
def test_groups_keep_their_proportions(component: Any) -> None:
    for one, tenth in rates(component, lrs=(1.0, 0.1)):
        assert tenth == pytest.approx(one / 10, rel=1e-12)


@pytest.mark.parametrize("component", ALL)
@pytest.mark.parametrize("stop", [1, 7, 39])
def test_a_resumed_scheduler_goes_on_as_if_nothing_had_been(component: Any, stop: int) -> None:
    whole = [row[0] for row in rates(component)]

    def make() -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        context = SchedulerContext(optimizer=optimizer, total_steps=TOTAL, steps_per_epoch=4)
        return optimizer, component.build(context)

    optimizer, scheduler = make()
    for _ in range(stop):
        optimizer.step()
        scheduler.step()
    kept = json.loads(json.dumps(scheduler.state_dict())), json.loads(json.dumps(optimizer.state_dict()))
    optimizer, scheduler = make()
    optimizer.load_state_dict(kept[1])
    scheduler.load_state_dict(kept[0])
    for step in range(stop, TOTAL):
        assert optimizer.param_groups[0]["lr"] == whole[step]
        optimizer.step()
        scheduler.step()


def test_adamw_takes_the_step_of_the_paper() -> None:
    start, gradient = np.array([[1.0, -2.0], [3.0, 0.5]]), np.array([[0.1, -0.2], [0.3, 0.0]])
    weight = parameter(start)
    component = AdamW(lr=0.01, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6)
    optimizer = component.build(OptimizerContext(groups=[ParamGroup(name="w", params=[weight])]))
    mean, square, value = np.zeros((2, 2)), np.zeros((2, 2)), start.copy()
    for step in range(1, 4):
        weight.grad = torch.from_numpy(gradient * step)
        optimizer.step()
        mean = 0.8 * mean + 0.2 * gradient * step
        square = 0.95 * square + 0.05 * (gradient * step) ** 2
        update = (mean / (1 - 0.8**step)) / (np.sqrt(square / (1 - 0.95**step)) + 1e-6)
        value = value - 0.01 * 0.1 * value - 0.01 * update
    np.testing.assert_allclose(weight.detach(), value, rtol=1e-9)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_takes_the_step_of_its_definition(nesterov: bool) -> None:
    weight = parameter([[1.0, -2.0]])
    component = Sgd(lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    optimizer = component.build(OptimizerContext(groups=[ParamGroup(name="w", params=[weight])]))
    value, velocity = np.array([[1.0, -2.0]]), np.zeros((1, 2))
    for step in range(3):
        weight.grad = torch.tensor([[0.5, 0.25]], dtype=torch.float64)
        optimizer.step()
        gradient = np.array([[0.5, 0.25]]) + 0.01 * value
        velocity = gradient if step == 0 else 0.9 * velocity + gradient
        value = value - 0.1 * (gradient + 0.9 * velocity if nesterov else velocity)
    np.testing.assert_allclose(weight.detach(), value, rtol=1e-9)


@pytest.mark.parametrize("component", [AdamW(lr=0.5, weight_decay=0.1), Sgd(lr=0.5, weight_decay=0.1)])
def test_decay_and_rates_are_those_of_each_group(component: Any) -> None:
    weight, bias = parameter([[1.0]]), parameter([1.0])
    groups = [ParamGroup(name="w", params=[weight], lr_scale=0.1), ParamGroup(name="b", params=[bias], decay=False)]
    optimizer = component.build(OptimizerContext(groups=groups))
    weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
    optimizer.step()
    assert weight.item() == pytest.approx(1 - 0.05 * 0.1)
    assert bias.item() == 1.0


@pytest.mark.parametrize("kind", [AdamW, Sgd])
def test_every_implementation_takes_the_same_step(kind: Any) -> None:
    found = []
    for implementation in ("auto", "fused", "foreach", "single"):
        weight = nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
        component = kind(lr=0.1, implementation=implementation)
        optimizer = component.build(OptimizerContext(groups=[ParamGroup(name="w", params=[weight])]))
        for step in range(3):
            weight.grad = torch.full((3, 4), 0.1 * (step + 1))
            optimizer.step()
        found.append(weight.detach())
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        Sgd(nesterov=True, momentum=0.0)
