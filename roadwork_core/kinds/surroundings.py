"""Trackers and exporters: what each is given and must make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

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
