"""A torch classifier as ONNX: one graph for any batch, without a trace of the machine that wrote it."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from attrs import frozen
from torch import Tensor, nn

from ..backends import onnxruntime
from ..compute_threads import ComputeThreads
from ..errors import RoadworkError, UsageError, VerificationError
from ..extras import how_to_install
from .onnx_network import FEATURES, INPUT, LOGITS, WEIGHTS_NAME, OnnxNetwork, difference

if TYPE_CHECKING:
    from ..inference import Scorer

Size = tuple[int, int]
#: Version of ONNX's operators that is written where nobody says otherwise.
OPSET = 18
#: Larger networks keep their weights outside the graph: one message of protobuf holds 2 GiB.
ONE_FILE = 2**31 - 2**24
#: Bytes of a weight from which on it is referred to, where it lies in a file of weights, and not written again.
_SHARED = 1024


class _WithFeatures(nn.Module):
    """A classifier that gives its features as well: (N, 3, h, w) to logits (N, C) and features (N, D), float32."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = cast(Any, self.classifier).with_features(pixel_values)
        return logits, features.float().flatten(1)


@frozen
class CarriedNetwork:
    """A bundle's file of its network in ONNX, what its model.json says of it, and the network itself."""

    content: bytes
    described: Mapping[str, Any]
    network: OnnxNetwork


def carried_network(scorer: Scorer, pictures: Sequence[Any], weights: Path, tolerance: float) -> CarriedNetwork:
    """The network of a scorer, for the sizes that the views of these pictures, uint8 (3, H, W), have.

    `weights` is the file whose copy lies beside it in the bundle. Raises RoadworkError where a library is missing,
    UsageError for a network that torch cannot write, and VerificationError for one whose logits differ by more than the
    tolerance on the pictures.
    """
    sizes = sizes_of(scorer, pictures)
    model = _exported(_WithFeatures(scorer.model).eval(), sizes, OPSET, features=True)
    _refer(model, weights)
    if (held := _held(model)) > ONE_FILE:
        raise UsageError(f"the graph alone holds {held / 2**30:.1f} GiB, too much for one file of ONNX")
    content = model.SerializeToString(deterministic=True)
    network = OnnxNetwork.of(content, weights.read_bytes(), sizes)
    # With one thread, as everything that a bundle's digest covers.
    [found] = ComputeThreads(1, 1).map(lambda _: parity(scorer, network, pictures), [None])
    if not found <= tolerance:
        raise VerificationError(f"the logits of ONNX Runtime are {found:.3g} from torch's, more than {tolerance:g}")
    described = {"opset": OPSET, "sizes": [list(size) for size in sizes], "outputs": [LOGITS, FEATURES]}
    return CarriedNetwork(content, {**described, "difference": found}, network)


def sizes_of(scorer: Scorer, pictures: Sequence[Any]) -> list[Size]:
    """Every input size that the views of these pictures, uint8 (3, H, W), have: the model's own first."""
    own = scorer.preprocessing.size
    found = {tuple(view.shape[-2:]) for picture in pictures for view in scorer.tta.views(picture)}
    return [own, *sorted(cast("set[Size]", found) - {own})]


def write_network(model: nn.Module, path: Path, *, sizes: Sequence[Size], opset: int = OPSET) -> None:
    """Writes the network for inputs of these sizes in batches of any size, its weights beside it where one file is not
    enough.

    Raises RoadworkError where a library is missing, UsageError for a network that torch cannot write.
    """
    written = _exported(model, sizes, opset, features=False)
    if _held(written) > ONE_FILE:
        import onnx

        onnx.save(written, path, save_as_external_data=True, location=f"{path.name}.data")
    else:
        path.write_bytes(written.SerializeToString(deterministic=True))


def require_onnx() -> None:
    """Raises RoadworkError where a library that writing or checking needs is missing."""
    onnxruntime()
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RoadworkError(f"{error.name} is not installed", hint=how_to_install("onnx")) from None


def parity(scorer: Scorer, network: Callable[[Tensor], tuple[Any, Any]], pictures: Sequence[Any]) -> float:
    """The largest difference of the logits to the torch module's, relative to the larger of 1 and their magnitude.

    On the same inputs: a view of each size of each picture, uint8 (3, H, W), alone and in a batch of three.
    Raises UsageError where the network does not take such a batch or such a size.
    """
    worst = 0.0
    for picture in pictures:
        for view in {tuple(view.shape): view for view in scorer.tta.views(picture)}.values():
            for batch in (1, 3):
                inputs = scorer.preprocessing.normalise(torch.stack([view] * batch))
                ours, _ = scorer.network(inputs)
                try:
                    theirs, _ = network(inputs)
                except Exception as error:  # ONNX Runtime's exceptions share no class of their own
                    height, width = view.shape[-2:]
                    raise UsageError(
                        f"the network in ONNX does not take {batch} inputs of {height} x {width}, which the"
                        " test-time augmentation gives: its shapes are fixed",
                        hint="use a test-time augmentation of one size, such as flip",
                    ) from error
                worst = max(worst, difference(ours, theirs))
    return worst


def _exported(network: nn.Module, sizes: Sequence[Size], opset: int, features: bool) -> Any:
    """The network as an onnx.ModelProto that holds its weights."""
    require_onnx()
    import onnx

    dynamic: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if len(sizes) > 1:
        dynamic |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    # At its own size a vision transformer takes its position codes as they are; at any other it interpolates them,
    # which is right for all. The graph goes the way of this example.
    example = torch.zeros(2, 3, *sizes[-1])
    try:
        with _quietly(), torch.no_grad():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[LOGITS, FEATURES] if features else [LOGITS],
                dynamic_shapes=(dynamic,),
                verbose=False,
            )
    except Exception as error:  # torch's exporter raises whatever a network provokes
        why = _last_line(error.__cause__ or error)
        raise UsageError(f"torch cannot write this network as ONNX: {why}", hint="export another backbone") from error
    if program is None:
        raise UsageError("torch cannot write this network as ONNX")
    model = program.model_proto
    _forget_the_machine(model)
    if _held(model) <= ONE_FILE:
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise UsageError(f"torch writes this network as ONNX that is not valid: {_last_line(error)}") from error
    # Where its operators are rewritten, domains are named that nothing is left of.
    used = {node.domain for node in model.graph.node} | {""}
    kept = [item for item in model.opset_import if item.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    [stated] = [item.version for item in kept if not item.domain]
    if stated != opset:
        raise UsageError(f"torch writes this network in opset {stated}, not {opset}", hint=f"--set opset={stated}")
    return model


def _held(model: Any) -> int:
    """Bytes of weights in a model. Its own count of bytes fails above 2 GiB."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch and onnxscript tell the developers of exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _forget_the_machine(message: Any) -> None:
    """Clears, everywhere in a message, the notes of torch for those who debug it: lines of code, with the paths of
    their files."""
    for name in ("metadata_props", "doc_string"):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for kind, value in message.ListFields():
        if kind.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _forget_the_machine(part)


def _refer(model: Any, weights: Path) -> None:
    """Makes initialisers that a safetensors file holds, byte for byte or transposed, references to it.

    The exporter transposes the weights of matrix products; ONNX Runtime does that again when it loads the graph.
    """
    import onnx

    places = _tensors(weights)
    for tensor in list(model.graph.initializer):
        if len(tensor.raw_data) < _SHARED:
            continue
        place = places.get(hashlib.sha256(tensor.raw_data).digest())
        if place is None and len(tensor.dims) == 2:
            turned = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor).T).tobytes()
            if (place := places.get(hashlib.sha256(turned).digest())) is not None:
                stored = f"{tensor.name}.stored"
                model.graph.node.insert(0, onnx.helper.make_node("Transpose", [stored], [tensor.name], perm=[1, 0]))
                tensor.name = stored
                tensor.dims[:] = tensor.dims[::-1]
        if place is not None:
            offset, length = place
            onnx.external_data_helper.set_external_data(tensor, WEIGHTS_NAME, offset=offset, length=length)
            tensor.ClearField("raw_data")


def _tensors(path: Path) -> dict[bytes, tuple[int, int]]:
    """Offset and length in bytes of each tensor of a safetensors file, by the sha256 of its content.

    The format: the length of a JSON header in 8 bytes, little-endian; the header; the tensors one after another.
    """
    places: dict[bytes, tuple[int, int]] = {}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                file.seek(8 + length + begin)
                places.setdefault(hashlib.sha256(file.read(end - begin)).digest(), (8 + length + begin, end - begin))
    return places
