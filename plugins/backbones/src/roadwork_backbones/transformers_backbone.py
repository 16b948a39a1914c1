"""Image encoders of transformers as backbones."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.errors import UsageError

from .checkpoint import image_settings, read_config, read_weights
from .structure import main_blocks
from .tokens import places

Pooling = Literal["auto", "cls", "mean_patch", "cls_mean", "pooler"]
Report = Callable[[str], None]

#: Keys of a configuration that say where it came from or what its labels were, not what the network is.
_INCIDENTAL = ("_name_or_path", "transformers_version", "architectures", "id2label", "label2id", "dtype", "torch_dtype")


class TransformersBackbone(nn.Module):
    """An image encoder with its tokens pooled: images, float (N, 3, H, W), to features, float (N, feature_dim).

    With `last_layers` above 1 the tokens of each of the last layers pass the encoder's final norm (where it has one),
    are pooled, and the vectors are concatenated, the last layer's at the end.
    """

    def __init__(
        self, model: PreTrainedModel, preprocessing: Preprocessing, pooling: Pooling, last_layers: int = 1
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.preprocessing = preprocessing
        self._takes_interpolation = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self._takes_patches = "spatial_shapes" in inspect.signature(model.forward).parameters
        self._prefix_tokens = _prefix_tokens(model)
        _forget_input_sizes(model)
        self.last_layers = last_layers
        probe, last = self._probe()
        self._final_norm: str | None = None
        if last_layers > 1:
            self._refuse_few_layers(probe)
            self._final_norm = _final_norm(model, last, probe.last_hidden_state)
        self.pooling = self._settled(pooling, last_layers == 1 and getattr(probe, "pooler_output", None) is not None)
        self.feature_dim = self._pool(probe).shape[1]
        if getattr(probe, "last_hidden_state", None) is not None:
            self.token_dim = self._tokens(probe).shape[2]
        self.architecture: dict[str, Any] = {
            "config": _portable(model.config),
            "pooling": self.pooling,
            "last_layers": last_layers,
            "preprocessing": preprocessing.to_json(),
            "transformers": transformers.__version__,
        }

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self._pool(self._encode(pixel_values))

    def tokens(self, pixel_values: Tensor) -> Tensor:
        """The patches, or places of the last feature map, without class token and registers, (N, T, token_dim).

        With `last_layers` above 1 a patch's vectors of these layers are concatenated, the last layer's at the end.
        """
        return self._tokens(self._encode(pixel_values))

    def blocks(self) -> Sequence[nn.Module]:
        return main_blocks(self.model)

    def _encode(self, pixel_values: Tensor) -> Any:
        options: dict[str, Any] = {"output_hidden_states": True} if self.last_layers > 1 else {}
        if self._takes_patches:
            return self.model(**_patches(pixel_values, self.model.config.patch_size), **options)
        if self._takes_interpolation:
            options["interpolate_pos_encoding"] = True
        return self.model(pixel_values=pixel_values, **options)

    def _pool(self, output: Any) -> Tensor:
        if self.pooling == "pooler":
            pooled: Tensor = output.pooler_output
            return pooled.flatten(1)
        return torch.cat([self._pool_tokens(tokens) for tokens in self._layers(output)], dim=1)

    def _tokens(self, output: Any) -> Tensor:
        layers = self._layers(output)
        if layers[0].ndim == 4:
            return places(layers[0])
        return torch.cat([tokens[:, self._prefix_tokens :] for tokens in layers], dim=2)

    def _layers(self, output: Any) -> list[Tensor]:
        """All tokens of each of the last layers, the last at the end."""
        if self.last_layers == 1:
            return [output.last_hidden_state]
        earlier = output.hidden_states[-self.last_layers : -1]
        return [*(self._normed(tokens) for tokens in earlier), output.last_hidden_state]

    def _normed(self, tokens: Tensor) -> Tensor:
        if self._final_norm is None:
            return tokens
        normed: Tensor = self.model.get_submodule(self._final_norm)(tokens)
        return normed

    def _pool_tokens(self, tokens: Tensor) -> Tensor:
        if tokens.ndim == 4:
            return tokens.mean(dim=(2, 3))
        mean = tokens[:, self._prefix_tokens :].mean(dim=1)
        if self.pooling == "mean_patch":
            return mean
        return tokens[:, 0] if self.pooling == "cls" else torch.cat([tokens[:, 0], mean], dim=1)

    def _settled(self, pooling: Pooling, has_pooler: bool) -> Pooling:
        """The pooling that `auto` stands for, or the one asked for where the model has it."""
        family = self.model.config.model_type
        if pooling == "auto":
            if family in ("dinov2", "dinov2_with_registers"):
                return "cls_mean"
            if has_pooler:
                return "pooler"
            return "cls" if self._prefix_tokens else "mean_patch"
        lacks = "pooler" if pooling == "pooler" and not has_pooler else None
        if pooling in ("cls", "cls_mean") and not self._prefix_tokens:
            lacks = "class token"
        if lacks:
            raise UsageError(
                f'transformers backbone: pooling "{pooling}" cannot be, {family} has no {lacks}'
                + (" of earlier layers" if lacks == "pooler" and self.last_layers > 1 else ""),
                hint='set pooling = "auto" or "mean_patch"',
            )
        return pooling

    def _refuse_few_layers(self, probe: Any) -> None:
        family, found = self.model.config.model_type, getattr(probe, "hidden_states", None) or ()
        same = [tokens.shape == probe.last_hidden_state.shape for tokens in found]
        if not same or not all(same) or probe.last_hidden_state.ndim != 3:
            raise UsageError(
                f"transformers backbone: last_layers = {self.last_layers} cannot be, {family}'s layers differ in shape",
                hint="leave last_layers out: it is for plain transformers such as DINOv2, DINOv3 ViT, SigLIP and ViT",
            )
        if self.last_layers > len(found) - 1:
            raise UsageError(
                f"transformers backbone: last_layers = {self.last_layers}, but the model has {len(found) - 1} layers"
            )

    @torch.no_grad()
    def _probe(self) -> tuple[Any, Tensor | None]:
        """The model's answer to one empty picture, as small as it takes to be quick, and what its last block gave."""
        multiple = self.preprocessing.size_multiple
        side = -(-64 // multiple) * multiple
        training = self.model.training
        self.model.eval()
        given: list[Tensor] = []
        hook = self.blocks()[-1].register_forward_hook(
            lambda _, __, out: given.append(out[0] if isinstance(out, tuple) else out)
        )
        output = self._encode(torch.zeros(1, 3, side, side))
        hook.remove()
        self.model.train(training)
        return output, given[-1] if given else None


def load(
    model: str,
    *,
    revision: str | None,
    pretrained: bool,
    image_size: int | None,
    pooling: Pooling,
    last_layers: int,
    attention: str,
    gradient_checkpointing: bool,
    report: Report,
) -> TransformersBackbone:
    """The encoder of a checkpoint, in float32, with the preprocessing that its image processor file states.

    Raises RoadworkError where the checkpoint cannot be had, UsageError for an option that it cannot serve.
    """
    config = read_config(model, revision)
    preprocessing = _preprocessing(config, image_settings(model, revision, report), image_size)
    if pretrained:
        made = read_weights(model, revision, config, attention)
    else:
        made = _from_config(config, attention)
    _drop_untrained_pooler(made)
    if gradient_checkpointing:
        if not made.supports_gradient_checkpointing:
            raise UsageError(
                f"transformers backbone: {config.model_type} has no gradient checkpointing",
                hint="set gradient_checkpointing = false",
            )
        _checkpoint_activations(made)
    return TransformersBackbone(made, preprocessing, pooling, last_layers)


def rebuild(architecture: Mapping[str, Any], *, attention: str, report: Report) -> TransformersBackbone:
    """The encoder that `TransformersBackbone.architecture` describes, with random weights; nothing is looked up."""
    if (made_with := architecture["transformers"]) != transformers.__version__:
        report(f"the model was made with transformers {made_with}; this is {transformers.__version__}")
    values = dict(architecture["config"])
    model = _from_config(AutoConfig.for_model(values.pop("model_type"), **values), attention)
    _drop_untrained_pooler(model)
    preprocessing = Preprocessing.from_json(architecture["preprocessing"])
    return TransformersBackbone(model, preprocessing, architecture["pooling"], architecture["last_layers"])


def _checkpoint_activations(model: Any) -> None:
    # Renamed between transformers 5.17 and 5.23.
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def _from_config(config: PretrainedConfig, attention: str) -> PreTrainedModel:
    options = {"attn_implementation": "eager"} if attention == "eager" else {}
    return cast(PreTrainedModel, AutoModel.from_config(config, dtype=torch.float32, **options))


def _portable(config: PretrainedConfig) -> dict[str, Any]:
    values = {key: value for key, value in config.to_dict().items() if key not in _INCIDENTAL}
    values["model_type"] = config.model_type
    return values


def _drop_untrained_pooler(model: Any) -> None:
    """Removes a dense layer on the class token (ViT's): image checkpoints do not come with it."""
    pooler = getattr(model, "pooler", None)
    if pooler is not None and any(isinstance(module, nn.Linear) for module in pooler.modules()):
        model.pooler = None


def _final_norm(model: Any, last: Tensor | None, tokens: Tensor) -> str | None:
    """Name of the norm that makes `tokens`, the encoder's answer, of what its last block gave; None without one."""
    if last is None or last.shape != tokens.shape:
        return None
    norms = [(name, module) for name, module in model.named_children() if "norm" in name]
    return next((name for name, norm in norms if torch.allclose(norm(last), tokens, rtol=1e-4, atol=1e-5)), None)


def _forget_input_sizes(model: nn.Module) -> None:
    """Makes the windows of Swin a function of the input alone.

    Its layers shrink their window and drop their shift for good when they meet a small input; here the window keeps
    its size (smaller inputs are padded) and the shift returns with the next larger input.
    """
    for module in model.modules():
        if hasattr(module, "set_shift_and_window_size"):
            layer: Any = module
            layer.set_shift_and_window_size = functools.partial(_clamp_shift, layer, layer.shift_size)


def _clamp_shift(layer: Any, shift_size: int, input_resolution: tuple[int, int]) -> None:
    layer.shift_size = 0 if min(input_resolution) <= layer.window_size else shift_size


def _prefix_tokens(model: Any) -> int:
    """How many tokens stand before the patches: the class token and the registers."""
    config = model.config
    if config.model_type == "dinov3_convnext":
        return 1  # its pooled vector stands where others have the class token
    names = ("cls_token", "class_embedding", "class_token", "distillation_token")
    found = sum(name.rpartition(".")[2] in names for name, _ in model.named_parameters())
    return found + int(getattr(config, "num_register_tokens", 0) or 0) if found else 0


def _size_multiple(config: PretrainedConfig) -> int:
    patch = getattr(config, "patch_size", None) or 1
    side = max(patch) if isinstance(patch, list | tuple) else int(patch)
    if config.model_type == "dinov3_convnext":
        return 32
    stages = len(getattr(config, "depths", None) or [0])
    # Hierarchical networks merge their patches two by two between stages.
    return side * 2 ** (stages - 1) if side > 1 else 1


def _preprocessing(config: PretrainedConfig, settings: Mapping[str, Any], image_size: int | None) -> Preprocessing:
    multiple = _size_multiple(config)
    if image_size is not None:
        if image_size % multiple:
            lower = image_size // multiple * multiple
            raise UsageError(
                f"transformers backbone: image_size {image_size} is not a multiple of the model's {multiple}",
                hint=f"take {lower or multiple} or {lower + multiple}",
            )
        size = (image_size, image_size)
    else:
        stated = settings["size"] or _config_size(config)
        size = cast("tuple[int, int]", tuple(max(multiple, round(side / multiple) * multiple) for side in stated))
    return Preprocessing(
        size=size,
        mean=settings["mean"],
        std=settings["std"],
        interpolation=settings["interpolation"],
        fit=settings["fit"],
        size_multiple=multiple,
    )


def _config_size(config: PretrainedConfig) -> tuple[int, int]:
    size = getattr(config, "image_size", None) or 224
    if patches := getattr(config, "num_patches", None):
        size = math.isqrt(patches) * config.patch_size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (int(size), int(size))


def _patches(images: Tensor, side: int) -> dict[str, Tensor]:
    """Images, (N, 3, H, W), as the flattened patches that SigLIP 2 takes, each in the order (row, column, channel)."""
    number, _, height, width = images.shape
    rows, columns = height // side, width // side
    cut = images.reshape(number, -1, rows, side, columns, side)
    patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(number, rows * columns, -1)
    return {
        "pixel_values": patches,
        "pixel_attention_mask": torch.ones(number, rows * columns, dtype=torch.int32, device=images.device),
        "spatial_shapes": torch.tensor([[rows, columns]] * number, device=images.device),
    }
