"""The schedules beside those of torch and transformers, and cut anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from roadwork_schedulers import Constant, Cosine, CosineWarmup, Linear, OneCycle, Wsd
from torch import nn

from roadwork_core.kinds import SchedulerContext

Make = Callable[[torch.optim.Optimizer], Any]
Shape = Literal["linear", "cosine", "1-sqrt"]


def optimizer_at(lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def ours(component: Any, total: int) -> Make:
    return lambda optimizer: component.build(
        SchedulerContext(optimizer=optimizer, total_steps=total, steps_per_epoch=1)
    )


def curve(make: Make, total: int) -> list[float]:
    optimizer = optimizer_at()
    scheduler = make(optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def risen(values: list[float], warmup: int) -> list[float]:
    """Their warm-up begins with a step at 0; ours is the same line over one step more."""
    return [(step + 1) / (warmup + 1) for step in range(warmup)] + values[warmup:]


@pytest.mark.parametrize("warmup", [0, 5, 12])
def test_the_schedules_are_those_of_transformers_after_the_warm_up(warmup: int) -> None:
    from transformers import optimization as theirs

    total = 50
    pairs: list[tuple[Any, Make]] = [
        (Constant(warmup_ratio=warmup / total), lambda o: theirs.get_constant_schedule_with_warmup(o, warmup)),
        (Linear(warmup_ratio=warmup / total), lambda o: theirs.get_linear_schedule_with_warmup(o, warmup, total)),
        (CosineWarmup(warmup_ratio=warmup / total), lambda o: theirs.get_cosine_schedule_with_warmup(o, warmup, total)),
        (
            CosineWarmup(warmup_ratio=warmup / total, min_lr_ratio=0.2),
            lambda o: theirs.get_cosine_with_min_lr_schedule_with_warmup(o, warmup, total, min_lr_rate=0.2),
        ),
    ]
    for component, make in pairs:
        np.testing.assert_allclose(curve(ours(component, total), total), risen(curve(make, total), warmup), rtol=1e-9)


@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize("least", [0.0, 0.1])
def test_wsd_is_that_of_transformers(shape: Shape, least: float) -> None:
    from transformers.optimization import get_wsd_schedule

    total, warmup, decay = 60, 6, 24
    component = Wsd(warmup_ratio=0.1, decay_ratio=0.4, decay=shape, min_lr_ratio=least)
    theirs = curve(
        lambda o: get_wsd_schedule(o, warmup, decay, num_training_steps=total, decay_type=shape, min_lr_ratio=least),
        total,
    )
    np.testing.assert_allclose(curve(ours(component, total), total), risen(theirs, warmup), rtol=1e-9)


def test_cosine_is_that_of_torch() -> None:
    theirs = curve(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=30, eta_min=0.1), 30)
    np.testing.assert_allclose(curve(ours(Cosine(min_lr_ratio=0.1), 30), 30), theirs, rtol=1e-9)


@settings(max_examples=80, deadline=None)
@given(
    total=st.integers(1, 200),
    warmup=st.floats(0, 0.99),
    decay=st.floats(0.01, 1),
    shape=st.sampled_from(["linear", "cosine", "1-sqrt"]),
    least=st.floats(0, 1),
)
def test_wsd_rises_stays_and_falls_for_any_length(
    total: int, warmup: float, decay: float, shape: Shape, least: float
) -> None:
    decay = min(decay, 1 - warmup)
    values = curve(ours(Wsd(warmup_ratio=warmup, decay_ratio=decay, decay=shape, min_lr_ratio=least), total), total)
    assert max(values) == 1.0
    peak = values.index(1.0)
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert all(least - 1e-12 <= value for value in values[peak:])
    assert all(value > 0 for value in values)


def test_wsd_that_leaves_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="must not exceed 1 together"):
        Wsd(warmup_ratio=0.5, decay_ratio=0.6)


@settings(max_examples=40, deadline=None)
@given(
    component=st.sampled_from(
        [Constant(warmup_ratio=0.3), Cosine(), CosineWarmup(), Linear(), OneCycle(), Wsd(), Wsd(decay="cosine")]
    ),
    total=st.integers(1, 80),
    data=st.data(),
)
def test_cut_anywhere_the_curve_goes_on(component: Any, total: int, data: st.DataObject) -> None:
    stop = data.draw(st.integers(0, total))
    whole = curve(ours(component, total), total)
    optimizer = optimizer_at()
    scheduler = ours(component, total)(optimizer)
    for _ in range(stop):
        optimizer.step()
        scheduler.step()
    kept = json.dumps([scheduler.state_dict(), optimizer.state_dict()])
    resumed = optimizer_at()
    again = ours(component, total)(resumed)
    state, rates = json.loads(kept)
    resumed.load_state_dict(rates)
    again.load_state_dict(state)
    for step in range(stop, total):
        assert resumed.param_groups[0]["lr"] == whole[step]
        resumed.step()
        again.step()
