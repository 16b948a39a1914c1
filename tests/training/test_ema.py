"""The averaged weights follow the published recurrence, include BatchNorm's statistics, and swap without a trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from roadwork_core.errors import RoadworkError
from roadwork_core.training.ema import Ema, warmed_decay


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.fixed = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))


def wander(net: Net, rng: np.random.Generator) -> None:
    with torch.no_grad():
        statistics = [net.norm.get_buffer(name) for name in ("running_mean", "running_var")]
        for tensor in (*net.linear.parameters(), *net.norm.parameters(), *statistics):
            tensor.copy_(torch.from_numpy(rng.normal(size=tuple(tensor.shape))))
        net.norm.get_buffer("num_batches_tracked").add_(1)


def test_the_average_is_the_recurrence_with_warm_up_computed_by_hand() -> None:
    rng = np.random.default_rng(0)
    net = Net()
    ema = Ema(net, 0.7)
    names = ("linear.weight", "linear.bias", "norm.weight", "norm.running_mean", "norm.running_var")
    expected = {name: net.state_dict()[name].numpy().astype(np.float64) for name in names}
    for step in range(1, 40):
        wander(net, rng)
        ema.update(step)
        decay = min(0.7, (1 + step) / (10 + step))
        for name in names:
            expected[name] = decay * expected[name] + (1 - decay) * net.state_dict()[name].numpy()
    with ema.applied():
        for name in names:
            np.testing.assert_allclose(net.state_dict()[name].numpy(), expected[name], atol=1e-5)


def test_the_decay_rises_from_two_elevenths_to_its_limit() -> None:
    assert warmed_decay(0.999, 1) == pytest.approx(2 / 11)
    assert warmed_decay(0.999, 90) == pytest.approx(0.91)
    assert warmed_decay(0.999, 10**6) == 0.999


def test_the_weights_of_the_last_step_come_back_to_the_bit() -> None:
    net = Net()
    ema = Ema(net, 0.9)
    wander(net, np.random.default_rng(1))
    ema.update(1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with ema.applied():
        assert not torch.equal(net.linear.weight, before["linear.weight"])
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_weights_come_back_when_validation_fails() -> None:
    net = Net()
    ema = Ema(net, 0.9)
    wander(net, np.random.default_rng(1))
    before = net.linear.weight.detach().clone()
    with pytest.raises(KeyError), ema.applied():
        raise KeyError
    assert torch.equal(net.linear.weight, before)


def test_what_does_not_train_is_not_averaged_and_constants_stay_finite_or_infinite() -> None:
    net = Net()
    ema = Ema(net, 0.9)
    wander(net, np.random.default_rng(2))
    ema.update(1)
    assert "fixed" not in ema.tensors()
    with ema.applied():
        assert net.get_buffer("mask").tolist() == [0.0, float("-inf")]
        assert net.norm.num_batches_tracked == 1


def test_weights_that_were_moved_to_other_memory_are_still_followed() -> None:
    net = Net()
    ema = Ema(net, 0.5)
    net.linear.weight.data = torch.full((4, 3), 8.0)
    for step in range(1, 40):
        ema.update(step)
    with ema.applied():
        torch.testing.assert_close(net.linear.weight.detach(), torch.full((4, 3), 8.0))


def test_averages_of_another_model_are_refused() -> None:
    with pytest.raises(RoadworkError, match="another model"):
        Ema(Net(), 0.9).load(Ema(nn.Linear(2, 2), 0.9).tensors())
