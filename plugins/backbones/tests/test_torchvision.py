"""Networks of torchvision, from files and without a network connection, and the small network from scratch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from roadwork_backbones import SmallCnn, Torchvision
from torch import Tensor

from roadwork_core.errors import RoadworkError, UsageError
from roadwork_core.kinds import BackboneContext


def build(component: Any, architecture: Any = None) -> Any:
    return component.build(BackboneContext(architecture=architecture)).eval()


def images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 512), ("mobilenet_v3_small", 1024), ("efficientnet_b0", 1280), ("swin_t", 768)]
)
@torch.no_grad()
def test_a_torchvision_file_is_read_without_its_classifier(name: str, width: int, tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from torchvision import models

    torch.manual_seed(0)
    whole = models.get_model(name, weights=None).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    backbone = build(Torchvision(name=name, weights=str(tmp_path / "w.safetensors"), image_size=64))
    assert backbone.feature_dim == width
    last = [module for module in whole.modules() if isinstance(module, torch.nn.Linear)][-1]
    torch.testing.assert_close(last(backbone(images(64, 64))), whole(images(64, 64)), rtol=1e-4, atol=1e-5)
    document = json.loads(json.dumps(backbone.architecture))
    again = build(Torchvision(name=name), document)
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(again(images(96, 64)), backbone(images(96, 64)))


@torch.no_grad()
def test_torchvisions_vit_takes_other_sizes() -> None:
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    torch.manual_seed(0)
    backbone = build(Torchvision(name="vit_b_32", weights="none", image_size=96))
    larger = VisionTransformer(128, 32, 12, 12, 768, 3072, num_classes=1).eval()
    larger.heads = torch.nn.Identity()
    larger.load_state_dict(interpolate_embeddings(128, 32, dict(backbone.model.state_dict())))
    torch.testing.assert_close(backbone(images(128, 128)), larger(images(128, 128)), rtol=1e-4, atol=1e-4)


def test_a_network_of_published_weights_is_rebuilt_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in a bundle is data: neither torchvision's file nor a network is touched when it is opened."""
    from torchvision import models

    torch.manual_seed(0)
    whole = models.resnet18(weights=None)

    def published(*_: Any, **given: Any) -> dict[str, Tensor]:
        assert given["weights_only"] is True
        return dict(whole.state_dict())

    with monkeypatch.context() as patch:
        patch.setattr("torchvision.models._api.load_state_dict_from_url", published)
        patch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
        backbone = build(Torchvision(name="resnet18"))
    assert torch.equal(backbone.model.conv1.weight, whole.conv1.weight)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a bundle needs nothing but itself")

    for name in (
        "torch.load",
        "torch.hub.load_state_dict_from_url",
        "torchvision.models._api.load_state_dict_from_url",
    ):
        monkeypatch.setattr(name, refuse)
    again = build(Torchvision(name="resnet18"), json.loads(json.dumps(backbone.architecture)))
    again.load_state_dict(backbone.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(again(images(64, 64)), backbone(images(64, 64)))


def test_a_file_in_torchs_cache_that_is_not_the_published_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import models

    name = models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).write_bytes(b"something else")
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(RoadworkError, match=r"its sha256 does not begin with [0-9a-f]{8} .delete it"):
        build(Torchvision(name="resnet18"))


def test_torchvision_names_and_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean resnet18"):
        build(Torchvision(name="resnet_18", weights="none"))
    with pytest.raises(UsageError, match="auxiliary outputs"):
        build(Torchvision(name="googlenet", weights="none"))
    with pytest.raises(UsageError, match="pickled checkpoints are not read"):
        build(Torchvision(name="resnet18", weights="model.pth"))
    with pytest.raises(RoadworkError, match="cannot read the weights"):
        build(Torchvision(name="resnet18", weights=str(tmp_path / "absent.safetensors")))


@torch.no_grad()
def test_small_cnn_is_small_and_sees_the_whole_picture() -> None:
    torch.manual_seed(0)
    backbone = build(SmallCnn())
    assert 100_000 <= sum(parameter.numel() for parameter in backbone.parameters()) <= 400_000
    picture = images(96, 96)[:1]
    before = backbone(picture)
    for row, column in ((0, 0), (0, 95), (95, 0), (95, 95), (48, 48)):
        changed = picture.clone()
        changed[..., row, column] += 50
        assert not np.allclose(backbone(changed), before)


def test_weights_that_cannot_be_downloaded_name_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    with pytest.raises(RoadworkError, match="Network is unreachable") as caught:
        Torchvision(name="resnet18").build(BackboneContext())
    for way in (".safetensors", '"none"', "small_cnn"):
        assert way in str(caught.value.hint)
