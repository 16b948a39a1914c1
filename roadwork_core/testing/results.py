"""Whether two results are the same, down to the last bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs


def difference(first: Any, second: Any, path: str = "result") -> str | None:
    """Where two results differ, as one line, or None. Tensors and arrays are compared exactly, nan equal to nan."""
    if hasattr(first, "detach"):
        first, second = _plain(first), _plain(second)
    if hasattr(first, "dtype") and hasattr(first, "shape"):
        return _array_difference(first, second, path)
    if attrs.has(type(first)) and type(first) is type(second):
        first, second = _fields(first), _fields(second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if list(first) != list(second):
            return f"{path} has the keys {list(first)} and then {list(second)}"
        pairs = [(f"{path}.{key}", first[key], second[key]) for key in first]
    elif _is_list(first) and _is_list(second):
        if len(first) != len(second):
            return f"{path} has {len(first)} items and then {len(second)}"
        pairs = [(f"{path}[{index}]", one, two) for index, (one, two) in enumerate(zip(first, second, strict=True))]
    else:
        same = first == second or (first != first and second != second)
        return None if same else f"{path} is {_short(first)} and then {_short(second)}"
    return next((found for name, one, two in pairs if (found := difference(one, two, name))), None)


def _array_difference(first: Any, second: Any, path: str) -> str | None:
    import numpy as np

    second = np.asarray(second)
    if first.shape != second.shape or first.dtype != second.dtype:
        return f"{path} is {first.dtype} {first.shape} and then {second.dtype} {second.shape}"
    numbers = first.dtype.kind in "fc"
    if np.array_equal(first, second, equal_nan=numbers):
        return None
    if not numbers:
        return f"{path} differs"
    return f"{path} differs by up to {np.nanmax(np.abs(first - second)):.3g}"


def _plain(value: Any) -> Any:
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
