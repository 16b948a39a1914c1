"""The classifier: a backbone with a head, made from a spec, described as JSON, rebuilt from that description."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
from torch import Tensor, nn

from .data.preprocessing import Preprocessing
from .errors import RoadworkError
from .kinds import BackboneContext, HeadContext, Kind, Report, TokenBackbone, TokenHead

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .plugins import Plugins
    from .spec import Spec

SCHEMA = "roadwork.model/1"
_OTHER_HEAD = 'use a head that reads features, such as "linear"'


class Classifier(nn.Module):
    """Normalised images, float (N, 3, H, W), to logits, float32 (N, C).

    Raises RoadworkError for a head that reads tokens on a backbone that gives none.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._pools = reads_tokens(head)
        if self._pools and not callable(getattr(backbone, "tokens", None)):
            raise RoadworkError("the head reads tokens, and the backbone as it is adapted gives none", hint=_OTHER_HEAD)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.with_features(pixel_values)[0]

    def with_features(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Logits as `forward` gives them, and the features that they were made of: the backbone's, (N, feature_dim),
        or those that the head pooled of its tokens, (N, D)."""
        features = self._features(pixel_values)
        logits: Tensor = self.head(features)
        return logits.float(), features

    def _features(self, pixel_values: Tensor) -> Tensor:
        if self._pools:
            return cast(TokenHead, self.head).pool(cast(TokenBackbone, self.backbone).tokens(pixel_values))
        features: Tensor = self.backbone(pixel_values)
        return features


def reads_tokens(head: Any) -> bool:
    """Whether a head, its module or its component, reads the backbone's tokens in place of its features."""
    return bool(getattr(head, "reads_tokens", False))


def preprocessing_of(spec: Spec, backbone: nn.Module) -> Preprocessing:
    """The backbone's preprocessing with what the spec's [data] table says of it."""
    return attrs.evolve(cast(Preprocessing, backbone.preprocessing), fit=spec.data.fit)


def build_backbone(spec: Spec, report: Report) -> nn.Module:
    """The spec's backbone with the weights that the spec names."""
    return cast(nn.Module, spec.backbone.build(BackboneContext(report=report)))


def build_head(spec: Spec, backbone: nn.Module, class_counts: NDArray[np.int64]) -> nn.Module:
    """The spec's head for a backbone. `class_counts`: int64 (C,) of the train split."""
    context = HeadContext(
        feature_dim=cast(int, backbone.feature_dim),
        num_classes=len(class_counts),
        class_counts=class_counts,
        token_dim=_token_dim(spec.head, backbone),
    )
    return cast(nn.Module, spec.head.build(context))


def _token_dim(head: Any, backbone: nn.Module) -> int | None:
    """The width of the tokens that the component `head` reads, None where it reads none.

    Raises RoadworkError where the backbone gives none.
    """
    if not reads_tokens(head):
        return None
    if not isinstance(backbone, TokenBackbone):
        raise RoadworkError("the head reads tokens, and the backbone gives none", hint=_OTHER_HEAD)
    return backbone.token_dim


def describe(
    spec: Spec,
    backbone: nn.Module,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    positive: int,
    plugins: Plugins,
    *,
    adapted: Sequence[str] = (),
    parameters: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The JSON document from which `rebuild` makes the same module, offline and without the spec.

    `adapted` names the modules that the adapter changed and `parameters` says how many trained: for the record only,
    the adapter is folded into the weights.
    """
    from .spec import component_options

    def part(component: Any) -> dict[str, Any]:
        return {"use": plugins.use_name(component), "options": component_options(component)}

    return {
        "schema": SCHEMA,
        "backbone": {**part(spec.backbone), "architecture": dict(cast("Mapping[str, Any]", backbone.architecture))},
        "head": part(spec.head),
        "adapter": {**part(spec.adapter), "modules": list(adapted), "parameters": dict(parameters or {})},
        "feature_dim": cast(int, backbone.feature_dim),
        "classes": list(classes),
        "positive": positive,
        "preprocessing": preprocessing.to_json(),
    }


def rebuild(document: Mapping[str, Any], plugins: Plugins) -> Classifier:
    """The classifier that `describe` described, in evaluation mode, its weights not yet loaded.

    Raises SpecError or UnknownComponentError where the installed plugins do not supply its parts, RoadworkError
    where one of them cannot be built from what the document says.
    """
    from .spec import resolve_component

    def built(kind: Kind, context: Callable[[Any], Any]) -> nn.Module:
        part = document[kind]
        component = resolve_component(kind, {"use": part["use"], **part["options"]}, plugins)
        try:
            return cast(nn.Module, component.build(context(component)))
        except RoadworkError:
            raise
        except Exception as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split()) or "no message"
            raise RoadworkError(f"the {kind} {part['use']} cannot be built as it is described: {why}") from error

    architecture = document["backbone"]["architecture"]
    backbone = built(Kind.BACKBONE, lambda _: BackboneContext(architecture=architecture))

    def for_head(component: Any) -> HeadContext:
        return HeadContext(
            feature_dim=document["feature_dim"],
            num_classes=len(document["classes"]),
            token_dim=_token_dim(component, backbone),
        )

    return Classifier(backbone, built(Kind.HEAD, for_head)).eval()


def save_weights(module: nn.Module, path: Path) -> None:
    """Writes every parameter and buffer as safetensors, atomically; the same weights give the same bytes."""
    from safetensors.torch import save

    from .files import write_atomic

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    write_atomic(path, save(tensors))


def load_weights(module: nn.Module, path: Path) -> None:
    """Fills the module from `save_weights`' file; every name, shape and dtype must fit.

    Raises RoadworkError naming what is missing, unexpected, misshapen or of another dtype.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise RoadworkError(f"cannot read the weights: {error}", path=path) from None
    own = module.state_dict()
    wrong = [f"missing {name}" for name in sorted(own.keys() - tensors.keys())]
    wrong += [f"unexpected {name}" for name in sorted(tensors.keys() - own.keys())]
    wrong += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if own[name].shape != tensors[name].shape
    ]
    wrong += [
        f"{name} is {_dtype(tensors[name])}, not {_dtype(own[name])}"
        for name in sorted(own.keys() & tensors.keys())
        if own[name].dtype != tensors[name].dtype
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise RoadworkError(f"the weights do not fit the model: {'; '.join(wrong[:3])}{more}", path=path)
    module.load_state_dict(tensors)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def parameter_counts(module: nn.Module) -> dict[str, int]:
    """How many parameters there are and how many train."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return {"total": sum(size for size, _ in sizes), "trainable": sum(size for size, trains in sizes if trains)}
