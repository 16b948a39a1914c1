"""dora_tau and doran against a plain numpy rendering: forward, gradients, both limits, the start, the merge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from roadwork_adapters import Dora, Doran, DoraTau
from torch import Tensor, nn

from roadwork_core.kinds import AdapterContext
from roadwork_core.testing import stand_ins

Floats = NDArray[np.float64]
QUERY, VALUE = "layers.1.attention.query", "layers.1.attention.value"


def adapt(component: Any, seed: int = 3) -> Any:
    return component.build(AdapterContext(backbone=stand_ins.backbone(), seed=seed))


def disturb(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def array(tensor: Tensor) -> Floats:
    return tensor.detach().double().numpy()


def numbers(layer: Any) -> dict[str, Floats]:
    """Everything that the layer computes with, by the name of its parameter."""
    found = {name: array(parameter) for name, parameter in layer.named_parameters()}
    return {name.removeprefix("factors."): value for name, value in found.items()}


def rendered(values: dict[str, Floats], x: Floats, scale: float) -> Floats:
    """The equations of the paper with nothing but numpy."""
    if "a" in values:
        a, b = values["a"], values["b"]
    else:
        a = values["second_a"] @ np.tanh(values["first.a"])
        b = values["second_b"] @ np.tanh(values["first.b"])
    w = values["base_layer.weight"] + scale * b @ a
    norms = np.sqrt((w**2).sum(axis=1))
    weight = values["magnitude"][:, None] * w / (norms + np.exp(values["log_tau"]))[:, None]
    answer: Floats = x @ weight.T + values["base_layer.bias"]
    return answer


COMPONENTS: list[Any] = [DoraTau(rank=4, alpha=6.0, tau=0.3), Doran(rank=4, alpha=6.0, tau=0.3, hidden=5)]


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_layer_answers_as_the_equations_say(component: Any) -> None:
    adapted = adapt(component)
    disturb(adapted.module)
    x = np.random.default_rng(0).normal(size=(5, 16))
    for name in (QUERY, VALUE):
        layer = adapted.module.get_submodule(name)
        expected = rendered(numbers(layer), x, 6.0 / 4)
        np.testing.assert_allclose(array(layer(torch.from_numpy(x).float())), expected, atol=1e-5)


@pytest.mark.parametrize("component", COMPONENTS)
def test_its_gradients_are_the_finite_differences_of_the_equations(component: Any) -> None:
    adapted = adapt(component)
    disturb(adapted.module)
    layer = adapted.module.get_submodule(QUERY).double()
    rng = np.random.default_rng(1)
    x, weights = rng.normal(size=(5, 16)), rng.normal(size=(5, 16))
    (layer(torch.from_numpy(x)) * torch.from_numpy(weights)).sum().backward()
    values = numbers(layer)
    checked = 0
    for name, parameter in layer.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        gradient = parameter.grad.numpy()
        for _ in range(6):
            place = tuple(int(rng.integers(size)) for size in gradient.shape)
            sides = []
            for step in (1e-6, -1e-6):
                moved = dict(values)
                key = name.removeprefix("factors.")
                moved[key] = values[key].copy()
                moved[key][place] += step
                sides.append((rendered(moved, x, 6.0 / 4) * weights).sum())
            assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4, abs=1e-6), name
            checked += 1
    assert checked == 6 * len(values) - 6 * 2


def test_without_tau_it_is_dora_as_peft_has_it() -> None:
    """The same A, B and m in peft's own DoRA layer."""
    theirs, ours = adapt(Dora(rank=4, alpha=6.0)), adapt(DoraTau(rank=4, alpha=6.0))
    disturb(theirs.module)
    layer, other = (each.module.get_submodule(QUERY) for each in (theirs, ours))
    with torch.no_grad():
        other.factors.a.copy_(layer.lora_A.default.weight)
        other.factors.b.copy_(layer.lora_B.default.weight)
        other.magnitude.copy_(layer.lora_magnitude_vector.default.weight)
    x = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
    gaps = []
    for tau in (0.1, 1e-2, 1e-4, 1e-12):
        with torch.no_grad():
            other.log_tau.fill_(np.log(tau))
        gaps.append(float((layer(x) - other(x)).abs().max().detach()))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 1e-2
    assert gaps[-1] < 1e-5


def test_with_a_large_tau_it_is_lora_times_a_magnitude() -> None:
    """tau far above every norm: m (W + s B A) / tau, the norm has no say any more."""
    adapted = adapt(DoraTau(rank=4, tau=1e6))
    layer = adapted.module.get_submodule(QUERY)
    with torch.no_grad():
        layer.factors.b.normal_(generator=torch.Generator().manual_seed(0))
        b, a = layer.factors()
        expected = layer.base_layer.weight + b @ a
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-4, atol=1e-5)


def test_generated_factors_that_equal_plain_ones_make_the_same_layer() -> None:
    """doran with its auxiliary networks replaced by what they say is dora_tau."""
    generated, plain = adapt(Doran(rank=4)), adapt(DoraTau(rank=4))
    disturb(generated.module)
    source, sink = (each.module.get_submodule(QUERY) for each in (generated, plain))
    with torch.no_grad():
        b, a = source.factors()
        sink.factors.a.copy_(a)
        sink.factors.b.copy_(b)
        sink.magnitude.copy_(source.magnitude)
        sink.log_tau.copy_(source.log_tau)
    x = torch.randn(7, 16)
    torch.testing.assert_close(source(x), sink(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("component", [DoraTau(), DoraTau(tau=5.0), Doran(), Doran(hidden=3, tau=1e-6)])
def test_it_starts_from_the_backbone_to_the_bit(component: Any) -> None:
    images = stand_ins.inputs(3)
    adapted = adapt(component)
    layer = adapted.module.get_submodule(QUERY)
    assert torch.equal(layer.weight, layer.base_layer.weight)
    norms = np.linalg.norm(array(layer.base_layer.weight), axis=1)
    np.testing.assert_allclose(array(layer.magnitude), norms + component.tau, rtol=1e-5)
    torch.testing.assert_close(adapted.module(images), stand_ins.backbone()(images), rtol=0, atol=1e-6)


def test_generated_factors_start_with_the_spread_of_loras() -> None:
    components: list[Any] = [Doran(rank=64), DoraTau(rank=64)]
    spreads = [float(adapt(each).module.get_submodule(QUERY).factors()[1].std().detach()) for each in components]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.25)
    assert spreads[1] == pytest.approx(1 / np.sqrt(3 * 16), rel=0.1)


def test_the_first_layers_are_shared_by_the_projections_of_one_attention_only() -> None:
    roles: Any = ("attention", "mlp")
    module = adapt(Doran(rank=4, targets=roles)).module
    first = {
        name: id(layer.factors.first)
        for name, layer in module.named_modules()
        if type(layer).__name__ == "NormalisedUpdate"
    }
    assert len(first) == 3 * 6
    for block in range(3):
        prefix = f"layers.{block}.attention."
        assert first[f"{prefix}query"] == first[f"{prefix}key"] == first[f"{prefix}value"]
        assert first[f"{prefix}query"] != first[f"{prefix}output"]
    assert len(set(first.values())) == 3 * 4
    # Both projections pull on what they share.
    images = stand_ins.inputs(2)
    disturb(module)
    module(images).square().sum().backward()
    shared = module.get_submodule(QUERY).factors.first.a
    whole = shared.grad.clone()
    module.zero_grad()
    for name in first:
        if name != QUERY:
            module.get_submodule(name).factors.second_a.data.zero_()
            module.get_submodule(name).factors.second_b.data.zero_()
    module(images).square().sum().backward()
    assert not torch.allclose(shared.grad, whole)


def test_what_they_share_is_one_weight_for_the_optimizer_and_counted_once() -> None:
    module = adapt(Doran(rank=4, hidden=8, targets=("query", "value"))).module
    own = [parameter for parameter in module.parameters() if parameter.requires_grad]
    one_block = 8 * 16 + 8 * 4 + 2 * (4 * 8 + 16 * 8 + 16 + 1)
    assert sum(parameter.numel() for parameter in own) == 3 * one_block


@pytest.mark.parametrize("component", [DoraTau(rank=4, dropout=0.5), Doran(rank=4, dropout=0.5)])
def test_dropout_is_on_the_inputs_of_the_update_and_in_training_only(component: Any) -> None:
    layer = adapt(component).module.get_submodule(QUERY)
    disturb(layer)
    x = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    noisy, exact = layer.train()(x), layer.eval()(x)
    assert torch.equal(layer(x), exact)
    assert not torch.allclose(noisy, exact, atol=1e-3)
    torch.testing.assert_close((noisy - exact).mean(dim=0), torch.zeros(16), rtol=0, atol=0.1)
    with torch.no_grad():
        layer.factors.b.zero_() if hasattr(layer.factors, "b") else layer.factors.second_b.zero_()
    torch.testing.assert_close(layer.train()(x), layer.eval()(x), rtol=1e-5, atol=1e-6)


def test_tau_is_learned_and_stays_above_zero() -> None:
    module = adapt(DoraTau(rank=4, tau=1e-3)).module
    layer = module.get_submodule(QUERY)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.5)
    before = float(layer.log_tau.detach())
    for _ in range(5):
        optimizer.zero_grad()
        module(stand_ins.inputs(4)).square().mean().backward()
        optimizer.step()
    assert float(layer.log_tau.detach()) != before
    assert float(layer.log_tau.detach().exp()) > 0
