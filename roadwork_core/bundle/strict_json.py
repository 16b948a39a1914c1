"""JSON from strangers: read whole or refused with one reason, whatever the bytes are."""

from __future__ import annotations

import json
import math
import re
from typing import Any

#: Deeper nesting than any document of a bundle needs.
MAX_DEPTH = 64
_OUTSIDE_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class MalformedJson(ValueError):
    """Bytes that are not a JSON document that we accept; the message says why in one line."""


def parse_json(content: bytes) -> Any:
    """The value of a UTF-8 JSON document.

    Raises MalformedJson for anything that RFC 8259 does not allow, and for what it allows and nobody means:
    a key given twice, NaN and infinities (also as 1e999), lone surrogates, numbers of thousands of digits, nesting
    deeper than 64.
    """
    _check_depth(content)
    try:
        text = content.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite_float
        )
        _encodable(value)
    except MalformedJson:
        raise
    except UnicodeDecodeError as error:
        raise MalformedJson(f"not UTF-8 (byte {error.start})") from None
    except UnicodeEncodeError:
        raise MalformedJson("a string holds half of a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise MalformedJson(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except ValueError:
        raise MalformedJson("a number has too many digits") from None
    except RecursionError:
        raise MalformedJson(f"nested deeper than {MAX_DEPTH}") from None
    return value


def _check_depth(content: bytes) -> None:
    depth = 0
    for match in _OUTSIDE_STRINGS.finditer(content):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise MalformedJson(f"nested deeper than {MAX_DEPTH}")
        elif token in (b"]", b"}"):
            depth -= 1


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise MalformedJson(f"the key {key[:60]!r} is given twice")
            seen.add(key)
    return found


def _refuse_constant(name: str) -> Any:
    raise MalformedJson(f"{name} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedJson(f"{text[:20]} is too large a number")
    return value


def _encodable(value: Any) -> None:
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _encodable(item)
    elif isinstance(value, list):
        for item in value:
            _encodable(item)
