"""Plain values written as TOML, always the same way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .tree import KeyPath, format_key
from .variables import escape

#: What to say after the line of a key, or None.
Note = Callable[[KeyPath], str | None]


def dump_toml(values: Mapping[str, Any], *, note: Note | None = None) -> str:
    """Deterministic TOML of plain values, in their order: scalars and arrays of a table first, then its tables.

    TOML has no null, so None is left out (a spec's None is the absence of the key). A `${` is escaped, so that
    `load_spec` gives back the same values. `note` adds a comment to each line that sets a key.
    """
    lines = list(_table(values, (), note))
    return "\n".join(lines).strip("\n") + "\n"


def _table(values: Mapping[str, Any], path: KeyPath, note: Note | None) -> Iterator[str]:
    present = {key: value for key, value in values.items() if value is not None}
    for key, value in present.items():
        if not _is_nested(value):
            yield _line(f"{format_key((key,))} = {toml_value(value)}", (*path, key), note)
    for key, value in present.items():
        place = (*path, key)
        if isinstance(value, Mapping):
            # A table that holds only tables needs no header of its own.
            written = [item for item in value.values() if item is not None]
            if not written or not all(map(_is_nested, written)):
                yield ""
                yield f"[{_name(place)}]"
            yield from _table(value, place, note)
        elif _is_nested(value):
            for index, item in enumerate(value):
                yield ""
                yield f"[[{_name(place)}]]"
                yield from _table(item, (*place, index), note)


def _name(path: KeyPath) -> str:
    """A header's name: the items of arrays of tables are implied by order."""
    return format_key(tuple(part for part in path if isinstance(part, str)))


def _line(text: str, path: KeyPath, note: Note | None) -> str:
    said = note(path) if note is not None else None
    return f"{text}  # {said}" if said else text


def _is_nested(value: Any) -> bool:
    """Whether a value stands under a header of its own."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping)


def toml_value(value: Any) -> str:
    """A plain value on one line, as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(escape(value))
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        items = (f"{format_key((key,))} = {toml_value(item)}" for key, item in value.items() if item is not None)
        return f"{{ {', '.join(items)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    raise TypeError(f"TOML cannot hold {value!r}")


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
