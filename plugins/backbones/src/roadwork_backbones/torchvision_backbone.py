"""Torchvision's classification networks as backbones."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from roadwork_core.data.preprocessing import Interpolation, Preprocessing
from roadwork_core.errors import RoadworkError, UsageError
from roadwork_core.files import sha256_file

from .imagenet import MEAN, STD
from .structure import main_blocks
from .tokens import places, torchvision_feature_map

#: Families that cannot serve, and why.
_UNSUITABLE = {
    "googlenet": "answers with auxiliary outputs while it trains",
    "inception": "answers with auxiliary outputs while it trains",
    "squeezenet": "has no linear layer after its features",
    "maxvit": "takes one input size only",
}
#: Families whose input is cut into patches that later stages merge: sizes must be multiples of 32.
_HIERARCHICAL = ("swin", "convnext")


class TorchvisionBackbone(nn.Module):
    """A network without its last linear layer: images, float (N, 3, H, W), to features, float (N, feature_dim)."""

    def __init__(self, name: str, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model, self.feature_dim, _ = _headless(name, preprocessing.size[0])
        self.preprocessing = preprocessing
        self.architecture: dict[str, Any] = {"name": name, "preprocessing": preprocessing.to_json()}

    def forward(self, pixel_values: Tensor) -> Tensor:
        if isinstance(self.model, VisionTransformer):
            pooled: Tensor = self.model.heads(_encoded(self.model, pixel_values)[:, 0])
            return pooled
        features: Tensor = self.model(pixel_values)
        return features.flatten(1)

    @cached_property
    def token_dim(self) -> int:
        multiple, training = self.preprocessing.size_multiple, self.training
        side = -(-64 // multiple) * multiple
        with torch.no_grad():
            found = self.eval().tokens(torch.zeros(1, 3, side, side))
        self.train(training)
        return found.shape[2]

    def tokens(self, pixel_values: Tensor) -> Tensor:
        """The patches of a ViT without its class token, else the places of what is pooled, (N, T, token_dim)."""
        if isinstance(self.model, VisionTransformer):
            return _encoded(self.model, pixel_values)[:, 1:]
        return places(torchvision_feature_map(self.model, pixel_values))

    def blocks(self) -> Sequence[nn.Module]:
        if (stages := _resnet_stages(self.model)) is not None:
            return stages
        return main_blocks(self.model)


def rebuild(architecture: Mapping[str, Any]) -> TorchvisionBackbone:
    """The network that `TorchvisionBackbone.architecture` describes, with random weights."""
    return TorchvisionBackbone(architecture["name"], Preprocessing.from_json(architecture["preprocessing"]))


def load(name: str, weights: str, image_size: int | None, report: Callable[[str], None]) -> TorchvisionBackbone:
    """The network with the weights that a spec names.

    Raises UsageError for a name or size that cannot be, RoadworkError where the weights cannot be had.
    """
    _check_name(name)
    multiple = _size_multiple(name)
    if image_size is not None and image_size % multiple:
        lower = image_size // multiple * multiple
        raise UsageError(
            f"torchvision backbone: image_size {image_size} is not a multiple of {multiple}, as {name} needs",
            hint=f"take {lower or multiple} or {lower + multiple}",
        )
    if weights == "none":
        return TorchvisionBackbone(name, _preprocessing(image_size or 224, multiple))
    if weights == "default":
        published = models.get_model_weights(name).DEFAULT
        transform = published.transforms()
        size = image_size or _snapped(int(transform.crop_size[0]), multiple)
        preprocessing = _preprocessing(
            size,
            multiple,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
            interpolation=transform.interpolation.value,
        )
        backbone = TorchvisionBackbone(name, preprocessing)
        report(f"loading torchvision {published}")
        _fill(backbone, _published_tensors(name, published), f"{name} {published}")
        return backbone
    backbone = TorchvisionBackbone(name, _preprocessing(image_size or 224, multiple))
    _fill(backbone, _local_tensors(Path(weights)), weights)
    return backbone


def _check_name(name: str) -> None:
    known = [one for one in models.list_models(module=models) if not one.startswith(tuple(_UNSUITABLE))]
    for family, reason in _UNSUITABLE.items():
        if name.startswith(family):
            raise UsageError(f'torchvision backbone: "{name}" cannot be used, it {reason}')
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}"
        raise UsageError(f'torchvision has no classification network "{name}"', hint=hint)


def _size_multiple(name: str) -> int:
    if name.startswith("vit_"):
        return int(name.rpartition("_")[2])
    return 32 if name.startswith(_HIERARCHICAL) else 1


def _snapped(size: int, multiple: int) -> int:
    return max(multiple, round(size / multiple) * multiple)


def _preprocessing(
    size: int,
    multiple: int,
    *,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    interpolation: str = "bilinear",
) -> Preprocessing:
    return Preprocessing(
        size=(size, size),
        mean=cast("tuple[float, float, float]", mean),
        std=cast("tuple[float, float, float]", std),
        interpolation=cast(Interpolation, interpolation),
        size_multiple=multiple,
    )


def _headless(name: str, image_size: int) -> tuple[nn.Module, int, str]:
    """The network with its last linear layer replaced by the identity, the width of its features, the layer's name."""
    options = {"image_size": image_size} if name.startswith("vit_") else {}
    model: nn.Module = models.get_model(name, weights=None, **options)
    path, last = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, attribute = path.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    return model, last.in_features, path


def _encoded(model: VisionTransformer, images: Tensor) -> Tensor:
    """All tokens as torchvision's forward pass makes them, with positions interpolated to the size of the images."""
    patches = model.conv_proj(images)
    height, width = patches.shape[-2:]
    tokens = torch.cat([model.class_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    positions = _interpolated(model.encoder.pos_embedding, height, width)
    encoded: Tensor = model.encoder.ln(model.encoder.layers(model.encoder.dropout(tokens + positions)))
    return encoded


def _interpolated(positions: Tensor, height: int, width: int) -> Tensor:
    side = round((positions.shape[1] - 1) ** 0.5)
    if (height, width) == (side, side):
        return positions
    grid = positions[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
    resized = nn.functional.interpolate(grid, size=(height, width), mode="bicubic", align_corners=True)
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def _resnet_stages(model: nn.Module) -> list[nn.Module] | None:
    names = ("layer1", "layer2", "layer3", "layer4")
    return [model.get_submodule(name) for name in names] if all(hasattr(model, name) for name in names) else None


def _published_tensors(name: str, published: Any) -> Mapping[str, Tensor]:
    # torch.hub checks a download against the hash in its name, but not a file that it finds.
    file = Path(torch.hub.get_dir()) / "checkpoints" / published.url.rpartition("/")[2]
    expected = file.stem.rpartition("-")[2]
    if file.is_file() and not sha256_file(file).startswith(expected):
        raise RoadworkError(
            f"this file is not the torchvision weights {published}: its sha256 does not begin with {expected}",
            path=file,
            hint="delete it, so that it is downloaded again",
        )
    try:
        # torchvision publishes .pth files: checked against the hash in their name, read by torch's tensor-only reader.
        return cast(
            "Mapping[str, Tensor]", published.get_state_dict(progress=False, check_hash=True, weights_only=True)
        )
    except (OSError, RuntimeError) as error:
        raise RoadworkError(
            f"cannot download the torchvision weights {published} of {name}: {error}",
            hint=f"with a network, run once to fill the cache ({torch.hub.get_dir()}); without one, set"
            ' backbone.weights to a .safetensors file or to "none" (random), or write use = "small_cnn"',
        ) from None


def _local_tensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise UsageError(
            f'torchvision backbone: weights must be "default", "none" or a .safetensors file, got {str(path)!r}',
            hint="pickled checkpoints are not read; save the state dict with safetensors.torch.save_file",
        )
    try:
        return cast("Mapping[str, Tensor]", load_file(path))
    except (SafetensorError, OSError) as error:
        raise RoadworkError(f"cannot read the weights: {error}", path=path) from None


def _fill(backbone: TorchvisionBackbone, tensors: Mapping[str, Tensor], source: str) -> None:
    """Loads torchvision-named tensors; the last linear layer's are left out, everything else must fit."""
    name = backbone.architecture["name"]
    size = backbone.preprocessing.size[0]
    _, _, last = _headless(name, size)
    wanted = {key: value for key, value in tensors.items() if key not in (f"{last}.weight", f"{last}.bias")}
    if isinstance(backbone.model, VisionTransformer):
        wanted = dict(interpolate_embeddings(size, backbone.model.patch_size, wanted))
    own = backbone.model.state_dict()
    wrong = [f"missing {key}" for key in sorted(own.keys() - wanted.keys())]
    wrong += [f"unexpected {key}" for key in sorted(wanted.keys() - own.keys())]
    wrong += [f"misshapen {key}" for key in sorted(own.keys() & wanted.keys()) if own[key].shape != wanted[key].shape]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise RoadworkError(f"the weights are not those of {name}: {'; '.join(wrong[:3])}{more}", path=source)
    backbone.model.load_state_dict(wanted)
