"""The options of the trackers; accelerate, which brings torch, waits in the modules beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from roadwork_core import component, option
from roadwork_core.extras import Requirement, how_to_install, require
from roadwork_core.kinds import TrackerContext

if TYPE_CHECKING:
    from .jsonl import JsonlTracker
    from .mlflow import RunMlflow
    from .tensorboard import RunTensorBoard
    from .wandb import RunWandb


@component("tracker", "jsonl")
class Jsonl:
    """Metrics in a file, one JSON object a line, with the step; the configuration in config.json beside it."""

    filename: str = option(
        default="metrics.jsonl", pattern=r"[A-Za-z0-9_][A-Za-z0-9_.-]*", help="name of the file in the tracker's folder"
    )

    def build(self, ctx: TrackerContext) -> JsonlTracker:
        from .jsonl import JsonlTracker

        return JsonlTracker(ctx.run_name, ctx.folder, self.filename)


@component("tracker", "mlflow")
class Mlflow:
    """MLflow, in an SQLite database of the run or on a server, through Accelerate's own tracker; without telemetry.

    Needs the extra `mlflow` of roadwork.
    """

    uri: str | None = option(
        default=None,
        pattern=r"(sqlite|postgresql|mysql|https?)(\+\w+)?://.+",
        help="an MLflow server or database (default: mlflow.db in the tracker's folder)",
    )

    def needs(self) -> list[Requirement]:
        return [Requirement(("mlflow", "sqlalchemy", "alembic"), how_to_install("mlflow"))]

    def build(self, ctx: TrackerContext) -> RunMlflow:
        require('the tracker "mlflow"', self.needs())
        from .mlflow import RunMlflow

        return RunMlflow(ctx.run_name, ctx.folder, self.uri)


@component("tracker", "tensorboard")
class Tensorboard:
    """Event files for TensorBoard, through Accelerate's own tracker (needs the package tensorboard)."""

    flush_seconds: int = option(default=30, minimum=1, maximum=3600, help="how often events are written out")

    def needs(self) -> list[Requirement]:
        return [Requirement(("tensorboard",), "pip install tensorboard")]

    def build(self, ctx: TrackerContext) -> RunTensorBoard:
        require('the tracker "tensorboard"', self.needs())
        from .tensorboard import RunTensorBoard

        return RunTensorBoard(ctx.run_name, ctx.folder, flush_secs=self.flush_seconds)


@component("tracker", "wandb")
class Wandb:
    """Weights & Biases, offline in the tracker's folder or sent to its server, through Accelerate's own tracker.

    It is told the spec and the metrics; nothing of the machine, the code or its packages. Online it takes the key from
    the variable WANDB_API_KEY. Needs the extra `wandb` of roadwork.
    """

    mode: Literal["offline", "online"] = option(
        default="offline", help="keep it in the tracker's folder for `wandb sync`, or send it as it comes"
    )
    project: str | None = option(default=None, min_length=1, help="the project (default: the name of the run)")
    entity: str | None = option(default=None, min_length=1, help="the user or team (default: that of the key)")

    def needs(self) -> list[Requirement]:
        return [Requirement(("wandb",), how_to_install("wandb"))]

    def build(self, ctx: TrackerContext) -> RunWandb:
        require('the tracker "wandb"', self.needs())
        from .wandb import RunWandb

        return RunWandb(ctx.run_name, ctx.folder, mode=self.mode, project=self.project, entity=self.entity)
