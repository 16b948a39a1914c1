"""Checkpoints: one safetensors file each, the rest of the state as JSON in its header, whole or not there at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from roadwork_core.errors import RoadworkError
from roadwork_core.files import sync_directory

SCHEMA = "roadwork.checkpoint/1"
#: The one key of the safetensors header: one key, so that the same state is the same bytes.
HEADER = "roadwork"

_TENSOR, _TUPLE, _ITEMS, _FLOAT = "$tensor", "$tuple", "$items", "$float"


@frozen(kw_only=True)
class Checkpoint:
    """What a file holds: `state`, a JSON value, and `tensors` by name, on the CPU."""

    state: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name begins with `prefix` and a dot, without it."""
        start = f"{prefix}."
        return {name.removeprefix(start): tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def write_checkpoint(path: Path, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes both as one file that is there whole or not at all, also after a power cut.

    `state` is a JSON value. Tensors may be on any device and share memory.
    """
    from safetensors.torch import save_file

    document = json.dumps({"schema": SCHEMA, **state}, sort_keys=True, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with torch.no_grad():
        save_file(_separate(tensors), partial, metadata={HEADER: document})
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(path)
    sync_directory(path.parent)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, or None where there is none. Raises RoadworkError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    hint = "delete it to begin this stage anew"
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RoadworkError(f"the checkpoint cannot be read: {error}", path=path, hint=hint) from None
    if state.get("schema") != SCHEMA:
        raise RoadworkError(f"the checkpoint is of another format, {state.get('schema')}", path=path, hint=hint)
    return Checkpoint(state=state, tensors=tensors)


def read_state(path: Path) -> Mapping[str, Any] | None:
    """The state of the checkpoint at `path` without its tensors; None where there is none that can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            state = json.loads((file.metadata() or {})[HEADER])
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def to_json(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """A state dict (of an optimizer, scheduler, ...) as a JSON value; its tensors go into `tensors` below `name`.

    Keeps tuples, number keys and non-finite floats. Raises RoadworkError for anything that only a pickle could hold.
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {_TENSOR: name}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: repr(value)}
    if isinstance(value, list | tuple):
        items = [to_json(item, tensors, f"{name}.{index}") for index, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: to_json(item, tensors, f"{name}.{key}") for key, item in value.items()}
        return {_ITEMS: [[key, to_json(item, tensors, f"{name}.{key}")] for key, item in value.items()]}
    raise RoadworkError(
        f"{name} is a {type(value).__name__}, which a checkpoint cannot hold",
        hint="the state_dict of an optimizer or scheduler may hold tensors, numbers, strings, lists and mappings",
    )


def from_json(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `to_json` was given, with its tensors taken from `tensors`."""
    if isinstance(value, list):
        return [from_json(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _FLOAT in value:
        return float(value[_FLOAT])
    if _TUPLE in value:
        return tuple(from_json(item, tensors) for item in value[_TUPLE])
    if _ITEMS in value:
        return {key: from_json(item, tensors) for key, item in value[_ITEMS]}
    return {key: from_json(item, tensors) for key, item in value.items()}


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors of which no two share memory, as safetensors wants them."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        if place in seen or own.untyped_storage().nbytes() != own.nbytes:
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        found[name] = own
    return found
