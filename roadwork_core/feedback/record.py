"""What is kept of one prediction, and a label that comes later."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import field, frozen

#: The first second that is no time of a store: the year 10000, and any date in milliseconds by mistake.
_END_OF_TIME = 253_402_300_800.0
#: The largest number of float32.
_LARGEST = (2 - 2**-23) * 2.0**127


def _finite(values: Sequence[float] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    found = tuple(float(value) for value in values)
    if not found or not all(map(math.isfinite, found)):
        raise ValueError("logits and features are finite numbers, at least one")
    return found


def _float32(values: Sequence[float] | None) -> tuple[float, ...] | None:
    found = _finite(values)
    if found is not None and any(abs(value) > _LARGEST for value in found):
        raise ValueError("features are numbers of 32 bits, and one is too large")
    return found


def _time(value: float) -> float:
    if not 0 <= value < _END_OF_TIME:
        raise ValueError(f"a time is in seconds since 1970, not {value}")
    return float(value)


def _score(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"a score is in [0, 1], not {value}")
    return float(value)


@frozen(kw_only=True)
class Seen:
    """One prediction. `key` names it for a later label; `label` is None where the bundle abstained; `score` is
    P(positive) in [0, 1]; `time` in seconds since 1970 (UTC); `features` of any length, stored as float32.

    Raises ValueError for a score out of bounds, for numbers that are not finite and for a time that is none, such as
    one in milliseconds.
    """

    key: str
    time: float = field(converter=_time)
    bundle_id: str
    policy: str
    label: str | None
    score: float = field(converter=_score)
    path: str | None = None
    sha256: str | None = None
    logits: tuple[float, ...] | None = field(default=None, converter=_finite)
    features: tuple[float, ...] | None = field(default=None, converter=_float32)


@frozen(kw_only=True)
class Label:
    """What was true of a prediction named by its `key`, or of a picture named by `sha256` or `path`.

    Raises ValueError unless exactly one of the three is given, and for a time that is none.
    """

    label: str
    time: float = field(converter=_time)
    source: str = ""
    key: str | None = None
    sha256: str | None = None
    path: str | None = None

    def __attrs_post_init__(self) -> None:
        if sum(name is not None for name in (self.key, self.sha256, self.path)) != 1:
            raise ValueError("a label names a prediction by its key, or a picture by sha256 or path")

    @property
    def subject(self) -> str:
        """What the label is of, as one text."""
        if self.key is not None:
            return f"key:{self.key}"
        return f"sha256:{self.sha256}" if self.sha256 is not None else f"path:{self.path}"


@frozen(kw_only=True)
class Recorded:
    """A prediction with what was true (None while no label has come)."""

    seen: Seen
    truth: str | None
