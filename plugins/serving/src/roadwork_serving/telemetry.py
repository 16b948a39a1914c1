"""What a server tells of itself: metrics for Prometheus, and one JSON object per line of log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from roadwork_core.bundle import Bundle, Prediction
    from roadwork_core.errors import RoadworkError

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TENTHS = tuple(tenth / 10 for tenth in range(1, 11))


class Telemetry:
    """The metrics of one server, in a registry of their own, and its log. `stream` of None: no log of requests."""

    def __init__(self, stream: IO[str], *, access_log: bool = True) -> None:
        self._stream = stream
        self._access_log = access_log
        self.registry = CollectorRegistry()
        to = self.registry
        self._requests = Counter("roadwork_requests", "Requests answered.", ["route", "method", "status"], registry=to)
        self._seconds = Histogram(
            "roadwork_request_seconds",
            "From a request's head to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=to,
        )
        self._refused = Counter(
            "roadwork_refused", "Requests refused for want of time or room.", ["cause"], registry=to
        )
        self._decisions = Counter("roadwork_decisions", "Decisions on pictures.", ["policy", "outcome"], registry=to)
        self._fallbacks = Counter("roadwork_fallbacks", "Decisions in which a fallback stood in.", registry=to)
        self._scores = Histogram("roadwork_score", "P(positive) of the decisions.", buckets=_TENTHS, registry=to)
        self._switches = Counter("roadwork_switches", "Attempts to change the bundle.", ["result"], registry=to)
        self._info = Gauge("roadwork_bundle_info", "The bundle that answers.", ["name", "bundle_id"], registry=to)
        self._feedback = Counter("roadwork_feedback", "Predictions for the feedback store.", ["result"], registry=to)
        self._labelled = Counter("roadwork_feedback_labels", "Labels written to the feedback store.", registry=to)
        self.feedback_waiting = Gauge("roadwork_feedback_waiting", "Entries not yet in the store.", registry=to)
        self.in_flight = Gauge("roadwork_in_flight", "Requests taken on and not yet answered.", registry=to)

    def exposition(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def event(self, kind: str, **facts: Any) -> None:
        """One line of log."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            print(json.dumps({"time": now, "event": kind, **facts}, default=str), file=self._stream, flush=True)
        except (OSError, ValueError):
            return  # whoever read the log went away; the server goes on

    def request(self, *, route: str, method: str, status: int, seconds: float, **facts: Any) -> None:
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if self._access_log:
            self.event("request", route=route, method=method, status=status, seconds=round(seconds, 6), **facts)

    def refused(self, cause: str) -> None:
        self._refused.labels(cause).inc()

    def predictions(self, found: Iterable[Prediction], fallbacks: int) -> None:
        for prediction in found:
            outcome = "error" if prediction.error else "abstain" if prediction.abstain else str(prediction.label)
            self._decisions.labels(prediction.policy or "none", outcome).inc()
            if not prediction.error:
                self._scores.observe(prediction.score)
        if fallbacks:
            self._fallbacks.inc(fallbacks)

    def feedback(self, result: str, count: int = 1) -> None:
        self._feedback.labels(result).inc(count)

    def labelled(self) -> None:
        self._labelled.inc()

    def bundle(self, bundle: Bundle) -> None:
        self._info.clear()
        self._info.labels(bundle.name, bundle.id).set(1)

    def switched(self, before: Bundle, after: Bundle, backend: str) -> None:
        self.bundle(after)
        self._switches.labels("switched").inc()
        self.event("switched", name=after.name, before=before.id, after=after.id, backend=backend)

    def switch_failed(self, error: RoadworkError) -> None:
        self._switches.labels("failed").inc()
        self.event("switch failed", problems=[str(problem) for problem in error.problems()])


class LogHandler(logging.Handler):
    """Puts the server library's own warnings into the log."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__(logging.WARNING)
        self._telemetry = telemetry

    def emit(self, record: logging.LogRecord) -> None:
        self._telemetry.event(record.levelname.lower(), message=record.getMessage())
