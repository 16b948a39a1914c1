"""The bundles that are measured: the quickstart's network and MobileNetV2, with random weights and fitted policies."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.exporters.bundles import checkpoint, make_bundle

NAMES = ("quickstart", "mobilenet_v2")


def made(name: str, folder: Path) -> Path:
    """The bundle of a name, below `folder`, with its network in ONNX; weights are random: no speed depends on them."""
    if name == "quickstart":
        return make_bundle(
            folder / name, backbone={"use": "small_cnn", "image_size": 64}, active="threshold", onnx=True
        )
    from transformers import MobileNetV2Config

    path = checkpoint(folder / "checkpoint", MobileNetV2Config(image_size=224))
    backbone = {"use": "transformers", "model": str(path), "pretrained": False}
    return make_bundle(folder / name, backbone=backbone, size=(224, 224), active="threshold", onnx=True)


def jpegs(count: int, size: tuple[int, int] = (224, 224)) -> Sequence[bytes]:
    """JPEGs of smooth noise, quality 75."""
    draws = np.random.default_rng(0)
    found = []
    for _ in range(count):
        small = Image.fromarray(draws.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8))
        stream = io.BytesIO()
        small.resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=75)
        found.append(stream.getvalue())
    return found
