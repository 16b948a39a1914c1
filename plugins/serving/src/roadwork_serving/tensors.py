"""Tensors of the Open Inference Protocol, as JSON or in its binary form, to pictures and from decisions."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from pydantic import ValidationError

from .documents import InferRequest, InputTensor, problem_of
from .pictures import OPTIONS, Answer, Asked, Picture, check_count
from .reading import choice_of, from_base64
from .refusals import Refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from roadwork_core.bundle import Bundle

FILES, PIXELS = "image", "pixels"
OUTPUTS = {
    "label": "BYTES",
    "abstain": "BOOL",
    "score": "FP64",
    "set": "BOOL",
    "policy": "BYTES",
    "reason": "BYTES",
    "key": "BYTES",
}


@frozen
class Wanted:
    """A request: its pictures, and the outputs to give, each with whether in binary form."""

    id: str | None
    asked: Asked
    outputs: Mapping[str, bool]


def read_request(body: bytes, json_size: int | None, *, max_images: int, max_pixels: int) -> Wanted:
    """A request whose first `json_size` bytes (None: all) are JSON and whose rest are binary tensors.

    Raises Refusal for what is no such request.
    """
    size = len(body) if json_size is None else json_size
    if not 0 <= size <= len(body):
        raise _bad("Inference-Header-Content-Length is no length within the body")
    try:
        wanted = InferRequest.model_validate_json(body[:size])
    except ValidationError as error:
        raise problem_of(error) from None
    rest = body[size:]
    if len(wanted.inputs) != 1 or wanted.inputs[0].name not in (FILES, PIXELS):
        raise _bad(f"give one input, {FILES!r} (BYTES) or {PIXELS!r} (UINT8)")
    tensor = wanted.inputs[0]
    raw = _binary(tensor, rest)
    pictures = _files(tensor, raw, max_images) if tensor.name == FILES else _arrays(tensor, raw, max_images, max_pixels)
    choice = choice_of({name: wanted.parameters[name] for name in OPTIONS if name in wanted.parameters})
    return Wanted(wanted.id, Asked(pictures=pictures, names=[None] * len(pictures), choice=choice), _outputs(wanted))


def _bad(message: str) -> Refusal:
    return Refusal(400, "bad_request", message)


def _binary(tensor: InputTensor, rest: bytes) -> bytes | None:
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if rest:
            raise _bad("there are bytes after the JSON that belong to no input")
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size != len(rest) or tensor.data is not None:
        raise _bad(f"{tensor.name}: binary_data_size is not the number of bytes after the JSON, or there is data too")
    return rest


def _count(tensor: InputTensor) -> int:
    if not tensor.shape or any(side < 0 or side > 2**31 for side in tensor.shape):
        raise _bad(f"{tensor.name}: not a shape")
    return math.prod(tensor.shape)


def _files(tensor: InputTensor, raw: bytes | None, max_images: int) -> list[Picture]:
    count = _count(tensor)
    if tensor.datatype != "BYTES" or any(side != 1 for side in tensor.shape[1:]):
        raise _bad(f"{FILES} is of datatype BYTES and shape [n]")
    check_count(count, max_images)
    if raw is not None:
        found: list[Picture] = list(_elements(raw))
    else:
        texts = list(_flat(tensor.data))
        if not all(isinstance(text, str) for text in texts):
            raise _bad(f"{FILES}: in JSON its elements are base64 text")
        found = [from_base64(text) for text in texts]
    if len(found) != count:
        raise _bad(f"{FILES}: {len(found)} elements for a shape of {count}")
    return found


def _elements(raw: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        size = struct.unpack_from("<I", raw, start)[0] if start + 4 <= len(raw) else len(raw)
        start += 4
        if start + size > len(raw):
            raise _bad(f"{FILES}: a length reaches beyond the tensor")
        yield raw[start : start + size]
        start += size


def _arrays(tensor: InputTensor, raw: bytes | None, max_images: int, max_pixels: int) -> list[Picture]:
    count = _count(tensor)
    shape = tensor.shape if len(tensor.shape) == 4 else [1, *tensor.shape]
    if tensor.datatype != "UINT8" or len(shape) != 4 or shape[3] != 3 or 0 in shape[1:]:
        raise _bad(f"{PIXELS} is of datatype UINT8 and shape [n, height, width, 3] or [height, width, 3], RGB")
    check_count(shape[0], max_images)
    if count // 3 > max_pixels:
        raise Refusal(413, "too_many_pixels", f"more pixels than the limit of {max_pixels} in a request")
    if raw is None:
        values = list(_flat(tensor.data))
        if not all(type(value) is int and 0 <= value <= 255 for value in values):
            raise _bad(f"{PIXELS}: its elements are whole numbers from 0 to 255")
        raw = bytes(values)
    if len(raw) != count:
        raise _bad(f"{PIXELS}: {len(raw)} elements for a shape of {count}")
    pixels = np.frombuffer(raw, dtype=np.uint8).reshape(shape)
    return list(pixels)


def _flat(data: Sequence[Any] | None) -> Iterator[Any]:
    for value in data or ():
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _outputs(wanted: InferRequest) -> dict[str, bool]:
    everywhere = wanted.parameters.get("binary_data_output") is True
    if not wanted.outputs:
        return dict.fromkeys(OUTPUTS, everywhere)
    if unknown := [output.name for output in wanted.outputs if output.name not in OUTPUTS]:
        raise _bad(f"unknown output {unknown[0]!r}; there are {', '.join(OUTPUTS)}")
    return {output.name: output.parameters.get("binary_data", everywhere) is True for output in wanted.outputs}


def write_answer(bundle: Bundle, wanted: Wanted, answers: Sequence[Answer]) -> tuple[bytes, int | None]:
    """The body of an answer and, where some tensors are binary, how many of its bytes are JSON."""
    found = [answer.prediction for answer in answers]
    columns: dict[str, NDArray[Any]] = {
        "label": np.array([prediction.label or "" for prediction in found], dtype=object),
        "abstain": np.array([prediction.abstain for prediction in found], dtype=np.bool_),
        "score": np.array([prediction.score for prediction in found], dtype=np.float64),
        "set": np.array([[label in prediction.labels for label in bundle.labels] for prediction in found]),
        "policy": np.array([prediction.policy for prediction in found], dtype=object),
        "reason": np.array([prediction.reason for prediction in found], dtype=object),
        "key": np.array([answer.key or "" for answer in answers], dtype=object),
    }
    tensors: list[dict[str, Any]] = []
    tail = b""
    for name, binary in wanted.outputs.items():
        column = columns[name]
        tensor: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": list(column.shape)}
        if binary:
            raw = _raw(column)
            tensor["parameters"] = {"binary_data_size": len(raw)}
            tail += raw
        else:
            tensor["data"] = column.ravel().tolist()
        tensors.append(tensor)
    answer: dict[str, Any] = {"model_name": bundle.name, "model_version": bundle.id, "outputs": tensors}
    if wanted.id is not None:
        answer["id"] = wanted.id
    head = json.dumps(answer, allow_nan=False).encode()
    return head + tail, len(head) if any(wanted.outputs.values()) else None


def _raw(column: NDArray[Any]) -> bytes:
    if column.dtype != object:
        return column.tobytes()
    texts = [str(text).encode() for text in column.tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
