"""Every family answers at several sizes, is rebuilt offline, and reads its checkpoint as transformers does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from roadwork_backbones import Torchvision, Transformers
from roadwork_backbones.transformers_backbone import _patches
from torch import Tensor

from roadwork_core.errors import RoadworkError, UsageError
from roadwork_core.kinds import BackboneContext

MOBILENET = Path(__file__).parents[4] / "shared" / "data" / "backbone" / "mobilenet_v2_1.0_224"
VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
CONVNEXT = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1]}
SWIN = {"image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4}

#: Configuration, features, size multiple, blocks, pooling that `auto` takes.
FAMILIES: dict[str, tuple[Any, int, int, int, str]] = {
    "dinov2": (transformers.Dinov2Config(**VIT, image_size=56, patch_size=14), 32, 14, 3, "cls_mean"),
    "dinov2_with_registers": (
        transformers.Dinov2WithRegistersConfig(**VIT, image_size=56, patch_size=14, num_register_tokens=4),
        *(32, 14, 3, "cls_mean"),
    ),
    "dinov3_vit": (transformers.DINOv3ViTConfig(**VIT, image_size=64, patch_size=16), 16, 16, 3, "pooler"),
    "dinov3_convnext": (transformers.DINOv3ConvNextConfig(**CONVNEXT, image_size=64), 16, 32, 4, "pooler"),
    "siglip2": (transformers.Siglip2VisionConfig(**VIT, patch_size=16, num_patches=16), 16, 16, 3, "pooler"),
    "siglip": (transformers.SiglipVisionConfig(**VIT, patch_size=16, image_size=64), 16, 16, 3, "pooler"),
    "clip": (transformers.CLIPVisionConfig(**VIT, patch_size=16, image_size=64), 16, 16, 3, "pooler"),
    "vit": (transformers.ViTConfig(**VIT, patch_size=16, image_size=64), 16, 16, 3, "cls"),
    "convnextv2": (transformers.ConvNextV2Config(**CONVNEXT, image_size=64), 16, 32, 4, "pooler"),
    "swin": (transformers.SwinConfig(**SWIN), 16, 8, 2, "pooler"),
    "mobilenet_v2": (transformers.MobileNetV2Config(depth_multiplier=0.35, image_size=64), 1280, 1, 16, "pooler"),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of random weights for each family, as transformers writes it."""
    folders = {}
    for name, (config, *_) in FAMILIES.items():
        torch.manual_seed(0)
        folders[name] = tmp_path_factory.mktemp(name)
        transformers.AutoModel.from_config(config).save_pretrained(folders[name])
    return folders


def build(component: Any, architecture: Any = None) -> Any:
    return component.build(BackboneContext(architecture=architecture)).eval()


def images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", list(FAMILIES))
@torch.no_grad()
def test_a_family_answers_at_several_sizes_and_is_rebuilt_offline(family: str, checkpoints: dict[str, Path]) -> None:
    _, width, multiple, blocks, pooling = FAMILIES[family]
    backbone = build(Transformers(model=str(checkpoints[family])))
    facts = (backbone.feature_dim, backbone.preprocessing.size_multiple, len(backbone.blocks()), backbone.pooling)
    assert facts == (width, multiple, blocks, pooling)
    document = json.loads(json.dumps(backbone.architecture))
    assert str(checkpoints[family]) not in json.dumps(document)
    again = build(Transformers(model="nowhere/at-all"), document)
    again.load_state_dict(backbone.state_dict(), strict=True)
    step = max(multiple, 32)
    for size in ((step * 2, step * 2), (step * 3, step * 2), backbone.preprocessing.size):
        size = tuple(side // multiple * multiple for side in size)
        features = backbone(images(*size))
        assert features.shape == (2, width)
        assert torch.isfinite(features).all()
        assert torch.equal(again(images(*size)), features)


@pytest.mark.parametrize("family", ["dinov2", "dinov2_with_registers", "vit", "dinov3_vit"])
@torch.no_grad()
def test_pooling_is_of_the_tokens_that_it_names(family: str, checkpoints: dict[str, Path]) -> None:
    folder = str(checkpoints[family])
    pictures = images(*build(Transformers(model=folder)).preprocessing.size)
    raw = transformers.AutoModel.from_pretrained(folder).eval()(pixel_values=pictures).last_hidden_state
    patches = (pictures.shape[-1] // build(Transformers(model=folder)).preprocessing.size_multiple) ** 2
    cls, mean = raw[:, 0], raw[:, -patches:].mean(dim=1)
    expectations: tuple[tuple[Any, Tensor], ...] = (
        ("cls", cls),
        ("mean_patch", mean),
        ("cls_mean", torch.cat([cls, mean], dim=1)),
    )
    for pooling, expected in expectations:
        features = build(Transformers(model=folder, pooling=pooling))(pictures)
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


#: Each family's features of a plain call of its own model, as its paper or model card takes them.
DIRECT: dict[str, Callable[[Any], Tensor]] = {
    "dinov2": lambda out: torch.cat([out.last_hidden_state[:, 0], out.last_hidden_state[:, 1:].mean(1)], 1),
    "dinov2_with_registers": lambda out: torch.cat(
        [out.last_hidden_state[:, 0], out.last_hidden_state[:, 5:].mean(1)], 1
    ),
    "dinov3_vit": lambda out: out.last_hidden_state[:, 0],
    "dinov3_convnext": lambda out: out.pooler_output,
    "siglip2": lambda out: out.pooler_output,
    "siglip": lambda out: out.pooler_output,
    "clip": lambda out: out.pooler_output,
    "vit": lambda out: out.last_hidden_state[:, 0],
    "convnextv2": lambda out: out.pooler_output,
    "swin": lambda out: out.last_hidden_state.mean(1),
    "mobilenet_v2": lambda out: out.last_hidden_state.mean((2, 3)),
}


def direct(folder: Path, pictures: Tensor, **options: Any) -> Any:
    """What the family's own class answers, which knows nothing of this package."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    if model.config.model_type != "siglip2_vision_model":
        return model(pixel_values=pictures, **options)
    processor = transformers.Siglip2ImageProcessorFast(patch_size=16, do_resize=False)
    prepared = processor([(picture * 0.5 + 0.5) for picture in pictures], return_tensors="pt", do_rescale=False)
    return model(**prepared, **options)


@pytest.mark.parametrize("family", list(FAMILIES))
@torch.no_grad()
def test_the_features_are_those_of_a_direct_call(family: str, checkpoints: dict[str, Path]) -> None:
    backbone = build(Transformers(model=str(checkpoints[family])))
    pictures = images(*backbone.preprocessing.size).clamp(-1, 1)
    expected = DIRECT[family](direct(checkpoints[family], pictures))
    torch.testing.assert_close(backbone(pictures), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["dinov2", "dinov2_with_registers", "dinov3_vit", "siglip2", "vit", "clip"])
@torch.no_grad()
def test_last_layers_are_normed_pooled_and_concatenated(family: str, checkpoints: dict[str, Path]) -> None:
    pooling: Any = "mean_patch" if family == "siglip2" else "cls"
    component = Transformers(model=str(checkpoints[family]), last_layers=2, pooling=pooling)
    backbone = build(component)
    pictures = images(*backbone.preprocessing.size).clamp(-1, 1)
    model = transformers.AutoModel.from_pretrained(checkpoints[family]).eval()
    blocks = max(
        (m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=lambda m: len(list(m.parameters()))
    )
    given: list[Tensor] = []
    for block in blocks[-2:]:
        block.register_forward_hook(lambda _, __, out: given.append(out[0] if isinstance(out, tuple) else out))
    if family == "siglip2":
        model(**_patches(pictures, 16))
    else:
        model(pixel_values=pictures)
    # CLIP's encoder answers without its last norm, which is of the pooler.
    norms = [
        m for name, m in model.named_children() if name in ("layernorm", "norm", "post_layernorm") and family != "clip"
    ]
    normed = [norms[0](tokens) if norms else tokens for tokens in given]
    expected = torch.cat([tokens.mean(1) if pooling == "mean_patch" else tokens[:, 0] for tokens in normed], 1)
    torch.testing.assert_close(backbone(pictures), expected, rtol=1e-4, atol=1e-5)
    again = build(Transformers(model="nowhere/at-all"), json.loads(json.dumps(backbone.architecture)))
    again.load_state_dict(backbone.state_dict(), strict=True)
    assert torch.equal(again(pictures), backbone(pictures))


def test_last_layers_that_cannot_be_are_refused(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="last_layers = 2 cannot be, convnextv2's layers differ in shape"):
        build(Transformers(model=str(checkpoints["convnextv2"]), last_layers=2))
    with pytest.raises(UsageError, match="last_layers = 4, but the model has 3 layers"):
        build(Transformers(model=str(checkpoints["vit"]), last_layers=4))
    with pytest.raises(UsageError, match='pooling "pooler" cannot be, siglip_vision_model has no pooler of earlier'):
        build(Transformers(model=str(checkpoints["siglip"]), last_layers=2, pooling="pooler"))


def test_attention_is_fused_unless_the_spec_says_otherwise(checkpoints: dict[str, Path]) -> None:
    fused = build(Transformers(model=str(checkpoints["dinov2"])))
    plain = build(Transformers(model=str(checkpoints["dinov2"]), attention="eager"))
    assert (fused.model.config._attn_implementation, plain.model.config._attn_implementation) == ("sdpa", "eager")
    with torch.no_grad():
        torch.testing.assert_close(fused(images(56, 56)), plain(images(56, 56)), rtol=1e-4, atol=1e-5)


def test_the_checkpoints_files_are_what_a_stage_depends_on(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    component = Transformers(model=str(checkpoints["vit"]))
    before = component.fingerprint()
    assert {stamp[0] for stamp in before} >= {"config.json", "model.safetensors"}
    os.utime(checkpoints["vit"] / "model.safetensors", ns=(1, 1))
    assert component.fingerprint() != before
    assert Transformers(model="acme/none").fingerprint() == Torchvision(name="resnet18").fingerprint() == []


@torch.no_grad()
def test_siglip_2_gets_its_patches_as_its_own_processor_cuts_them(checkpoints: dict[str, Path]) -> None:
    picture = images(48, 80)[0]
    # Row by row, each patch flattened as (row, column, channel).
    expected = [
        picture[:, top : top + 16, left : left + 16].permute(1, 2, 0).flatten()
        for top in range(0, 48, 16)
        for left in range(0, 80, 16)
    ]
    made = _patches(picture[None], 16)
    assert torch.equal(made["pixel_values"][0], torch.stack(expected))
    assert made["spatial_shapes"].tolist() == [[3, 5]]


@torch.no_grad()
def test_swin_does_not_remember_the_size_that_it_saw_before(checkpoints: dict[str, Path]) -> None:
    backbone = build(Transformers(model=str(checkpoints["swin"])))
    before = backbone(images(128, 128))
    for size in ((32, 32), (64, 32), (8, 8)):
        assert torch.isfinite(backbone(images(*size))).all()
    assert torch.equal(backbone(images(128, 128)), before)


def test_the_vision_part_of_a_two_tower_checkpoint_is_taken(tmp_path: Path) -> None:
    vision = {**VIT, "patch_size": 16, "image_size": 64}
    text = {**VIT, "vocab_size": 40, "projection_size": 16}
    config = transformers.SiglipConfig(vision_config=vision, text_config=text)
    whole = transformers.AutoModel.from_config(config).eval()
    whole.save_pretrained(tmp_path)
    backbone = build(Transformers(model=str(tmp_path)))
    assert not any("text" in name for name in backbone.state_dict())
    with torch.no_grad():
        expected = whole.vision_model(pixel_values=images(64, 64)).pooler_output
        torch.testing.assert_close(backbone(images(64, 64)), expected)


def test_the_size_and_statistics_are_the_checkpoints(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    for path in checkpoints["vit"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    stated = {"size": {"height": 96, "width": 64}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**stated, "resample": 3, "do_normalize": True}))
    found = build(Transformers(model=str(tmp_path))).preprocessing
    assert (found.size, found.mean, found.std) == ((96, 64), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (found.interpolation, found.fit) == ("bicubic", "stretch")
    assert build(Transformers(model=str(tmp_path), image_size=128)).preprocessing.size == (128, 128)


@pytest.mark.skipif(not MOBILENET.is_dir(), reason="the MobileNetV2 checkpoint is not at ../shared/data/backbone")
@torch.no_grad()
def test_a_published_checkpoint_gives_the_features_that_transformers_gives() -> None:
    backbone = build(Transformers(model=str(MOBILENET)))
    assert backbone.preprocessing.size == (224, 224)
    assert backbone.preprocessing.mean == backbone.preprocessing.std == (0.5, 0.5, 0.5)
    classifier = transformers.AutoModelForImageClassification.from_pretrained(MOBILENET).eval()
    logits = classifier.classifier(backbone(images(224, 224)))
    torch.testing.assert_close(logits, classifier(pixel_values=images(224, 224)).logits, rtol=1e-4, atol=1e-4)


def test_gradient_checkpointing_changes_no_gradient(checkpoints: dict[str, Path]) -> None:
    found = []
    for checkpointing in (False, True):
        component = Transformers(model=str(checkpoints["dinov2"]), gradient_checkpointing=checkpointing)
        backbone = component.build(BackboneContext()).train()
        backbone(images(56, 56)).square().sum().backward()
        found.append({name: p.grad for name, p in backbone.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_had_is_one_line_with_what_to_do(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RoadworkError, match=r"hf download acme/none --revision v2") as raised:
        build(Transformers(model="acme/none", revision="v2"))
    assert "\n" not in str(raised.value)
    with pytest.raises(RoadworkError, match="the checkpoint folder does not exist"):
        build(Transformers(model="./absent"))
    with pytest.raises(RoadworkError, match=r"has no config\.json"):
        build(Transformers(model=str(tmp_path)))
    (tmp_path / "config.json").write_bytes((checkpoints["vit"] / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(RoadworkError, match=r"has no model\.safetensors .pickled weights are not read"):
        build(Transformers(model=str(tmp_path)))
    assert build(Transformers(model=str(tmp_path), pretrained=False)).feature_dim == 16
    with pytest.raises(UsageError, match=r"image_size 100 is not a multiple of the model's 16 .take 96 or 112"):
        build(Transformers(model=str(checkpoints["vit"]), image_size=100))
    with pytest.raises(UsageError, match='pooling "cls" cannot be, convnextv2 has no class token'):
        build(Transformers(model=str(checkpoints["convnextv2"]), pooling="cls"))


def test_a_revision_of_a_hub_repository_is_the_one_that_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two revisions as a download leaves them in the hub's cache; nothing is asked of a network."""
    repository = tmp_path / "models--acme--net"
    config, *_ = FAMILIES["vit"]
    norms = {}
    for number, branch in enumerate(("main", "v2")):
        commit = f"{number + 1:040x}"
        torch.manual_seed(number)
        model = transformers.AutoModel.from_config(config)
        model.save_pretrained(repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / branch).write_text(commit)
        norms[branch] = model.get_parameter("embeddings.cls_token").detach().clone()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for revision, branch in ((None, "main"), ("v2", "v2"), (f"{2:040x}", "v2")):
        backbone = build(Transformers(model="acme/net", revision=revision))
        assert torch.equal(backbone.model.get_parameter("embeddings.cls_token"), norms[branch]), revision


def test_weights_of_another_network_are_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((checkpoints["vit"] / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((checkpoints["convnextv2"] / "model.safetensors").read_bytes())
    with pytest.raises(RoadworkError, match=r"lacks \d+ weights of ViTModel"):
        build(Transformers(model=str(tmp_path)))
