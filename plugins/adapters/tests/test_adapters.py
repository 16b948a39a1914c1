"""LoRA and DoRA are what their papers say; roles are found in every family; what cannot work is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from roadwork_adapters import BitFit, Dora, Frozen, Full, Ia3, LastBlocks, Lora
from roadwork_adapters.roles import layer_roles
from torch import Tensor, nn

from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.errors import UsageError
from roadwork_core.kinds import AdapterContext
from roadwork_core.testing import stand_ins

transformers = pytest.importorskip("transformers")


class Wrapped(nn.Module):
    """A network of any family in a backbone's clothes."""

    def __init__(self, model: nn.Module, blocks: list[nn.Module], side: int = 32) -> None:
        super().__init__()
        self.model = model
        self._blocks = blocks
        self.preprocessing = Preprocessing(size=(side, side), mean=(0, 0, 0), std=(1, 1, 1))

    def forward(self, images: Tensor) -> Any:
        answer = self.model(images)
        return answer if isinstance(answer, Tensor) else answer.last_hidden_state

    def blocks(self) -> list[nn.Module]:
        return self._blocks


def vit(name: str = "Dinov2") -> Wrapped:
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**small, image_size=32, patch_size=8)
    model = transformers.AutoModel.from_config(config).eval()
    layers = max(
        (m for m in model.modules() if isinstance(m, nn.ModuleList)), key=lambda found: len(list(found.parameters()))
    )
    return Wrapped(model, list(layers))


def adapt(component: Any, backbone: nn.Module | None = None, seed: int = 3) -> Any:
    return component.build(AdapterContext(backbone=backbone or stand_ins.backbone(), seed=seed))


def trainable(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def disturb(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("component", [Dora(rank=4, alpha=6.0), Lora(rank=4, alpha=6.0)])
def test_an_adapted_layer_is_the_equation(component: Any) -> None:
    """DoRA: m (W + s B A) / ||W + s B A||, a norm for each output; LoRA: W + s B A; s = alpha / rank."""
    adapted = adapt(component)
    disturb(adapted.module)
    name = "layers.1.attention.query"
    layer = adapted.module.get_submodule(name)
    base, a, b = (
        array(part) for part in (layer.base_layer.weight, layer.lora_A.default.weight, layer.lora_B.default.weight)
    )
    weight = base + 6.0 / 4 * b @ a
    if isinstance(component, Dora):
        magnitude = array(layer.lora_magnitude_vector.default.weight)
        assert not np.allclose(magnitude, np.linalg.norm(base, axis=1))
        weight = magnitude[:, None] * weight / np.linalg.norm(weight, axis=1, keepdims=True)
    x = np.random.default_rng(0).normal(size=(5, 16))
    expected = x @ weight.T + array(layer.base_layer.bias)
    np.testing.assert_allclose(array(layer(torch.from_numpy(x).float())), expected, atol=1e-5)
    merged = adapted.merge().get_submodule(name)
    assert type(merged) is nn.Linear
    np.testing.assert_allclose(array(merged.weight), weight, atol=1e-5)


def test_dora_starts_from_the_norms_of_the_weights_and_is_not_lora() -> None:
    adapted = adapt(Dora(rank=4))
    layer = adapted.module.get_submodule("layers.0.attention.value")
    magnitude = array(layer.lora_magnitude_vector.default.weight)
    np.testing.assert_allclose(magnitude, np.linalg.norm(array(layer.base_layer.weight), axis=1), rtol=1e-5)
    assert any("magnitude" in name for name in trainable(adapted.module))
    assert not any("magnitude" in name for name in trainable(adapt(Lora(rank=4)).module))


@pytest.mark.parametrize("component", [Dora(), Lora()])
def test_training_starts_from_the_backbone(component: Any) -> None:
    images = stand_ins.inputs(3)
    adapted = adapt(component)
    difference = (adapted.module(images) - stand_ins.backbone()(images)).abs().max()
    assert difference <= 1e-6


FAMILIES = ["Dinov2", "Dinov2WithRegisters", "ViT", "DINOv3ViT", "SiglipVision", "CLIPVision", "Beit"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("use_dora", [False, True])
def test_roles_are_found_in_every_family_and_merge_exactly(family: str, use_dora: bool) -> None:
    backbone = vit(family)
    keys = list(backbone.state_dict())
    roles = layer_roles(backbone)
    for role in ("query", "key", "value", "output"):
        assert sum(role in plays for plays in roles.values()) == 2, role
    assert sum("mlp" in plays for plays in roles.values()) == 4
    images = torch.randn(2, 3, 32, 32)
    adapted = adapt((Dora if use_dora else Lora)(rank=2, targets=("query", "value", "mlp")), backbone)
    assert len(adapted.targets) == 8
    disturb(adapted.module)
    with torch.no_grad():
        before = adapted.module.eval()(images)
        merged = adapted.merge()
        torch.testing.assert_close(merged(images), before, atol=1e-5, rtol=1e-5)
    assert list(merged.state_dict()) == keys


def test_a_fused_projection_plays_three_roles() -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.ModuleDict({"qkv": nn.Linear(8, 24), "proj": nn.Linear(8, 8)})
            self.mlp = nn.ModuleDict({"fc1": nn.Linear(8, 8)})

    block = Fused()
    found = layer_roles(Wrapped(block, [block]))
    assert found == {
        "model.attn.qkv": ("query", "key", "value"),
        "model.attn.proj": ("output",),
        "model.mlp.fc1": ("mlp",),
    }


def test_a_network_without_attention_is_adapted_in_its_mlp() -> None:
    config = transformers.ConvNextV2Config(hidden_sizes=[8, 16], depths=[1, 2], num_stages=2, image_size=32)
    model = transformers.AutoModel.from_config(config).eval()
    adapted = adapt(Lora(rank=2), Wrapped(model, list(model.encoder.stages)))
    assert len(adapted.targets) == 6
    assert all("pwconv" in name for name in adapted.targets)


def test_a_role_that_nothing_plays_is_refused_with_what_there_is() -> None:
    config = transformers.ConvNextV2Config(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=32)
    model = transformers.AutoModel.from_config(config).eval()
    with pytest.raises(UsageError, match=r"is a query or a value .it has: mlp \(4\), conv \(1\)"):
        adapt(Lora(targets=("query", "value")), Wrapped(model, list(model.encoder.stages)))
    grouped = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Conv2d(6, 6, 3, groups=6))
    with pytest.raises(UsageError, match="it has none to adapt"):
        adapt(Dora(), Wrapped(grouped, list(grouped)))


def test_unfrozen_blocks_train_whole_and_are_not_adapted() -> None:
    adapted = adapt(Lora(rank=2, targets=("query",), unfreeze_blocks=1, train_norms=True))
    names = trainable(adapted.module)
    assert {name for name in adapted.module.state_dict() if name.startswith("layers.2.")} <= names
    assert not any(name.startswith("layers.2.") and "lora" in name for name in names)
    assert {"layers.0.norm1.weight", "layers.1.norm2.bias", "norm.weight"} <= names
    assert "layers.0.attention.query.base_layer.weight" not in names
    assert "layers.2" in adapted.targets


def test_full_frozen_and_last_blocks_choose_what_trains() -> None:
    everything = set(stand_ins.backbone().state_dict())
    assert trainable(adapt(Full()).module) == everything
    assert trainable(adapt(Frozen()).module) == set()
    last = {name for name in everything if name.startswith(("layers.1.", "layers.2."))}
    assert trainable(adapt(LastBlocks(n=2)).module) == last
    assert trainable(adapt(LastBlocks(n=2, train_norms=True)).module) == last | {
        *("norm.weight", "norm.bias", "layers.0.norm1.weight", "layers.0.norm1.bias"),
        *("layers.0.norm2.weight", "layers.0.norm2.bias"),
    }
    with pytest.raises(UsageError, match="4 blocks cannot be unfrozen, the backbone has 3"):
        adapt(LastBlocks(n=4))


def test_the_seed_decides_the_first_update_and_the_global_generator_is_left_alone() -> None:
    def first(seed: int, state: int) -> Tensor:
        torch.manual_seed(state)
        weight = adapt(Dora(), seed=seed).module.get_submodule("layers.0.attention.query").lora_A.default.weight
        assert torch.equal(torch.get_rng_state(), torch.manual_seed(state).get_state())
        found: Tensor = weight.detach()
        return found

    assert torch.equal(first(1, 10), first(1, 20))
    assert not torch.equal(first(1, 10), first(2, 10))


def test_full_with_frozen_norms_leaves_norm_layers_as_they_are() -> None:
    from roadwork_adapters.selection import train_all

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
    train_all(network, norms=False)
    assert [name for name, weight in network.named_parameters() if not weight.requires_grad] == ["1.weight", "1.bias"]
    train_all(network, norms=True)
    assert all(weight.requires_grad for weight in network.parameters())


def test_bitfit_trains_every_bias_and_nothing_else() -> None:
    names = trainable(adapt(BitFit()).module)
    assert names == {name for name in stand_ins.backbone().state_dict() if name.endswith("bias")}
    norms = trainable(adapt(BitFit(train_norms=True)).module) - names
    assert norms == {name for name in stand_ins.backbone().state_dict() if "norm" in name and name.endswith("weight")}
    bare = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False))
    with pytest.raises(UsageError, match="no biases"):
        adapt(BitFit(), Wrapped(bare, [bare]))


def test_ia3_scales_keys_values_and_hidden_features_as_in_its_paper() -> None:
    """softmax(Q (l_k K)') (l_v V), and W2 (l_ff gelu(W1 x)): each factor multiplies one feature."""
    adapted = adapt(Ia3())
    assert set(adapted.targets) == {
        f"layers.{block}.{name}" for block in range(3) for name in ("attention.key", "attention.value", "mlp.fc2")
    }
    sizes = [p.numel() for p in adapted.module.parameters() if p.requires_grad]
    assert sum(sizes) == 3 * (16 + 16 + 32)
    disturb(adapted.module)
    x = np.random.default_rng(0).normal(size=(5, 16))
    key = adapted.module.get_submodule("layers.1.attention.key")
    w, bias, factor = (array(t) for t in (key.base_layer.weight, key.base_layer.bias, key.ia3_l.default))
    expected = (x @ w.T + bias) * factor.ravel()
    np.testing.assert_allclose(array(key(torch.from_numpy(x).float())), expected, atol=1e-5)
    second = adapted.module.get_submodule("layers.1.mlp.fc2")
    w, bias, factor = (array(t) for t in (second.base_layer.weight, second.base_layer.bias, second.ia3_l.default))
    hidden = np.random.default_rng(1).normal(size=(5, 32))
    expected = (hidden * factor.ravel()) @ w.T + bias
    np.testing.assert_allclose(array(second(torch.from_numpy(hidden).float())), expected, atol=1e-5)
