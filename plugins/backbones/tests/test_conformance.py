"""The backbones keep what their kind promises, each made without a network."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from roadwork_core.testing import BackboneContract

FOLDER = tempfile.TemporaryDirectory()


class TestSmallCnn(BackboneContract):
    component = "backbones/small_cnn"
    options: ClassVar = {"width": 4, "stages": 2, "depth": 1, "image_size": 32}
    variants = ({"norm": "group"},)


class TestTorchvision(BackboneContract):
    component = "backbones/torchvision"
    options: ClassVar = {"name": "mobilenet_v3_small", "weights": "none", "image_size": 32}


class TestTransformers(BackboneContract):
    component = "backbones/transformers"
    variants = (
        {"pooling": "mean_patch", "attention": "eager", "last_layers": 2},
        {"image_size": 64, "gradient_checkpointing": True},
    )

    def base_options(self) -> Mapping[str, Any]:
        from transformers import Dinov2Config, Dinov2Model

        config = Dinov2Config(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, mlp_ratio=2
        )
        Dinov2Model(config).save_pretrained(FOLDER.name)
        return {"model": FOLDER.name}


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed (roadwork-backbones[timm])")
class TestTimm(BackboneContract):
    component = "backbones/timm"
    options: ClassVar = {"name": "vit_tiny_patch16_224", "weights": "none", "image_size": 32}
    variants = ({"name": "mobilenetv3_small_050"},)
