"""A bundle's network in ONNX: what its file may be, and computing it with ONNX Runtime on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from attrs import field, frozen

from ..backends import onnxruntime
from ..errors import Problem, RoadworkError
from .inventory import at

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from ..backends import Backend

INPUT, LOGITS, FEATURES = "pixel_values", "logits", "features"
#: The name under which a graph refers to the weights beside it.
WEIGHTS_NAME = "weights.safetensors"
#: More nodes than any network of a bundle has, and more problems than anyone reads.
_MOST_NODES, _MOST_PROBLEMS = 100_000, 100
#: What ONNX Runtime is told to be silent about: all but what ends the process. Errors are raised as well.
_FATAL = 4


def session_of(model: bytes, weights: bytes, threads: int) -> Any:
    """An onnxruntime.InferenceSession on the CPU, for a graph that refers to no file but these weights.

    With one thread a call computes in the thread that calls; with more, calls at the same time share threads - 1
    others. Nothing of either file is looked at again.
    """
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_external_initializers_from_files_in_memory([WEIGHTS_NAME], [weights], [len(weights)])
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@frozen
class OnnxNetwork:
    """A network of a graph and its weights, as `roadwork_core.inference.Network`; safe to share between threads.

    It takes inputs of the `sizes` (height, width) that it was tried with, since a graph may have taken in what held for
    them alone. Raises RoadworkError for a graph that ONNX Runtime cannot load, an input of another size, and whatever
    happens as it computes.
    """

    backend: ClassVar[Backend] = "onnx"
    sizes: frozenset[tuple[int, ...]]
    _session: Any = field(repr=False, eq=False)

    @classmethod
    def of(cls, model: bytes, weights: bytes, sizes: Sequence[Sequence[int]], *, threads: int = 1) -> OnnxNetwork:
        try:
            session = session_of(model, weights, threads)
        except RoadworkError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no class of their own
            raise RoadworkError(f"ONNX Runtime cannot load the network: {_line(error)}") from error
        return cls(frozenset(tuple(size) for size in sizes), session)

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    def __call__(self, inputs: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        size = tuple(inputs.shape[-2:])
        if size not in self.sizes:
            raise RoadworkError(
                f"the network in ONNX was never tried with inputs of {size[0]} x {size[1]}", hint="--backend torch"
            )
        try:
            found = self._session.run(None, {INPUT: inputs.numpy()})
        except Exception as error:  # as above
            raise RoadworkError(f"ONNX Runtime cannot compute the network: {_line(error)}") from error
        return found[0].astype(np.float64), found[1] if len(found) > 1 else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def difference(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """The largest, relative to the larger of 1 and the expected magnitude; infinite where one is not finite."""
    gap = np.abs(actual - expected) / np.maximum(1.0, np.abs(expected))
    return float(gap.max()) if np.isfinite(gap).all() else float("inf")


def graph_problems(
    content: bytes, path: str, described: Mapping[str, Any], classes: int, weights_size: int
) -> Iterator[Problem]:
    """What is wrong with the ONNX file `content`, which lies at `path` in a bundle; at most 100 problems.

    That it is not ONNX; that it is not as `described`; that it holds anything but standard operators in a row; that
    it refers to anything but its own weights, or holds numbers that are not finite. Raises RoadworkError where the
    library that reads it is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise RoadworkError(f"a network in ONNX cannot be read: {error}") from None
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # noqa: BLE001 - protobuf's errors share no class of their own
        yield Problem(f"is not an ONNX file: {_line(error)}", origin=at(path))
        return
    for number, message in enumerate(_faults(model, described, classes, weights_size)):
        if number == _MOST_PROBLEMS:
            return
        yield Problem(message, origin=at(path))


def _faults(model: Any, described: Mapping[str, Any], classes: int, weights_size: int) -> Iterator[str]:
    import onnx

    graph = model.graph
    names = ([found.name for found in graph.input], [found.name for found in graph.output])
    stated = ([INPUT], list(described["outputs"]))
    if names != stated:
        yield f"takes {names[0]} and gives {names[1]}, not {stated[0]} and {stated[1]}"
        return
    for ends, rank in ((graph.input, 4), (graph.output, 2)):
        for end in ends:
            kind = end.type.tensor_type
            if kind.elem_type != onnx.TensorProto.FLOAT or len(kind.shape.dim) != rank:
                yield f"{end.name} is not a float32 tensor of {rank} dimensions"
    columns = graph.output[0].type.tensor_type.shape.dim[-1:]
    if [dimension.dim_value for dimension in columns] != [classes]:
        yield f"does not give {classes} logits"
    opsets = {item.domain: item.version for item in model.opset_import}
    if opsets != {"": described["opset"]}:
        yield f"uses the operators {opsets}, not version {described['opset']} of the standard ones alone"
    if model.functions or model.training_info or graph.sparse_initializer:
        yield "holds functions, training or sparse weights, which no bundle has"
    if len(graph.node) > _MOST_NODES:
        yield f"has {len(graph.node)} nodes, more than {_MOST_NODES}"
    for name in sorted({node.op_type for node in graph.node if node.domain or _has_graph(node)}):
        yield f"uses {name}, which is not a standard operator without a graph of its own"
    for tensor in _external(model):
        place = {entry.key: entry.value for entry in tensor.external_data}
        offset, length = _whole(place.get("offset")), _whole(place.get("length"))
        if place.get("location") != WEIGHTS_NAME or offset is None or length is None or offset + length > weights_size:
            yield f"refers for {tensor.name!r} to what is not in {WEIGHTS_NAME}"
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.data_location:
            try:
                finite = np.isfinite(onnx.numpy_helper.to_array(tensor)).all()
            except ValueError:
                finite = False
            if not finite:
                yield f"holds numbers in {tensor.name!r} that are not finite"


def _has_graph(node: Any) -> bool:
    """Whether an operator runs a graph of its own, such as a loop's."""
    return any(part.HasField("g") or part.graphs for part in node.attribute)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 16 else None


def _external(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a message whose content lies in another file."""
    if message.DESCRIPTOR.name == "TensorProto":
        if message.data_location or message.external_data:
            yield message
        return
    for kind, value in message.ListFields():
        if kind.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _external(part)
