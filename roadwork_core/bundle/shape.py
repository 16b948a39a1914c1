"""The shape that a JSON document must have, as composable checks that report every deviation with its key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import Problem

#: Yields what is wrong with a value found at a dotted key.
Shape = Callable[[Any, str], Iterator[Problem]]

MISSING = "is missing"
UNKNOWN = "is not a key of this format"


def shown(value: Any, limit: int = 60) -> str:
    """A value from a stranger on one printable line of at most `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in _clean(text))


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _type_name(value: Any) -> str:
    names = {
        dict: "a table",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def text(pattern: str = r"(?s).*", *, what: str = "") -> Shape:
    """A string that matches `pattern` whole; `what` says in words what was expected."""
    compiled = re.compile(pattern)

    def check(value: Any, key: str) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield Problem(f"must be a string, not {_type_name(value)}", key)
        elif not compiled.fullmatch(value):
            yield Problem(f"must be {what or f'like {pattern}'}, got {shown(value)!r}", key)

    return check


def exactly(expected: Any) -> Shape:
    def check(value: Any, key: str) -> Iterator[Problem]:
        if type(value) is not type(expected) or value != expected:
            yield Problem(f"must be {expected!r}, got {shown(value)!s}", key)

    return check


def one_of(*choices: Any) -> Shape:
    def check(value: Any, key: str) -> Iterator[Problem]:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            yield Problem(f"must be one of {', '.join(map(repr, choices))}, got {shown(value)!s}", key)

    return check


def integer(minimum: int | None = None) -> Shape:
    def check(value: Any, key: str) -> Iterator[Problem]:
        if not isinstance(value, int) or isinstance(value, bool):
            yield Problem(f"must be an integer, not {_type_name(value)}", key)
        elif minimum is not None and value < minimum:
            yield Problem(f"must be at least {minimum}, got {shown(value)}", key)

    return check


def number(minimum: float | None = None) -> Shape:
    def check(value: Any, key: str) -> Iterator[Problem]:
        if not isinstance(value, int | float) or isinstance(value, bool):
            yield Problem(f"must be a number, not {_type_name(value)}", key)
        elif minimum is not None and value < minimum:
            yield Problem(f"must be at least {minimum:g}, got {shown(value)}", key)

    return check


def anything(value: Any, key: str) -> Iterator[Problem]:
    yield from ()


def nullable(shape: Shape) -> Shape:
    def check(value: Any, key: str) -> Iterator[Problem]:
        if value is not None:
            yield from shape(value, key)

    return check


def array(items: Shape, *, length: int | None = None, minimum: int = 0, unique: bool = False) -> Shape:
    def check(value: Any, key: str) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield Problem(f"must be an array, not {_type_name(value)}", key)
            return
        if length is not None and len(value) != length:
            yield Problem(f"must have {length} items, has {len(value)}", key)
        if len(value) < minimum:
            yield Problem(f"must have at least {minimum} items, has {len(value)}", key)
        if unique and len({repr(item) for item in value}) < len(value):
            yield Problem("holds an item twice", key)
        for index, item in enumerate(value):
            yield from items(item, f"{key}.{index}")

    return check


def mapping(keys: Shape = anything, values: Shape = anything, *, minimum: int = 0) -> Shape:
    def check(value: Any, key: str) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield Problem(f"must be a table, not {_type_name(value)}", key)
            return
        if len(value) < minimum:
            yield Problem(f"must have at least {minimum} entries, has {len(value)}", key)
        for name, item in value.items():
            inner = f"{key}.{shown(name)}" if key else shown(name)
            yield from keys(name, inner)
            yield from values(item, inner)

    return check


def table(required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None, *, open: bool = False) -> Shape:
    """A table with these keys; others are refused unless `open`."""
    known = {**required, **(optional or {})}

    def check(value: Any, key: str) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield Problem(f"must be a table, not {_type_name(value)}", key or None)
            return
        prefix = f"{key}." if key else ""
        for name in required:
            if name not in value:
                yield Problem(MISSING, f"{prefix}{name}")
        for name, item in value.items():
            if name in known:
                yield from known[name](item, f"{prefix}{name}")
            elif not open:
                yield Problem(UNKNOWN, f"{prefix}{shown(name)}")

    return check
