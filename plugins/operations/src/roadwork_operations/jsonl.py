"""A tracker that needs nothing but a folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from roadwork_core.files import pretty_json, write_atomic


class JsonlTracker(GeneralTracker):  # type: ignore[misc]
    """Appends each call of `log` as a line. Values that JSON lacks (NaN, infinities) are written as their names.

    A run that goes on from an earlier step takes the place of the lines from that step on, so no step stands twice.
    """

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, run_name: str, folder: Path, filename: str) -> None:
        super().__init__()
        self.run_name = run_name
        self.path = folder / filename
        self._resumed = False

    @property
    def tracker(self) -> Path:
        """The file that is written."""
        return self.path

    @on_main_process  # type: ignore[untyped-decorator]
    def start(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    @on_main_process  # type: ignore[untyped-decorator]
    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        document = {"run": self.run_name, "config": {key: _plain(value) for key, value in values.items()}}
        write_atomic(self.path.with_name("config.json"), pretty_json(document))

    @on_main_process  # type: ignore[untyped-decorator]
    def log(self, values: Mapping[str, Any], step: int | None = None, **_: Any) -> None:
        if not self._resumed:
            self._drop_from(step)
            self._resumed = True
        line = {"step": step, **{key: _plain(value) for key, value in values.items()}}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

    @on_main_process  # type: ignore[untyped-decorator]
    def finish(self) -> None:
        """Every line is already in the file."""

    def _drop_from(self, step: int | None) -> None:
        if step is None or not self.path.is_file():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if (found := _step_of(line)) is not None and found < step]
        write_atomic(self.path, "".join(f"{line}\n" for line in kept).encode())


def _step_of(line: str) -> int | None:
    """The step of a line; None for one that was cut off when the process died."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    number = float(value)
    return number if math.isfinite(number) else repr(number)
