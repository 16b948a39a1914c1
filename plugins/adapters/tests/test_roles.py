"""Roles are resolved to the right names in every family that the backbones supply, and every adapter merges there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from packaging.version import Version
from roadwork_adapters import BitFit, Dora, Doran, DoraTau, Ia3, Lora
from roadwork_adapters.targets import target_names
from torch import Tensor, nn

from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.errors import UsageError
from roadwork_core.kinds import AdapterContext, BackboneContext

transformers = pytest.importorskip("transformers")
torchvision = pytest.importorskip("torchvision")
backbones = pytest.importorskip("roadwork_backbones", reason="the families are those of the backbones plugin")

VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONVNEXT = {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}

CONFIGS: Mapping[str, Callable[[], Any]] = {
    "dinov2": lambda: transformers.Dinov2Config(**VIT, image_size=32, patch_size=8),
    "dinov2_with_registers": lambda: transformers.Dinov2WithRegistersConfig(**VIT, image_size=32, patch_size=8),
    "dinov3_vit": lambda: transformers.DINOv3ViTConfig(**VIT, image_size=32, patch_size=8),
    "dinov3_convnext": lambda: transformers.DINOv3ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 2, 1]),
    "siglip2": lambda: transformers.Siglip2VisionConfig(**VIT, patch_size=8, num_patches=16),
    "vit": lambda: transformers.ViTConfig(**VIT, image_size=32, patch_size=8),
    "convnextv2": lambda: transformers.ConvNextV2Config(**CONVNEXT, image_size=32),
    "swin": lambda: transformers.SwinConfig(**SWIN),
    "mobilenet_v2": lambda: transformers.MobileNetV2Config(depth_multiplier=0.35, image_size=32),
}
ATTENTION = ["attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj"]
#: DINOv2's projections by the names that transformers had for them before 5.18.
DINOV2 = (
    ATTENTION
    if Version(transformers.__version__) >= Version("5.18")
    else [*(f"attention.attention.{name}" for name in ("query", "key", "value")), "attention.output.dense"]
)
SIGLIP = ["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj"]
FEED_FORWARD = ["mlp.fc1", "mlp.fc2"]


def each(prefix: str, numbers: range, names: list[str]) -> list[str]:
    return [f"model.{prefix}.{number}.{name}" for number in numbers for name in names]


SWIN_BLOCKS = [f"model.encoder.layers.{stage}.blocks.0" for stage in range(2)]
POINTWISE = ["pointwise_conv1", "pointwise_conv2"]
DINOV3_STAGES = [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0)]
#: What `attention`, `mlp` and `conv` stand for; a family without one of them must refuse it.
TRANSFORMERS: Mapping[str, Mapping[str, list[str]]] = {
    "dinov2": {
        "attention": each("encoder.layer", range(2), DINOV2),
        "mlp": each("encoder.layer", range(2), FEED_FORWARD),
    },
    "dinov2_with_registers": {
        "attention": each("encoder.layer", range(2), DINOV2),
        "mlp": each("encoder.layer", range(2), FEED_FORWARD),
    },
    "dinov3_vit": {
        "attention": each("model.layer", range(2), ATTENTION),
        "mlp": each("model.layer", range(2), ["mlp.up_proj", "mlp.down_proj"]),
    },
    "dinov3_convnext": {
        "mlp": [f"model.model.stages.{s}.layers.{n}.{name}" for s, n in DINOV3_STAGES for name in POINTWISE],
        "conv": ["model.model.stages.0.downsample_layers.0"]
        + [f"model.model.stages.{stage}.downsample_layers.1" for stage in (1, 2, 3)],
    },
    "siglip2": {
        "attention": each("encoder.layers", range(2), SIGLIP),
        "mlp": each("encoder.layers", range(2), FEED_FORWARD),
    },
    "vit": {
        "attention": each("layers", range(2), ATTENTION),
        "mlp": each("layers", range(2), FEED_FORWARD),
    },
    "convnextv2": {
        "mlp": [
            f"model.encoder.stages.{stage}.layers.{layer}.{name}"
            for stage, layer in ((0, 0), (1, 0), (1, 1))
            for name in ("pwconv1", "pwconv2")
        ],
        "conv": ["model.encoder.stages.1.downsampling_layer.1"],
    },
    "swin": {
        "attention": [f"{block}.{name}" for block in SWIN_BLOCKS for name in ATTENTION],
        "mlp": [f"{block}.{name}" for block in SWIN_BLOCKS for name in FEED_FORWARD],
    },
    "mobilenet_v2": {
        "conv": each("layer", range(16), ["expand_1x1.convolution", "reduce_1x1.convolution"]),
    },
}
#: The first and the last name, and how many there are, of networks that come in one size only.
TORCHVISION: Mapping[str, Mapping[str, tuple[str, str, int]]] = {
    "resnet18": {"conv": ("model.layer1.0.conv1", "model.layer4.1.conv2", 19)},
    "mobilenet_v2": {"conv": ("model.features.0.0", "model.features.18.0", 35)},
    "mobilenet_v3_small": {"conv": ("model.features.0.0", "model.features.12.0", 41)},
    "efficientnet_b0": {"conv": ("model.features.0.0", "model.features.8.0", 65)},
    "swin_t": {
        "mlp": ("model.features.1.0.mlp.0", "model.features.7.1.mlp.3", 24),
        "conv": ("model.features.0.0", "model.features.0.0", 1),
    },
    "vit_b_32": {
        "mlp": (
            "model.encoder.layers.encoder_layer_0.mlp.0",
            "model.encoder.layers.encoder_layer_11.mlp.3",
            24,
        )
    },
}


def of_transformers(family: str) -> Any:
    from roadwork_backbones.transformers_backbone import TransformersBackbone

    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(CONFIGS[family]())
    preprocessing = Preprocessing(size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1), size_multiple=8)
    return TransformersBackbone(model, preprocessing, "auto").eval()


class OfTorchvision(nn.Module):
    """A small network of torchvision in a backbone's clothes."""

    def __init__(self, model: nn.Module, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.model = model
        self._blocks = blocks
        self.preprocessing = Preprocessing(size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.model(images)
        return answer

    def blocks(self) -> list[nn.Module]:
        return self._blocks


def small_resnet() -> OfTorchvision:
    torch.manual_seed(0)
    model: Any = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    return OfTorchvision(model, [model.layer1, model.layer2, model.layer3, model.layer4]).eval()


def small_vit() -> OfTorchvision:
    torch.manual_seed(0)
    model: Any = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32)
    return OfTorchvision(model, list(model.encoder.layers)).eval()


def small_swin() -> OfTorchvision:
    torch.manual_seed(0)
    model: Any = torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [1, 2], [2, 2], num_classes=4)
    return OfTorchvision(model, list(model.features)).eval()


SMALL: Mapping[str, Callable[[], Any]] = {
    **{family: functools.partial(of_transformers, family) for family in CONFIGS},
    "torchvision_resnet": small_resnet,
    "torchvision_vit": small_vit,
    "torchvision_swin": small_swin,
}


@pytest.mark.parametrize("family", list(TRANSFORMERS))
def test_a_role_stands_for_these_layers(family: str) -> None:
    backbone, expected = of_transformers(family), TRANSFORMERS[family]
    for role in ("attention", "mlp", "conv"):
        if role in expected:
            assert sorted(target_names(backbone, [role])) == sorted(expected[role]), role
        else:
            with pytest.raises(UsageError, match=r"it has: .*\(\d+\)"):
                target_names(backbone, [role])
    linear = [name for role in ("attention", "mlp") for name in expected.get(role, [])]
    if linear:
        assert sorted(target_names(backbone, ["all_linear"])) == sorted(linear)
    first = next(expected[role] for role in ("attention", "mlp", "conv") if role in expected)
    assert sorted(target_names(backbone, None)) == sorted(first)


@pytest.mark.parametrize("family", [family for family, roles in TRANSFORMERS.items() if "attention" in roles])
def test_each_projection_is_told_from_the_others(family: str) -> None:
    backbone = of_transformers(family)
    both = target_names(backbone, ["query_value"])
    assert set(both) <= set(TRANSFORMERS[family]["attention"])
    assert {name.rpartition(".")[2] for name in both} in ({"q_proj", "v_proj"}, {"query", "value"})
    assert {name.rpartition(".")[2] for name in target_names(backbone, ["key"])} in ({"k_proj"}, {"key"})
    assert {name.rpartition(".")[2] for name in target_names(backbone, ["output"])} <= {"o_proj", "out_proj", "dense"}
    assert len(both) == 4


@pytest.mark.parametrize("name", list(TORCHVISION))
def test_a_role_stands_for_these_layers_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        size = 64 if "vit" in name or "swin" in name else 32
        backbone = backbones.Torchvision(name=name, weights="none", image_size=size).build(BackboneContext())
    for role, (first, last, number) in TORCHVISION[name].items():
        found = target_names(backbone, [role])
        assert (found[0], found[-1], len(found)) == (first, last, number)


@pytest.mark.parametrize("family", ["torchvision_vit", "torchvision_swin"])
@pytest.mark.parametrize("component", [Lora, Doran])
def test_fused_attention_is_refused_with_what_there_is(family: str, component: Any) -> None:
    """Its weights are used without a call: an update beside them would train and change nothing."""
    context = AdapterContext(backbone=SMALL[family](), seed=0)
    with pytest.raises(UsageError, match=r"are not called by this network.*fused.*it has: mlp \("):
        component(targets=("query_value",)).build(context)
    assert all("mlp" in name for name in component().build(context).targets)


def test_a_transposed_convolution_has_no_role() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, dilation=2))
    assert target_names(OfTorchvision(model, [model]), ["conv"]) == ["model.1"]
    only = nn.Sequential(nn.ConvTranspose2d(3, 4, 2))
    with pytest.raises(UsageError, match="it has none to adapt"):
        target_names(OfTorchvision(only, [only]), ["conv"])


def disturb(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def awake(backbone: Any) -> Any:
    """Layers that begin at nearly zero, such as layer scale, at a size that lets through what is before them."""
    generator = torch.Generator().manual_seed(2)
    for parameter in backbone.parameters():
        if parameter.numel() and float(parameter.detach().abs().max()) < 1e-3:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return backbone


ADAPTERS: list[Any] = [Lora(rank=2), Dora(rank=2), DoraTau(rank=2), Doran(rank=2), Ia3(), BitFit()]


@pytest.mark.parametrize("family", list(SMALL))
@pytest.mark.parametrize("component", ADAPTERS, ids=lambda component: type(component).__name__)
def test_it_starts_from_the_backbone_and_merges_to_what_it_was(family: str, component: Any) -> None:
    backbone = awake(SMALL[family]())
    keys, images = list(backbone.state_dict()), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        base = backbone(images)
        adapted = component.build(AdapterContext(backbone=backbone, seed=0))
        torch.testing.assert_close(adapted.module.eval()(images), base, atol=1e-5, rtol=0)
        disturb(adapted.module)
        trained = adapted.module(images)
        # Well above what the merged one may differ by.
        assert (trained - base).abs().max() > 1e-4
        merged = adapted.merge()
        torch.testing.assert_close(merged(images), trained, atol=1e-5, rtol=0)
    assert list(merged.state_dict()) == keys
