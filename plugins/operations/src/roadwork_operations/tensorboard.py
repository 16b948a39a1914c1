"""Accelerate's TensorBoard tracker, in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate.tracking import TensorBoardTracker


class RunTensorBoard(TensorBoardTracker):  # type: ignore[misc]
    """Leaves out values that TensorBoard refuses: None in the configuration, nested tables among the metrics."""

    #: Made by `start`.
    writer: Any = None

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        super().store_init_configuration({key: value for key, value in values.items() if value is not None})

    def log(self, values: Mapping[str, Any], step: int | None = None, **options: Any) -> None:
        flat: dict[str, Any] = {}
        for key, value in values.items():
            if isinstance(value, Mapping):
                flat |= {f"{key}/{name}": item for name, item in value.items()}
            elif value is not None:
                flat[key] = value
        super().log(flat, step=step, **options)
