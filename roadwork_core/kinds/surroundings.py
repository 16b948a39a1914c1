"""Trackers, exporters and leaderboards: what each is given and must make."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import field, frozen

from .kind import Report, silent

if TYPE_CHECKING:
    from ..bundle.runtime import Runtime
    from ..plugins import Plugins


@frozen(kw_only=True)
class TrackerContext:
    """`folder` is the tracker's own folder in the run directory."""

    run_name: str
    folder: Path


class TrackerComponent(Protocol):
    """Makes what `accelerate.Accelerator(log_with=...)` takes: a GeneralTracker, or the name of a built-in one."""

    def build(self, ctx: TrackerContext) -> Any: ...


@frozen(kw_only=True)
class ExporterContext:
    """`runtime` is a verified bundle on the CPU; `folder`, empty, becomes the export when `build` returns."""

    runtime: Runtime
    plugins: Plugins
    folder: Path
    report: Report = silent


class ExporterComponent(Protocol):
    """Writes the bundle into `ctx.folder` in a form of its own; data in formats that cannot carry code.

    `build` tries what it wrote on the golden pictures and returns a JSON table of what it found. It raises
    UsageError for a bundle that it cannot express, VerificationError where the export decides otherwise.
    """

    def build(self, ctx: ExporterContext) -> Mapping[str, Any]: ...


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{value!r:.40} is no finite score")
    return number


def _text(name: str) -> str:
    # JSON can say half a surrogate pair, which neither a file nor a terminal takes.
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(f"{name!r:.40} is no text")
    return name


@frozen(kw_only=True)
class Entry:
    """One line of a leaderboard: a name and a score, of which more is better.

    Raises ValueError for a score that is not finite and a name that cannot be written as UTF-8.
    """

    name: str = field(converter=_text)
    score: float = field(converter=_finite)


@frozen(kw_only=True)
class LeaderboardContext:
    """`environ` holds tokens, which stand in no spec, no message and no history."""

    environ: Mapping[str, str] = field(factory=lambda: os.environ, repr=False)
    report: Report = silent


class Leaderboard(Protocol):
    """A leaderboard that can be read, again and again, and that reading leaves as it is."""

    def read(self) -> Sequence[Entry]:
        """The entries as they stand now, each name once. Raises RoadworkError where it cannot be had."""
        ...


class LeaderboardComponent(Protocol):
    """`build` asks nobody yet; it raises UsageError where a token is missing."""

    @property
    def source(self) -> str:
        """What is read, in one line for people and for the history, without a secret: an address, a file."""
        ...

    def build(self, ctx: LeaderboardContext) -> Leaderboard: ...
