"""A bundle brought to life: its model with weights, its test-time augmentation and its policies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ..errors import Problem, RoadworkError, VerificationError
from ..kinds import Kind
from .deciding import Decider, decider_of
from .format import ONNX, WEIGHTS, Bundle
from .inventory import at

if TYPE_CHECKING:
    from ..backends import Backend
    from ..data.preprocessing import Preprocessing
    from ..inference import Scorer
    from ..kinds import Tta
    from ..plugins import Plugins


@frozen(kw_only=True)
class Runtime:
    """What turns pictures into decisions."""

    bundle: Bundle
    scorer: Scorer
    decider: Decider

    @property
    def backend(self) -> Backend:
        """What computes the network."""
        return self.scorer.network.backend


def component_parts(bundle: Bundle) -> list[tuple[Kind, str, Mapping[str, Any]]]:
    """Every component that the bundle names: its kind, the document that names it, and its `use` and `options`."""
    model = bundle.model
    parts: list[tuple[Kind, str, Mapping[str, Any]]] = [
        (Kind.BACKBONE, "model/model.json", model["backbone"]),
        (Kind.HEAD, "model/model.json", model["head"]),
        (Kind.TTA, "model/model.json", model["tta"]),
    ]
    return parts + [(Kind.POLICY, f"policies/{name}.json", policy) for name, policy in bundle.policies.items()]


def make_decider(bundle: Bundle, plugins: Plugins) -> Decider:
    """The policies of the bundle; one that cannot be restored is `broken`, which is for the caller to judge."""
    return decider_of(
        bundle.policies,
        plugins,
        active=bundle.active,
        fallback=bundle.fallback,
        num_classes=len(bundle.labels),
        positive=bundle.positive,
    )


def make_scorer(
    model: Mapping[str, Any],
    weights: Path,
    plugins: Plugins,
    *,
    device: str = "cpu",
) -> Scorer:
    """The classifier of a model document with the weights of a file and its test-time augmentation, on `device`.

    Raises RoadworkError where the installed plugins do not supply its parts or the weights do not fit.
    """
    scorer = untrained_scorer(model, plugins, device=device)
    load_weights_into(scorer, weights)
    return scorer


def load_weights_into(scorer: Scorer, weights: Path) -> None:
    """Fills the scorer's model from a file of weights. Raises RoadworkError where they do not fit."""
    from ..model import load_weights

    load_weights(scorer.model, weights)


def untrained_scorer(model: Mapping[str, Any], plugins: Plugins, *, device: str = "cpu") -> Scorer:
    """`make_scorer` before its weights are loaded: all that hangs on the model document alone."""
    from ..inference import Scorer
    from ..model import rebuild

    return Scorer(rebuild(model, plugins), *_preparing(model, plugins), device=device)


def make_onnx_scorer(bundle: Bundle, plugins: Plugins) -> Scorer:
    """As `make_scorer`, but computing with ONNX Runtime: neither the backbone nor the head is built.

    Raises VerificationError with all that is wrong with the bundle's file.
    """
    from ..inference import Scorer
    from .onnx_network import OnnxNetwork, file_problems

    if problems := list(file_problems(bundle.path, ONNX, WEIGHTS, bundle.model["onnx"])):
        raise VerificationError(f"{len(problems)} failures", problems, path=bundle.path)
    try:
        network = OnnxNetwork(bundle.path / ONNX)
    except RoadworkError as error:
        raise VerificationError(error.message, [Problem(error.message, origin=at(ONNX))], path=bundle.path) from error
    return Scorer(network, *_preparing(bundle.model, plugins))


def _preparing(model: Mapping[str, Any], plugins: Plugins) -> tuple[Preprocessing, Tta]:
    from ..data.preprocessing import Preprocessing
    from ..inference import build_tta, unfitted
    from ..spec import resolve_component

    preprocessing = Preprocessing.from_json(model["preprocessing"])
    part = model["tta"]
    component = resolve_component(Kind.TTA, {"use": part["use"], **part["options"]}, plugins)
    tta = build_tta(component, preprocessing, len(model["classes"]), part.get("state"))
    if splits := unfitted(tta):
        raise RoadworkError(f"the test-time augmentation {part['use']} was never fitted (on {' and '.join(splits)})")
    return preprocessing, tta


def nonfinite_weights(scorer: Scorer) -> list[str]:
    """Names of the weights that hold a NaN or an infinity."""
    import torch

    return [
        name
        for name, tensor in scorer.model.state_dict().items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
