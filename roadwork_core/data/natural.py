"""The order in which people number things: frame2 before frame10."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(\d+)")


def natural_key(text: str) -> tuple[tuple[int, int, str, str], ...]:
    """Sorts text by its parts, runs of digits by their value; different texts have different keys."""
    return tuple(map(_part_key, _NUMBER.split(text)))


def _part_key(part: str) -> tuple[int, int, str, str]:
    if part.isascii() and part.isdigit():
        digits = part.lstrip("0")
        return 0, len(digits), digits, part
    return 1, 0, part, part
