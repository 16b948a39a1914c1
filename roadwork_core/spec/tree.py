"""A TOML document whose every value knows where it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ..errors import Origin

KeyPath = tuple[str | int, ...]

DEFAULT = Origin("default")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class _Unknown:
    """The value of a node that could not be resolved; its problem is already reported."""

    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN = _Unknown()


@attrs.frozen
class Node:
    """A scalar, a table (dict of nodes) or an array (list of nodes), and where it stands.

    `folder` is the folder of the file in which the text stands: the meaning of `${spec_dir}` there.
    """

    value: Any
    origin: Origin
    folder: Path

    @property
    def is_table(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def is_array(self) -> bool:
        return isinstance(self.value, list)

    def with_value(self, value: Any) -> Node:
        return Node(value, self.origin, self.folder)

    def plain(self) -> Any:
        """The value as tomli would give it."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, part: str | int) -> Node | None:
        """The member of a table by key, or of an array by index (also written as digits), or None."""
        found: Node | None = None
        if isinstance(self.value, dict):
            found = self.value.get(part)
        elif isinstance(self.value, list) and str(part).isdecimal() and int(part) < len(self.value):
            found = self.value[int(part)]
        return found

    def find(self, path: KeyPath) -> Node | None:
        node: Node | None = self
        for part in path:
            node = node.child(part) if node is not None else None
        return node


def node_of(value: Any, origin: Origin, folder: Path) -> Node:
    """Plain values (mappings, sequences, scalars) as nodes that all have one origin.

    Instances of sections and components become their tables.
    """
    if attrs.has(type(value)):
        from .values import table_of

        value = table_of(value)
    if isinstance(value, Mapping):
        return Node({str(key): node_of(item, origin, folder) for key, item in value.items()}, origin, folder)
    if isinstance(value, list | tuple):
        return Node([node_of(item, origin, folder) for item in value], origin, folder)
    return Node(value, origin, folder)


def format_key(path: KeyPath) -> str:
    """A key path as it is written in TOML: dotted, with quotes where a part needs them."""
    return ".".join(str(part) if isinstance(part, int) or _BARE.fullmatch(part) else _quoted(part) for part in path)


def _quoted(part: str) -> str:
    return json.dumps(part, ensure_ascii=False).replace("\x7f", "\\u007f")


def walk(values: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every leaf of plain values with its key path; an empty table or array is a leaf."""
    if isinstance(values, Mapping) and values:
        for key, item in values.items():
            yield from walk(item, (*path, key))
    elif isinstance(values, list | tuple) and values:
        for index, item in enumerate(values):
            yield from walk(item, (*path, index))
    else:
        yield path, values
