"""Whether a single TOML value is of the type that a field wants, and in words what it is and what it should be."""

from __future__ import annotations

import datetime
import math
from typing import Any, Final

import attrs
import tomli

from .fields import Array, Choice, Either, Fixed, Scalar, Section, Shape, Slot, Table

_NOUNS = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
_PLURALS = {bool: "booleans", int: "integers", float: "numbers", str: "strings"}
_LARGEST = 2**63 - 1


class _Failed:
    """Stands for a value that was refused; its problem is already reported."""


FAILED: Final = _Failed()


@attrs.frozen
class Refusal:
    message: str
    hint: str | None = None


def scalar(wanted: type, value: Any) -> Refusal | None:
    """Why `value` is not a `wanted`, or None. Nothing is coerced; an integer may stand for a float."""
    kind = type(value)
    if kind is float and not math.isfinite(value):
        return Refusal(f"must be a finite number, got {got(value)}")
    if kind is int and not -_LARGEST - 1 <= value <= _LARGEST:
        return Refusal("the integer does not fit into 64 bits")
    if kind is str and not _is_unicode(value):
        return Refusal("holds bytes that are no UTF-8, which no file of ours could carry")
    if kind is wanted or (wanted is float and kind is int):
        return None
    return Refusal(f"expected {_NOUNS[wanted]}, got {got(value)}", _conversion(wanted, value))


def choice(values: tuple[Any, ...], value: Any) -> Refusal | None:
    """Why `value` is none of `values` (compared with their types), or None."""
    if any(type(value) is type(known) and value == known for known in values):
        return None
    hint = None
    if isinstance(value, str):
        from .hints import nearest

        hint = nearest(value, [known for known in values if isinstance(known, str)])
        hint = hint if hint and hint.startswith("did") else None
    return Refusal(f"expected {expected(Choice(values))}, got {got(value)}", hint)


def _conversion(wanted: type, value: Any) -> str | None:
    if wanted is str:
        is_word = isinstance(value, bool | int | float | datetime.date | datetime.time)
        return "strings need quotes" if is_word else None
    if isinstance(value, str):
        text = value.strip()
        if wanted is bool:
            return f"write {text.lower()} without quotes" if text.lower() in ("true", "false") else None
        return f"write {text} without quotes" if scalar(wanted, _unquoted(text)) is None else None
    if wanted is bool and value in (0, 1):
        return f"write {'true' if value else 'false'}"
    if wanted is int and isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST:
        return f"write {int(value)}"
    return None


def _unquoted(text: str) -> Any:
    """What a text would be as a TOML value; None where it would be none."""
    try:
        values = tomli.loads(f"x = {text}")
    except (ValueError, RecursionError):
        return None
    return None if "#" in text or set(values) != {"x"} else values["x"]


def _is_unicode(text: str) -> bool:
    """Whether a text can be written: arguments and variables of the environment may hold any bytes (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def literal(value: Any) -> str:
    """A scalar as TOML writes it, near enough to read."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def got(value: Any) -> str:
    """A TOML value in words."""
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return literal(value)
    if isinstance(value, str):
        return f"the string {literal(value if len(value) <= 60 else value[:57] + '...')}"
    if isinstance(value, int):
        return f"the integer {value}" if abs(value) <= _LARGEST else "a huge integer"
    if isinstance(value, float):
        return f"the float {value}"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if value is None:
        return "null"
    if isinstance(value, datetime.date | datetime.time):
        return "a date or time"
    return f"{value!r}"


def expected(shape: Shape) -> str:
    """What a shape takes, in words."""
    match shape:
        case Scalar(kind):
            return _NOUNS[kind]
        case Choice(values):
            named = ", ".join(map(literal, values))
            return f"one of {named}" if len(values) > 1 else named
        case Array(item):
            return f"an array of {_plural(item)}"
        case Fixed(items):
            kinds = {_plural(item) for item in items}
            return f"an array of {len(items)} {kinds.pop() if len(kinds) == 1 else 'items'}"
        case Either(options):
            return " or ".join(map(expected, options))
        case Table() | Section() | Slot():
            return "a table"


def _plural(shape: Shape) -> str:
    match shape:
        case Scalar(kind):
            return _PLURALS[kind]
        case Choice(values):
            return f"values of {', '.join(map(literal, values))}"
        case Array() | Fixed():
            return "arrays"
        case Table() | Section() | Slot():
            return "tables"
        case Either():
            return "items"
