"""A bundle's network in ONNX: what its file may be, and computing it with ONNX Runtime on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from attrs import field, frozen

from ..errors import Problem, RoadworkError
from .inventory import at

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from ..backends import Backend

INPUT, LOGITS, FEATURES = "pixel_values", "logits", "features"
#: What ONNX Runtime is told to be silent about: all but errors.
_ERRORS = 3


def session_of(path: Path, threads: int) -> Any:
    """An onnxruntime.InferenceSession on the CPU, each of whose calls computes with so many threads.

    With one thread a call computes in the thread that calls. Flushes no denormal numbers and spins no idle threads.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@frozen
class OnnxNetwork:
    """The network of a file, as `roadwork_core.inference.Network`; safe to share between threads.

    Raises RoadworkError for a file that ONNX Runtime cannot load.
    """

    backend: ClassVar[Backend] = "onnx"
    path: Path
    threads: int = 1
    _session: Any = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        try:
            object.__setattr__(self, "_session", session_of(self.path, self.threads))
        except Exception as error:  # ONNX Runtime's exceptions share no class of their own
            raise RoadworkError(f"ONNX Runtime cannot load the network: {' '.join(str(error).split())}") from error

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    def __call__(self, inputs: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        found = self._session.run(None, {INPUT: inputs.numpy()})
        return found[0].astype(np.float64), found[1] if len(found) > 1 else None

    def with_threads(self, threads: int) -> OnnxNetwork:
        return self if threads == self.threads else OnnxNetwork(self.path, threads)


def file_problems(root: Path, path: str, weights: str, described: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the ONNX file at `path` in a bundle: not ONNX, other outputs than `described`, or a reference
    to anything but its own `weights`."""
    import onnx

    try:
        model = onnx.load(root / path, load_external_data=False)
    except Exception as error:  # noqa: BLE001 - protobuf's errors share no class of their own
        yield Problem(f"is not an ONNX file: {' '.join(str(error).split())}", origin=at(path))
        return
    names = ([found.name for found in model.graph.input], [found.name for found in model.graph.output])
    stated = ([INPUT], list(described["outputs"]))
    if names != stated:
        yield Problem(f"takes {names[0]} and gives {names[1]}, not {stated[0]} and {stated[1]}", origin=at(path))
    size = (root / weights).stat().st_size
    wanted = Path(weights).name
    for tensor in _external(model):
        place = {entry.key: entry.value for entry in tensor.external_data}
        offset, length = _whole(place.get("offset")), _whole(place.get("length"))
        if place.get("location") != wanted or offset is None or length is None or offset + length > size:
            yield Problem(f"refers for {tensor.name!r} to what is not in {weights}", origin=at(path))


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
