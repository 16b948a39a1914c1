"""Reading a checkpoint of transformers from a folder or the hub: configuration, image settings, weights."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel, ViTConfig
from transformers.image_processing_base import ImageProcessingMixin

from roadwork_core.errors import RoadworkError

from .imagenet import MEAN, STD

#: PIL's numbers of resampling filters; Lanczos and the others have no counterpart for tensors.
_INTERPOLATION = {0: "nearest", 2: "bilinear", 3: "bicubic"}


def read_config(model: str, revision: str | None) -> PretrainedConfig:
    """The configuration of the image encoder (the vision part of a two-tower checkpoint)."""
    if _looks_local(model) and not Path(model).is_dir():
        raise RoadworkError(
            "the checkpoint folder does not exist", path=model, hint="give a folder with config.json, or a hub id"
        )
    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        raise RoadworkError("the checkpoint folder has no config.json", path=model)
    try:
        config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _cannot(model, revision, error, "its configuration") from None
    config = getattr(config, "vision_config", config)
    return _plain_vit(config) if config.model_type == "vit_mae" else cast(PretrainedConfig, config)


def _plain_vit(autoencoder: Any) -> PretrainedConfig:
    """The ViT that the encoder of a masked autoencoder is (He et al., 2021): ViTMAE itself hides most of a picture."""
    stated = autoencoder.to_dict()
    kept = ViTConfig().to_dict().keys() & stated.keys() - {"model_type", "architectures", "transformers_version"}
    return ViTConfig(**{name: stated[name] for name in kept})


def read_weights(model: str, revision: str | None, config: PretrainedConfig, attention: str) -> PreTrainedModel:
    """The image encoder with its weights in float32, from safetensors only. Raises RoadworkError if any is absent."""
    folder = Path(model)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise RoadworkError(
            "the checkpoint folder has no model.safetensors",
            path=model,
            hint="pickled weights are not read; save the model again with save_pretrained",
        )
    options = {"attn_implementation": "eager"} if attention == "eager" else {}
    try:
        with _quiet():
            made, info = AutoModel.from_pretrained(
                model,
                revision=revision,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise _cannot(model, revision, error, "its weights as safetensors") from None
    # A dense pooler is dropped afterwards, whether it came with weights or not.
    absent = sorted(key for key in info["missing_keys"] if "pooler.dense" not in key)
    if absent:
        raise RoadworkError(
            f'the checkpoint "{model}" lacks {len(absent)} weights of {type(made).__name__}, such as {absent[0]}',
            hint="is it a checkpoint of this very network?",
        )
    return cast(PreTrainedModel, made)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and its report of unused weights (a checkpoint's old head) off the terminal."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def image_settings(model: str, revision: str | None, report: Callable[[str], None]) -> dict[str, Any]:
    """What the checkpoint's image processor file says: `size` (h, w) or None, `mean`, `std`, `interpolation`, `fit`."""
    values: dict[str, Any] = {}
    try:
        values = ImageProcessingMixin.get_image_processor_dict(model, revision=revision)[0]
    except (OSError, ValueError, json.JSONDecodeError):
        report(f'"{model}" has no preprocessor_config.json: ImageNet mean and standard deviation are assumed')
    size = values.get("size")
    stated = (values.get("crop_size") if values.get("do_center_crop") else None) or size
    stretched = isinstance(size, dict) and "height" in size and not values.get("do_center_crop")
    normalised = bool(values.get("do_normalize", True))
    return {
        "size": _size(stated),
        "mean": tuple(map(float, values.get("image_mean") or MEAN)) if normalised else (0.0, 0.0, 0.0),
        "std": tuple(map(float, values.get("image_std") or STD)) if normalised else (1.0, 1.0, 1.0),
        "interpolation": _INTERPOLATION.get(values.get("resample", 2), "bicubic"),
        "fit": "stretch" if stretched else "crop",
    }


def _size(stated: Any) -> tuple[int, int] | None:
    if isinstance(stated, int):
        return stated, stated
    if isinstance(stated, dict) and "height" in stated:
        return int(stated["height"]), int(stated["width"])
    if isinstance(stated, dict) and "shortest_edge" in stated:
        return int(stated["shortest_edge"]), int(stated["shortest_edge"])
    return None


def _looks_local(model: str) -> bool:
    return model.startswith((".", "/", "~")) or model.count("/") > 1


def _cannot(model: str, revision: str | None, error: Exception, part: str) -> RoadworkError:
    """One line of the many that transformers says, and what to do about it."""
    if Path(model).is_dir():
        return RoadworkError(f"cannot read {part}: {_first_line(error)}", path=model)
    which = f'"{model}"' + (f" at {revision}" if revision else "")
    text = str(error)
    if "trust_remote_code" in text or "custom code" in text:
        return RoadworkError(f"{which} needs code of its own, which is never run", hint="choose another checkpoint")
    if "gated" in text.lower():
        return RoadworkError(
            f"{which} is gated on the hub",
            hint="accept its terms there, log in with `hf auth login`, or set model to a local folder",
        )
    fetch = f"hf download {model}" + (f" --revision {revision}" if revision else "")
    return RoadworkError(
        f"cannot get {which}: {part} is neither in the local cache nor reachable on the hub ({_first_line(error)})",
        hint=f"with a network run `{fetch}` once, or set model to a folder with config.json and model.safetensors",
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
