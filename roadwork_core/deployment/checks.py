"""What a bundle must show before it is deployed: that it works, fast enough, and better than what is served."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import resolve
from ..bundle import Level, verify
from ..bundle.format import GOLDEN_INPUTS
from ..errors import Problem, UsageError, VerificationError
from .folder import DIGITS

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..bundle.runtime import Runtime
    from ..console import Console
    from ..plugins import Plugins

#: Timed predictions, after those that warm up.
REPEATS, WARM_UP = 30, 3
SCHEMA_OF_A_CHALLENGE = "roadwork.challenge/1"


def verified(path: Path, plugins: Plugins, console: Console, *, device: str = "cpu") -> tuple[Bundle, Runtime]:
    """The bundle, replayed on `device` by all that can compute it, and what would serve it there.

    Raises VerificationError with every failure, UsageError where there is no bundle.
    """
    found = verify(path, Level.REPLAY, plugins, device=device)
    for warning in found.warnings:
        console.warn(warning)
    found.raise_for_failures()
    if found.bundle is None:
        raise VerificationError("the bundle could not be read", path=path)
    serves = resolve("auto", carries_onnx=found.bundle.carries_onnx, device=device)
    return found.bundle, found.runtimes[serves]


def latency(runtime: Runtime) -> dict[str, float]:
    """Milliseconds from one decoded picture to its decision: median and 95th percentile over the golden pictures."""
    from ..bundle.golden import read_pictures

    pictures = read_pictures(runtime.bundle.path / GOLDEN_INPUTS)
    times = []
    for repeat in range(WARM_UP + REPEATS):
        begin = time.perf_counter()
        logits = runtime.scorer.logits([pictures[repeat % len(pictures)]])
        runtime.decider.decide(logits, policy=runtime.bundle.active)
        times.append(1000 * (time.perf_counter() - begin))
    return {
        name: round(float(np.percentile(times[WARM_UP:], percent)), 3) for name, percent in (("p50", 50), ("p95", 95))
    }


def check_latency(measured: dict[str, float], limit: float, path: Path) -> None:
    """Raises VerificationError where the 95th percentile is above `limit` milliseconds."""
    if measured["p95"] > limit:
        message = f"one picture takes {measured['p95']:.1f} ms (95th percentile), the budget is {limit:g} ms"
        raise VerificationError(message, [Problem(message, hint="a smaller model, fewer views, or a larger --max-ms")])


def check_challenge(record: Path, bundle_id: str, current: str | None) -> None:
    """Raises VerificationError unless the record that `roadwork retrain` wrote promotes this bundle over the version
    `current`, if there is one other than this bundle itself.

    Raises UsageError where the file is not such a record.
    """
    try:
        document: Any = json.loads(record.read_bytes())
        if document["schema"] != SCHEMA_OF_A_CHALLENGE:
            raise ValueError(f"its schema is {document['schema']!r}")
        promoted, reason = document["promoted"], document["reason"]
        challenger, champion = str(document["challenger"]["bundle_id"]), str(document["champion"]["bundle_id"])
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", path=record) from None
    except (ValueError, TypeError, LookupError) as error:
        raise UsageError(f"is not a record of roadwork retrain: {error}", path=record) from None
    if challenger != bundle_id:
        raise VerificationError(
            f"the record is of challenger {challenger[:DIGITS]}, not {bundle_id[:DIGITS]}", path=record
        )
    if current is not None and current[:DIGITS] not in (champion[:DIGITS], bundle_id[:DIGITS]):
        raise VerificationError(
            f"the record compares with {champion[:DIGITS]}, but {current[:DIGITS]} is deployed", path=record
        )
    if promoted is not True:
        raise VerificationError(f"the challenger was not promoted: {reason}", path=record)
