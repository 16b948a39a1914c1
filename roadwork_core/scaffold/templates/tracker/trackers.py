"""The tracker itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker


class TextTracker(GeneralTracker):  # type: ignore[misc]
    """One line of text for each call of `log`."""

    name = "example"
    requires_logging_directory = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def tracker(self) -> Path:
        return self.path

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._write("configuration", values)

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self._write(f"step {step}", values)

    def _write(self, what: str, values: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            words = " ".join(f"{key}={value}" for key, value in values.items())
            print(what, words, file=file)
