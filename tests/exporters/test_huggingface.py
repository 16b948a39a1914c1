"""The transformers folder: in the stock pipeline it gives the bundle's score, with the cut at one half."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roadwork_core.bundle import load
from roadwork_core.cli import main

from .bundles import SMALL_CNN, checkpoint, make_bundle, smooth_pictures

transformers = pytest.importorskip("transformers")
pytest.importorskip("roadwork_backbones")

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 28,
    "patch_size": 14,
}
FAMILIES: dict[str, tuple[Callable[[], Any], str]] = {
    "dinov2": (lambda: transformers.Dinov2Config(**TINY), "auto"),
    "dinov2 cls": (lambda: transformers.Dinov2Config(**TINY), "cls"),
    "dinov2 mean_patch": (lambda: transformers.Dinov2Config(**TINY), "mean_patch"),
    "dinov2 registers": (lambda: transformers.Dinov2WithRegistersConfig(**TINY), "auto"),
    "vit": (lambda: transformers.ViTConfig(**TINY), "auto"),
    "swin": (
        lambda: transformers.SwinConfig(
            image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
        ),
        "auto",
    ),
    "convnextv2": (
        lambda: transformers.ConvNextV2Config(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], image_size=32),
        "auto",
    ),
    "mobilenetv2": (lambda: transformers.MobileNetV2Config(image_size=32, depth_multiplier=0.35), "auto"),
    "siglip": (lambda: transformers.SiglipVisionConfig(**TINY), "mean_patch"),
}


def bundle_of(family: str, folder: Path, **changes: Any) -> Path:
    config, pooling = FAMILIES[family]
    source = checkpoint(folder / "checkpoint", config())
    backbone = {"use": "transformers", "model": str(source), "pretrained": False, "pooling": pooling}
    return make_bundle(folder, backbone=backbone, **changes)


def sigmoid(value: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-value))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stock_pipeline_gives_the_served_score(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_of(family, tmp_path, size=(40, 40))
    out = tmp_path / "out"
    assert main(["export", str(bundle), "--to", "huggingface", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parity"]["network"] < 1e-5
    predictor = load(bundle)
    pixels = smooth_pictures(8, 40, 40, seed=5)
    tensors = [predictor._decode(picture, "raise") for picture in pixels]
    logits = predictor.runtime.scorer.logits(tensors)  # type: ignore[arg-type]
    policies = predictor.bundle.policies
    cut = policies["threshold"]["state"]["threshold"]
    temperature = policies["scrc"]["state"]["calibrator"]["temperature"]
    served = sigmoid((logits[:, 1] - logits[:, 0] - cut) / temperature)
    stock = transformers.pipeline("image-classification", model=str(out), device="cpu")
    answers = stock([Image.fromarray(picture) for picture in pixels], top_k=2)
    scores = [next(one["score"] for one in row if one["label"] == "roadwork") for row in answers]
    assert np.allclose(scores, served, atol=2e-5)
    assert served.std() > 1e-3, "pictures that all score alike would prove nothing"
    decided = predictor.predict(pixels, policy="threshold")
    assert [one.label == "roadwork" for one in decided] == [score > 0.5 for score in scores]


def test_streetvisions_folder_has_its_names_its_card_and_no_code(tmp_path: Path) -> None:
    bundle, out = bundle_of("vit", tmp_path), tmp_path / "out"
    settings = [
        "labels='streetvision'",
        "submitted_by='me'",
        "version='2.0.1'",
        "submission_time='2026-01-02T03:04:05'",
    ]
    arguments = ["export", str(bundle), "--to", "huggingface", "--out", str(out)]
    assert main([*arguments, *(part for setting in settings for part in ("--set", setting))]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["id2label"] == {"0": "None", "1": "Roadwork"}
    assert config["architectures"] == ["ViTForImageClassification"]
    assert json.loads((out / "model_card.json").read_text()) == {
        "model_name": "toy",
        "description": "Red or blue.",
        "version": "2.0.1",
        "submitted_by": "me",
        "submission_time": "2026-01-02T03:04:05",
    }
    assert sorted(path.name for path in out.iterdir()) == [
        "LICENSE",
        "README.md",
        "config.json",
        "model.safetensors",
        "model_card.json",
        "preprocessor_config.json",
    ]
    assert str(tmp_path) not in "".join(path.read_text() for path in out.glob("*.json"))


def test_without_the_temperature_it_is_the_miners_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, out = bundle_of("vit", tmp_path), tmp_path / "out"
    assert main(["export", str(bundle), "--to", "huggingface", "--out", str(out), "--set", "calibrated=false"]) == 0
    assert "temperature 1" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": SMALL_CNN}, "the backbone small_cnn is not one of transformers"),
        ({"tta": {"use": "flip"}}, "takes 2 views"),
        ({"head": {"use": "linear", "norm": True}}, "the head is not one linear layer"),
        ({"head": {"use": "attention_pool"}}, "the head attention_pool pools the tokens itself"),
    ],
)
def test_what_a_stock_classifier_cannot_express_is_one_line(
    changes: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(tmp_path, **changes) if "backbone" in changes else bundle_of("vit", tmp_path, **changes)
    out = tmp_path / "out"
    assert main(["export", str(bundle), "--to", "huggingface", "--out", str(out)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not out.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


def test_another_pooling_than_the_classifiers_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = checkpoint(tmp_path / "checkpoint", transformers.SiglipVisionConfig(**TINY))
    backbone = {"use": "transformers", "model": str(source), "pretrained": False, "pooling": "pooler"}
    bundle = make_bundle(tmp_path, backbone=backbone)
    assert main(["export", str(bundle), "--to", "huggingface", "--out", str(tmp_path / "out")]) == 2
    assert "pools its tokens in another way" in capsys.readouterr().err
