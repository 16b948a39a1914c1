"""The options of the tracker; accelerate is imported when it is built."""

from __future__ import annotations

from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import TrackerContext


@component("tracker", "example")
class Example:
    """Writes each line of metrics as `key=value` words into a text file."""

    file: str = option(default="metrics.txt", pattern=r"[\w.-]+", help="name of the file in the run's tracker folder")

    def build(self, ctx: TrackerContext) -> Any:
        from .trackers import TextTracker

        return TextTracker(ctx.folder / self.file)
