"""Networks of timm as backbones."""

from __future__ import annotations

import difflib
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from attrs import frozen
from torch import Tensor, nn

from roadwork_core.data.preprocessing import Interpolation, Preprocessing
from roadwork_core.errors import RoadworkError, UsageError

from .structure import main_blocks
from .tokens import places

HUB = "hf-hub:"
WEIGHTS = "model.safetensors"


@frozen(kw_only=True)
class _Source:
    """What a name stands for: timm's architecture with its arguments and settings, and where its weights are."""

    architecture: str
    arguments: Mapping[str, Any]
    settings: Mapping[str, Any]
    repository: str | None = None
    folder: Path | None = None


class TimmBackbone(nn.Module):
    """A network without its classifier: images, float (N, 3, H, W), to features, float (N, feature_dim)."""

    def __init__(self, name: str, arguments: Mapping[str, Any], preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model: Any = _create(name, arguments, preprocessing.size)
        self.preprocessing = preprocessing
        self.feature_dim = int(self.model.head_hidden_size)
        self.architecture: dict[str, Any] = {
            "name": name,
            "arguments": dict(arguments),
            "preprocessing": preprocessing.to_json(),
        }

    def forward(self, pixel_values: Tensor) -> Tensor:
        features: Tensor = self.model(pixel_values)
        return features.flatten(1)

    @property
    def token_dim(self) -> int:
        return int(self.model.num_features)

    def tokens(self, pixel_values: Tensor) -> Tensor:
        """What the network has before it pools, without class token and registers, float (N, T, token_dim)."""
        found: Tensor = self.model.forward_features(pixel_values)
        if found.ndim == 4:
            channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            return found.flatten(1, 2) if channels_last else places(found)
        return found[:, int(getattr(self.model, "num_prefix_tokens", 0)) :]

    def blocks(self) -> Sequence[nn.Module]:
        return main_blocks(self.model)


def rebuild(architecture: Mapping[str, Any]) -> TimmBackbone:
    """The network that `TimmBackbone.architecture` describes, with random weights; nothing is looked up."""
    preprocessing = Preprocessing.from_json(architecture["preprocessing"])
    return TimmBackbone(architecture["name"], architecture["arguments"], preprocessing)


def load(
    name: str, weights: str, revision: str | None, image_size: int | None, report: Callable[[str], None]
) -> TimmBackbone:
    """The network with the weights that a spec names, and timm's own settings for its pictures.

    Raises UsageError for a name or size that cannot be, RoadworkError where timm or the weights cannot be had.
    """
    source = _source(name, revision)
    preprocessing = _preprocessing(source, image_size)
    backbone = TimmBackbone(source.architecture, source.arguments, preprocessing)
    if weights != "none":
        path = _weights_file(source, weights, revision)
        report(f"loading {path.name} of {name}")
        _fill(backbone, path)
    return backbone


def _timm() -> Any:
    return importlib.import_module("timm")


def _source(name: str, revision: str | None) -> _Source:
    timm = _timm()
    if name.startswith(HUB) or Path(name).is_dir():
        repository = name.removeprefix(HUB) if name.startswith(HUB) else None
        folder = None if repository else Path(name)
        path = _fetch(repository, "config.json", revision) if repository else Path(name) / "config.json"
        try:
            document = json.loads(path.read_bytes())
            settings = dict(document.get("pretrained_cfg") or document)
            arguments = dict(document.get("model_args") or {})
            architecture = str(document["architecture"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise RoadworkError(f"this is no config.json of timm: {reason}", path=path) from None
        return _Source(
            architecture=_known(timm, architecture),
            arguments=arguments,
            settings=settings,
            repository=repository,
            folder=folder,
        )
    if name.startswith((".", "/", "~")):
        raise RoadworkError("the checkpoint folder does not exist", path=name, hint="give a folder with config.json")
    architecture = _known(timm, name)
    settings = timm.get_pretrained_cfg(name)
    values = settings.to_dict() if settings is not None else {}
    return _Source(
        architecture=architecture.partition(".")[0],
        arguments={},
        settings=values,
        repository=values.get("hf_hub_id"),
    )


def _known(timm: Any, name: str) -> str:
    if not timm.is_model(name.partition(".")[0]):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists them"
        raise UsageError(f'timm has no network "{name}"', hint=hint)
    if "." in name and name not in timm.list_pretrained(name.partition(".")[0] + ".*"):
        tags = ", ".join(timm.list_pretrained(name.partition(".")[0] + ".*"))
        raise UsageError(f'timm has no weights "{name}"', hint=f"it has {tags or 'none of this network'}")
    return name


def _create(name: str, arguments: Mapping[str, Any], size: tuple[int, int]) -> Any:
    timm = _timm()
    # Transformers are told their size and take others; convolutions know neither argument.
    for more in ({"img_size": size, "dynamic_img_size": True}, {"img_size": size}, {}):
        try:
            model = timm.create_model(name, pretrained=False, num_classes=0, **{**arguments, **more})
        except TypeError:
            if not more:
                raise
            continue
        except (AssertionError, ValueError, RuntimeError) as error:
            raise UsageError(f"timm backbone: {name} cannot be made at {size[0]} x {size[1]}: {error}") from None
        if hasattr(model, "head_hidden_size") and hasattr(model, "forward_head"):
            return model
        raise UsageError(f"timm backbone: {name} does not say how wide its features are")
    return None


def _preprocessing(source: _Source, image_size: int | None) -> Preprocessing:
    timm = _timm()
    values = timm.data.resolve_data_config(pretrained_cfg=dict(source.settings))
    multiple = _size_multiple(source)
    if image_size is not None and image_size % multiple:
        lower = image_size // multiple * multiple
        raise UsageError(
            f"timm backbone: image_size {image_size} is not a multiple of the model's {multiple}",
            hint=f"take {lower or multiple} or {lower + multiple}",
        )
    stated = (image_size, image_size) if image_size else values["input_size"][-2:]
    size = tuple(max(multiple, round(side / multiple) * multiple) for side in stated)
    interpolation = values["interpolation"] if values["interpolation"] in ("bilinear", "nearest") else "bicubic"
    return Preprocessing(
        size=cast("tuple[int, int]", size),
        mean=cast("tuple[float, float, float]", tuple(map(float, values["mean"]))),
        std=cast("tuple[float, float, float]", tuple(map(float, values["std"]))),
        interpolation=cast(Interpolation, interpolation),
        fit="stretch" if values["crop_mode"] == "squash" else "crop",
        size_multiple=multiple,
    )


def _size_multiple(source: _Source) -> int:
    """The patch's side where the input is cut into patches, times what later stages merge."""
    import torch

    timm = _timm()
    with torch.device("meta"):
        model = timm.create_model(source.architecture, pretrained=False, num_classes=0, **source.arguments)
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch is None:
        return 1
    reductions = [int(stage["reduction"]) for stage in getattr(model, "feature_info", None) or ()]
    return max([max(patch) if isinstance(patch, tuple | list) else int(patch), *reductions])


def _weights_file(source: _Source, weights: str, revision: str | None) -> Path:
    if weights != "default":
        if not weights.endswith(".safetensors"):
            raise UsageError(
                f'timm backbone: weights must be "default", "none" or a .safetensors file, got {weights!r}',
                hint="pickled checkpoints are not read; save the state dict with safetensors.torch.save_file",
            )
        return Path(weights)
    if source.folder is not None:
        return source.folder / WEIGHTS
    if source.repository is None:
        raise RoadworkError(
            f"timm publishes no weights of {source.architecture} on the hub",
            hint='set weights to "none" or to a .safetensors file',
        )
    return _fetch(source.repository, WEIGHTS, revision)


def _fetch(repository: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except (OSError, ValueError) as error:
        which = f'"{repository}"' + (f" at {revision}" if revision else "")
        fetch = f"hf download {repository} {file}" + (f" --revision {revision}" if revision else "")
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RoadworkError(
            f"cannot get {which}: {file} is neither in the local cache nor reachable on the hub ({first})",
            hint=f"with a network run `{fetch}` once, or set name to a folder with config.json and {WEIGHTS}",
        ) from None


def _fill(backbone: TimmBackbone, path: Path) -> None:
    """Loads timm-named tensors; the classifier's are left out, positions are interpolated to the input's size."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise RoadworkError(f"cannot read the weights: {error}", path=path) from None
    adapt = _checkpoint_filter(backbone.model)
    try:
        tensors = adapt(tensors, backbone.model) if adapt else tensors
    except (KeyError, RuntimeError, AttributeError, ValueError) as error:
        raise RoadworkError(f"the weights are not those of the network: {error}", path=path) from None
    own = backbone.model.state_dict()
    classifier = _classifier_names(backbone.model)
    wrong = [f"missing {key}" for key in sorted(own.keys() - tensors.keys())]
    wrong += [
        f"unexpected {key}" for key in sorted(tensors.keys() - own.keys()) if not key.startswith(tuple(classifier))
    ]
    wrong += [f"misshapen {key}" for key in sorted(own.keys() & tensors.keys()) if own[key].shape != tensors[key].shape]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        name = backbone.architecture["name"]
        raise RoadworkError(f"the weights are not those of {name}: {'; '.join(wrong[:3])}{more}", path=path)
    backbone.model.load_state_dict({key: tensors[key] for key in own})


def _checkpoint_filter(model: Any) -> Callable[[dict[str, Tensor], Any], dict[str, Tensor]] | None:
    """The function by which timm brings checkpoints of this family to today's names and this input size."""
    found = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return cast("Callable[[dict[str, Tensor], Any], dict[str, Tensor]] | None", found)


def _classifier_names(model: Any) -> list[str]:
    stated = model.pretrained_cfg.get("classifier") or "head"
    return [f"{name}." for name in ([stated] if isinstance(stated, str) else stated)]
