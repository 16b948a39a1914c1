"""Tokens are what a network pools: where it takes their mean, the mean of its tokens is its features."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from roadwork_backbones import SmallCnn, Timm, Torchvision, Transformers
from torch import Tensor

from roadwork_core.kinds import BackboneContext

VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
CONVNEXT = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1]}
SWIN = {"image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4}


def images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def build(component: Any) -> Any:
    torch.manual_seed(0)
    return component.build(BackboneContext()).eval()


def of_transformers(folder: Path, config: Any, **options: Any) -> Any:
    config.save_pretrained(folder)
    return build(Transformers(model=str(folder), pretrained=False, **options))


#: Each encoder with the tokens before its patches and the side of a patch.
VITS: dict[str, tuple[Any, int, int]] = {
    "dinov2": (transformers.Dinov2Config(**VIT, image_size=56, patch_size=14), 1, 14),
    "dinov2_with_registers": (
        transformers.Dinov2WithRegistersConfig(**VIT, image_size=56, patch_size=14, num_register_tokens=4),
        *(5, 14),
    ),
    "dinov3_vit": (transformers.DINOv3ViTConfig(**VIT, image_size=64, patch_size=16, num_register_tokens=4), 5, 16),
    "siglip": (transformers.SiglipVisionConfig(**VIT, patch_size=16, image_size=64), 0, 16),
    "siglip2": (transformers.Siglip2VisionConfig(**VIT, patch_size=16, num_patches=16), 0, 16),
    "vit": (transformers.ViTConfig(**VIT, patch_size=16, image_size=64), 1, 16),
    "vit_mae": (transformers.ViTMAEConfig(**VIT, patch_size=16, image_size=64), 1, 16),
}


@pytest.mark.parametrize("family", list(VITS))
@torch.no_grad()
def test_the_tokens_of_a_vit_are_its_patches(family: str, tmp_path: Path) -> None:
    """As many as there are patches, at two sizes, and those that follow the class token and the registers."""
    config, before, side = VITS[family]
    backbone = of_transformers(tmp_path, config)
    for rows, columns in ((4, 4), (4, 5)):
        pictures = images(rows * side, columns * side)
        tokens = backbone.tokens(pictures)
        assert tokens.shape == (2, rows * columns, 16) == (2, rows * columns, backbone.token_dim)
        whole = backbone._encode(pictures).last_hidden_state
        assert whole.shape[1] == before + rows * columns
        assert torch.equal(tokens, whole[:, before:])


@torch.no_grad()
def test_the_tokens_of_several_layers_lie_side_by_side(tmp_path: Path) -> None:
    config = VITS["vit"][0]
    backbone = of_transformers(tmp_path, config, last_layers=2, pooling="mean_patch")
    pictures = images(64, 64)
    tokens = backbone.tokens(pictures)
    assert tokens.shape == (2, 16, 32) == (2, 16, backbone.token_dim)
    torch.testing.assert_close(tokens.mean(dim=1), backbone(pictures))
    assert torch.equal(tokens[:, :, 16:], backbone._encode(pictures).last_hidden_state[:, 1:])


#: Networks whose features are the mean over places: of the last feature map, or as the name says.
MEANS: dict[str, Any] = {
    "convnextv2": (transformers.ConvNextV2Config(**CONVNEXT, image_size=64), "mean_patch"),
    "dinov3_convnext": (transformers.DINOv3ConvNextConfig(**CONVNEXT, image_size=64), "mean_patch"),
    "swin": (transformers.SwinConfig(**SWIN), "auto"),
    "mobilenet_v2": (transformers.MobileNetV2Config(depth_multiplier=0.35, image_size=64), "auto"),
    "resnet": (
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
        "auto",
    ),
}


@pytest.mark.parametrize("family", list(MEANS))
@torch.no_grad()
def test_the_mean_of_a_transformers_feature_map_is_its_features(family: str, tmp_path: Path) -> None:
    config, pooling = MEANS[family]
    _agrees(of_transformers(tmp_path, config, pooling=pooling))


#: One of each family; of those that have more layers after their pooling, only the shape can be told.
TORCHVISION = {
    "resnet18": True,
    "shufflenet_v2_x0_5": True,
    "regnet_y_400mf": True,
    "mnasnet0_5": True,
    "swin_t": True,
    "densenet121": True,
    "mobilenet_v3_small": False,
}


@pytest.mark.parametrize("name", list(TORCHVISION))
@torch.no_grad()
def test_the_mean_of_a_torchvision_feature_map_is_its_features(name: str) -> None:
    backbone = build(Torchvision(name=name, weights="none", image_size=64))
    if TORCHVISION[name]:
        _agrees(backbone)
        return
    # The layers between the pooling and the last linear layer.
    tokens = backbone.tokens(images(64, 64))
    rest: Any = backbone.model.classifier
    torch.testing.assert_close(rest(tokens.mean(dim=1)), backbone(images(64, 64)), rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_a_torchvision_vit_keeps_its_class_token_to_itself() -> None:
    backbone = build(Torchvision(name="vit_b_32", weights="none", image_size=64))
    given: list[Tensor] = []
    backbone.model.encoder.ln.register_forward_hook(lambda _, __, out: given.append(out))
    assert torch.equal(backbone.tokens(images(64, 96)), given[0][:, 1:])
    assert given[0].shape == (2, 1 + 6, backbone.token_dim)


@pytest.mark.parametrize("norm", ["batch", "group"])
@torch.no_grad()
def test_the_mean_of_small_cnn_is_its_features(norm: Any) -> None:
    _agrees(build(SmallCnn(width=4, stages=2, image_size=32, norm=norm)))


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed (roadwork-backbones[timm])")
@pytest.mark.parametrize("name", ["resnet10t", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
@torch.no_grad()
def test_the_tokens_of_timm(name: str) -> None:
    backbone = build(Timm(name=name, weights="none", image_size=224 if name.startswith("swin") else 64))
    if not name.startswith("vit"):
        _agrees(backbone)
        return
    pictures = images(64, 64)
    assert torch.equal(backbone.tokens(pictures), backbone.model.forward_features(pictures)[:, 1:])
    assert backbone.tokens(pictures).shape == (2, 16, backbone.token_dim)


def _agrees(backbone: Any) -> None:
    pictures = images(*backbone.preprocessing.size)
    tokens = backbone.tokens(pictures)
    assert tokens.shape[0] == 2
    assert tokens.shape[1] > 1
    assert tokens.shape[2] == backbone.token_dim
    torch.testing.assert_close(tokens.mean(dim=1), backbone(pictures), rtol=1e-4, atol=1e-5)
