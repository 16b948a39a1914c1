"""The factor on the learning rate as a function of the number of optimizer steps done."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

Factor = Callable[[int], float]

# torch keeps the `__dict__` of such a callable in the scheduler's state, so they hold plain numbers and have one.


@attrs.define(slots=False, kw_only=True)
class Constant:
    """Rises over `warmup_steps`, then stays 1."""

    warmup_steps: int
    total_steps: int

    def __call__(self, step: int) -> float:
        return _rise(step, self.warmup_steps)


@attrs.define(slots=False, kw_only=True)
class Cosine:
    """Rises over `warmup_steps`, then least + (1 - least) (1 + cos(pi x)) / 2 for the part x of the rest done."""

    warmup_steps: int
    total_steps: int
    least: float

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return _rise(step, self.warmup_steps)
        return _half_cosine(1.0, self.least, _part(step, self.warmup_steps, self.total_steps))


@attrs.define(slots=False, kw_only=True)
class Linear:
    """Rises over `warmup_steps`, then falls in a straight line to `least`."""

    warmup_steps: int
    total_steps: int
    least: float

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return _rise(step, self.warmup_steps)
        return 1.0 + (self.least - 1.0) * _part(step, self.warmup_steps, self.total_steps)


@attrs.define(slots=False, kw_only=True)
class OneCycle:
    """From `start` to 1 over `warmup_steps`, then to `least`, each along half a cosine."""

    warmup_steps: int
    total_steps: int
    start: float
    least: float

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return _half_cosine(self.start, 1.0, step / self.warmup_steps)
        return _half_cosine(1.0, self.least, _part(step, self.warmup_steps, self.total_steps))


@attrs.define(slots=False, kw_only=True)
class WarmupStableDecay:
    """Rises over `warmup_steps`, stays 1, then falls to `least` over the last `decay_steps`, along `shape`."""

    warmup_steps: int
    total_steps: int
    decay_steps: int
    shape: str
    least: float

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return _rise(step, self.warmup_steps)
        first = self.total_steps - self.decay_steps
        if step < first:
            return 1.0
        part = _part(step, first, self.total_steps)
        if self.shape == "cosine":
            return _half_cosine(1.0, self.least, part)
        fallen = part**0.5 if self.shape == "1-sqrt" else part
        return 1.0 + (self.least - 1.0) * fallen


def _rise(step: int, warmup_steps: int) -> float:
    # Never 0: the first step must not be wasted.
    return min(1.0, (step + 1) / (warmup_steps + 1))


def _part(step: int, first: int, total: int) -> float:
    return min(1.0, (step - first) / max(1, total - first))


def _half_cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * part)) / 2.0
