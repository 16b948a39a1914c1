"""A bundle brought to life: its model with weights, its test-time augmentation and its policies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ..errors import Problem, RoadworkError, VerificationError
from ..kinds import Kind
from .deciding import Decider, decider_of
from .format import ONNX, WEIGHTS, Bundle
from .inventory import at, read_bytes

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


def make_onnx_scorer(bundle: Bundle, plugins: Plugins, *, threads: int = 1) -> Scorer:
    """As `make_scorer`, but computing with ONNX Runtime, with so many threads: neither backbone nor head is built.

    Both files are read once, and are those of bundle.json then: what becomes of them later changes nothing.
    Raises VerificationError with all that is wrong with them.
    """
    import torch

    from ..inference import Scorer
    from .onnx_network import OnnxNetwork, graph_problems

    described, classes = bundle.model["onnx"], len(bundle.labels)
    content, weights = _as_listed(bundle, ONNX), _as_listed(bundle, WEIGHTS)
    problems = list(graph_problems(content, ONNX, described, classes, len(weights)))
    problems += [Problem(_not_finite(bad), origin=at(WEIGHTS))] if (bad := _nonfinite(_tensors(weights))) else []
    if problems:
        raise VerificationError(f"{len(problems)} failures", problems, path=bundle.path)
    try:
        network = OnnxNetwork.of(content, weights, described["sizes"], threads=threads)
        for height, width in described["sizes"]:
            logits, _ = network(torch.zeros(1, 3, height, width))
            if logits.shape != (1, classes):
                raise RoadworkError(f"the network in ONNX gives {logits.shape}, not {(1, classes)}")
    except RoadworkError as error:
        found = Problem(error.message, origin=at(ONNX))
        raise VerificationError(error.message, [found], path=bundle.path) from error
    return Scorer(network, *_preparing(bundle.model, plugins))


def _as_listed(bundle: Bundle, path: str) -> bytes:
    entry = bundle.manifest["files"][path]
    try:
        content = read_bytes(bundle.path, path, entry["size"])
        changed = hashlib.sha256(content).hexdigest() != entry["sha256"]
    except OSError:
        changed = True
    if changed:
        found = Problem("has changed: its sha256 is not the listed one", origin=at(path))
        raise VerificationError(f"{path} has changed", [found], path=bundle.path)
    return content


def _tensors(weights: bytes) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(weights)
    except SafetensorError as error:
        raise RoadworkError(f"cannot read the weights: {error}") from None


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


def weight_problems(scorer: Scorer) -> list[Problem]:
    """That weights of a scorer's module hold a NaN or an infinity."""
    bad = _nonfinite(scorer.model.state_dict())
    return [Problem(_not_finite(bad), origin=at(WEIGHTS))] if bad else []


def _not_finite(names: Sequence[str]) -> str:
    return f"{len(names)} weights are not finite, the first is {names[0]}"


def _nonfinite(tensors: Mapping[str, Any]) -> list[str]:
    return [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
