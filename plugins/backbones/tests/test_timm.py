"""timm's networks give the features that timm gives, from local files and without the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from roadwork_backbones import Timm
from torch import Tensor

from roadwork_core.errors import RoadworkError, UsageError
from roadwork_core.kinds import BackboneContext

timm = pytest.importorskip("timm", reason="timm is not installed")

#: Features and size multiple of each family.
FAMILIES = {
    "vit_tiny_patch16_224": (192, 16),
    "eva02_tiny_patch14_224": (192, 14),
    "resnet18": (512, 1),
    "mobilenetv3_small_050": (1024, 1),
    "convnext_atto": (320, 1),
    "swin_tiny_patch4_window7_224": (768, 32),
}


def build(component: Any, architecture: Any = None) -> Any:
    return component.build(BackboneContext(architecture=architecture)).eval()


def images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", list(FAMILIES))
@torch.no_grad()
def test_a_local_file_gives_the_features_that_timm_gives(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    width, multiple = FAMILIES[name]
    torch.manual_seed(0)
    whole = timm.create_model(name, pretrained=False).eval()
    save_file({key: value.contiguous() for key, value in whole.state_dict().items()}, tmp_path / "w.safetensors")
    backbone = build(Timm(name=name, weights=str(tmp_path / "w.safetensors")))
    assert (backbone.feature_dim, backbone.preprocessing.size_multiple) == (width, multiple)
    pictures = images(*backbone.preprocessing.size)
    expected = whole.forward_head(whole.forward_features(pictures), pre_logits=True)
    torch.testing.assert_close(backbone(pictures), expected.flatten(1), rtol=1e-4, atol=1e-4)
    again = build(Timm(name="nowhere"), json.loads(json.dumps(backbone.architecture)))
    again.load_state_dict(backbone.state_dict(), strict=True)
    assert torch.equal(again(pictures), backbone(pictures))


@torch.no_grad()
def test_positions_are_interpolated_to_another_size(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    whole = timm.create_model("vit_tiny_patch16_224", pretrained=False, dynamic_img_size=True, num_classes=0).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    backbone = build(Timm(name="vit_tiny_patch16_224", weights=str(tmp_path / "w.safetensors"), image_size=96))
    assert backbone.preprocessing.size == (96, 96)
    torch.testing.assert_close(backbone(images(96, 96)), whole(images(96, 96)), rtol=1e-3, atol=1e-3)
    assert backbone(images(128, 64)).shape == (2, 192)


def test_size_and_statistics_are_timms() -> None:
    found = build(Timm(name="vit_tiny_patch16_224", weights="none")).preprocessing
    values = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg("vit_tiny_patch16_224").to_dict())
    assert (3, *found.size) == tuple(values["input_size"])
    assert (found.mean, found.std, found.interpolation) == (values["mean"], values["std"], values["interpolation"])


@torch.no_grad()
def test_a_folder_as_the_hub_has_it_is_read_without_the_hub(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    whole = timm.create_model("resnet18", pretrained=False, num_classes=7).eval()
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    settings = {"input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "classifier": "fc"}
    document = {"architecture": "resnet18", "num_classes": 7, "pretrained_cfg": settings}
    (tmp_path / "config.json").write_text(json.dumps(document))
    component = Timm(name=str(tmp_path))
    assert {stamp[0] for stamp in component.fingerprint()} == {"config.json", "model.safetensors"}
    backbone = build(component)
    assert backbone.preprocessing.mean == (0.1, 0.2, 0.3)
    torch.testing.assert_close(whole.fc(backbone(images(64, 64))), whole(images(64, 64)))
    assert str(tmp_path) not in json.dumps(backbone.architecture)


def test_what_cannot_be_had_is_one_line_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RoadworkError, match=r"hf download timm/resnet18\S+ model.safetensors --revision v1") as raised:
        build(Timm(name="resnet18.a1_in1k", revision="v1"))
    assert "\n" not in str(raised.value)
    with pytest.raises(RoadworkError, match=r"hf download acme/none config\.json"):
        build(Timm(name="hf-hub:acme/none"))
    with pytest.raises(UsageError, match="did you mean resnet18"):
        build(Timm(name="resnet_18", weights="none"))
    with pytest.raises(UsageError, match=r"timm has no weights .resnet18.nothing. .it has resnet18"):
        build(Timm(name="resnet18.nothing", weights="none"))
    with pytest.raises(UsageError, match="pickled checkpoints are not read"):
        build(Timm(name="resnet18", weights="resnet18.pth"))
    with pytest.raises(UsageError, match=r"image_size 100 is not a multiple of the model's 16 .take 96 or 112"):
        build(Timm(name="vit_tiny_patch16_224", weights="none", image_size=100))
    with pytest.raises(RoadworkError, match="cannot read the weights"):
        build(Timm(name="resnet18", weights=str(tmp_path / "absent.safetensors")))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(timm.create_model("resnet34", pretrained=False).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(RoadworkError, match=r"the weights are not those of resnet18: unexpected layer1\.2"):
        build(Timm(name="resnet18", weights=str(tmp_path / "w.safetensors")))
