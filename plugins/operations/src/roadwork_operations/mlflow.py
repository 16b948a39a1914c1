"""Accelerate's MLflow tracker, with a database of its own in the tracker's folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.tracking import MLflowTracker, on_main_process

from roadwork_core.files import write_atomic

DATABASE = "mlflow.db"
#: Names the MLflow run that a resumed training goes on with.
RUN_ID = "run_id"
#: Characters of a value of the configuration that MLflow keeps.
LONGEST = 6000


class RunMlflow(MLflowTracker):  # type: ignore[misc]
    """Writes into one MLflow run for as long as the configuration stays the same, each step once.

    A training that goes on from its checkpoint repeats steps with the same values: those that are there are left out.
    """

    #: Made by `start`.
    active_run: Any = None

    def __init__(self, run_name: str, folder: Path, uri: str | None) -> None:
        super().__init__(experiment_name=run_name, logging_dir=str(folder / "artifacts"), run_name=run_name)
        self.folder = folder
        self._uri = uri
        self._last = -1

    @property
    def uri(self) -> str:
        """Of the store: a server or database that was named, else SQLite in the folder."""
        import sqlalchemy

        if self._uri is not None:
            return self._uri
        return sqlalchemy.URL.create("sqlite", database=str(self.folder / DATABASE)).render_as_string()

    @on_main_process  # type: ignore[untyped-decorator]
    def start(self) -> None:
        # Read when mlflow is imported first.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        noted = self.folder / RUN_ID
        there = self._uri is not None or (self.folder / DATABASE).is_file()
        self.run_id = noted.read_text().strip() if there and noted.is_file() else None
        mlflow.set_tracking_uri(self.uri)
        super().start()
        write_atomic(noted, f"{self.active_run.info.run_id}\n".encode())

    @on_main_process  # type: ignore[untyped-decorator]
    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        import mlflow

        given = {key: str(value)[:LONGEST] for key, value in values.items() if value is not None}
        before = mlflow.get_run(self.active_run.info.run_id).data
        if before.params and before.params != given:
            mlflow.end_run()
            (self.folder / RUN_ID).unlink()
            self.start()
        elif before.params:
            self._last = max(
                (
                    metric.step
                    for name in before.metrics
                    for metric in mlflow.MlflowClient().get_metric_history(self.active_run.info.run_id, name)
                ),
                default=-1,
            )
            return
        super().store_init_configuration(given)

    @on_main_process  # type: ignore[untyped-decorator]
    def log(self, values: Mapping[str, Any], step: int | None = None, **options: Any) -> None:
        if step is not None and step <= self._last:
            return
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
        super().log(numbers, step=step, **options)
