"""What differs between two resolved specs: values, not text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from .tree import KeyPath, format_key


@attrs.frozen
class Difference:
    """A key with its value in each spec; None where the spec does not have it."""

    key: str
    before: Any
    after: Any

    @property
    def change(self) -> str:
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "change": self.change, "before": self.before, "after": self.after}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Every leaf that differs, in the order of `before`, then what only `after` has.

    Defaults count as values, so a spec that writes a default equals one that leaves it out. Arrays of scalars are
    compared whole; arrays of tables item by item.
    """
    left, right = dict(_leaves(before, ())), dict(_leaves(after, ()))
    paths = [*left, *(path for path in right if path not in left)]
    return [
        Difference(format_key(path), left.get(path), right.get(path))
        for path in paths
        if left.get(path) != right.get(path)
    ]


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    elif value is not None and not (isinstance(value, list) and not value):
        yield path, value
