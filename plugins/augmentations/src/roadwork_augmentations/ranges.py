"""Checks of options that are a range."""

from __future__ import annotations


def ordered(name: str, bounds: tuple[float, float]) -> None:
    """Raises ValueError unless `bounds` is (least, largest)."""
    if bounds[0] > bounds[1]:
        raise ValueError(f"{name} must be (least, largest), got {bounds}")
