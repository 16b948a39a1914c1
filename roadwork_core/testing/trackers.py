"""What a tracker promises."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ..kinds import Kind, TrackerContext
from .contract import ComponentContract, refuse

_ATTRIBUTES = ("name", "requires_logging_directory", "tracker")


class TrackerContract(ComponentContract):
    """A tracker is what `accelerate.Accelerator(log_with=...)` takes, and writes into its own folder."""

    kind = Kind.TRACKER

    def exercise(self, component: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            tracker = component.build(TrackerContext(run_name="trial", folder=Path(folder)))
            self._log(tracker)
            return tracker if isinstance(tracker, str) else type(tracker).__name__

    def test_is_a_tracker(self) -> None:
        from accelerate.tracking import GeneralTracker
        from accelerate.utils import LoggerType

        for component in self.cases():
            with tempfile.TemporaryDirectory() as folder:
                tracker = component.build(TrackerContext(run_name="trial", folder=Path(folder)))
                if isinstance(tracker, str):
                    if tracker not in LoggerType.list():
                        refuse(f"{tracker!r} is no tracker of accelerate ({', '.join(map(str, LoggerType.list()))})")
                elif not isinstance(tracker, GeneralTracker):
                    refuse(f"build gives a {type(tracker).__name__}, no GeneralTracker and no name of one")
                elif missing := [name for name in _ATTRIBUTES if not hasattr(tracker, name)]:
                    refuse(f"the tracker has no {', '.join(missing)}")

    def test_writes_into_its_own_folder(self) -> None:
        for component in self.cases():
            with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as elsewhere:
                here = Path.cwd()
                os.chdir(elsewhere)
                try:
                    self._log(component.build(TrackerContext(run_name="trial", folder=Path(folder))))
                finally:
                    os.chdir(here)
                if left := sorted(path.name for path in Path(elsewhere).iterdir()):
                    refuse(f"it writes {', '.join(left)} into the current directory, not into ctx.folder")

    @staticmethod
    def _log(tracker: Any) -> None:
        """A short run, as accelerate would call it; a tracker given by name is accelerate's own."""
        from accelerate import PartialState

        if isinstance(tracker, str):
            return
        PartialState()
        tracker.start()
        tracker.store_init_configuration({"lr": 0.1, "name": "trial", "none": None})
        for step in range(2):
            tracker.log({"loss": 1.0 / (step + 1), "note": "text"}, step=step)
        tracker.finish()
