"""A stage context for `prepare` as a run would give it, from a [data] table and a temporary runs directory."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from roadwork_core.console import Console
from roadwork_core.data.sample import Row
from roadwork_core.data.table import read_rows
from roadwork_core.plugins import Plugins
from roadwork_core.runs import Run, StageContext
from roadwork_core.spec import load_spec
from roadwork_core.stages import prepare

SPLITS = ("train", "val_select", "val_calib", "test")


def context(folder: Path, data: str, *, seed: int = 0, attempt: str = "prepare") -> StageContext:
    """`data` is the body of the [data] table; sub-tables are written `[data.splits]`."""
    plugins = Plugins.load(["backbones", "datasets", "heads", "losses", "policies", "schedulers", "adapters", "tta"])
    spec = folder / "spec.toml"
    spec.write_text(f'spec_version = 1\nname = "t"\nseed = {seed}\n[backbone]\nuse = "small_cnn"\n[data]\n{data}\n')
    run = Run(name="t", path=folder / "runs" / "t")
    target = run.path / attempt
    target.mkdir(parents=True, exist_ok=True)
    return StageContext(
        stage="prepare",
        run=run,
        resolved=load_spec(spec, plugins),
        plugins=plugins,
        console=Console(stderr=io.StringIO(), stdout=io.StringIO()),
        folder=target,
        scratch=run.scratch("prepare"),
        reads=(),
    )


class Prepared:
    """What `prepare` wrote."""

    def __init__(self, ctx: StageContext) -> None:
        self.metrics = prepare.run(ctx)
        self.folder = ctx.folder
        self.messages = ctx.console.stderr.getvalue()  # type: ignore[attr-defined]
        self.rows: dict[str, list[Row]] = {
            split: read_rows(ctx.folder / "samples" / f"{split}.jsonl") for split in SPLITS
        }
        self.all_rows = sorted((row for rows in self.rows.values() for row in rows), key=lambda row: row.index)
        self.report: dict[str, Any] = json.loads((ctx.folder / "report.json").read_text())
        self.classes: dict[str, Any] = json.loads((ctx.folder / "classes.json").read_text())
        self.bad = [json.loads(line) for line in (ctx.folder / "bad_images.jsonl").read_text().splitlines()]
