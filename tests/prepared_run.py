"""A run directory whose stage prepare is finished, and the context in which a later stage runs on it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

from roadwork_core.console import Console
from roadwork_core.data.sample import Row
from roadwork_core.data.table import write_rows
from roadwork_core.files import sha256_file
from roadwork_core.plugins import Plugins
from roadwork_core.runs import Run, StageContext
from roadwork_core.spec import load_spec
from roadwork_core.stages import STAGES

CLASSES = ("clear", "roadwork")
Labelled = tuple[Image.Image, int]


def write_prepared(folder: Path, splits: Mapping[str, Iterable[Labelled]], *, per_group: int = 2) -> Path:
    """Writes what prepare would, of pictures with their targets; `per_group` neighbours are a group."""
    index = 0
    for split, pictures in splits.items():
        rows = []
        for number, (picture, target) in enumerate(pictures):
            path = folder / f"{split}-{number}.png"
            picture.save(path)
            rows.append(
                Row(
                    index=index,
                    path=str(path),
                    label=CLASSES[target],
                    target=target,
                    split=split,
                    group=f"g, {number // per_group}",
                    sha256=sha256_file(path),
                    phash="",
                    width=picture.width,
                    height=picture.height,
                )
            )
            index += 1
        write_rows(folder / "prepare" / "samples" / f"{split}.jsonl", rows)
    (folder / "prepare" / "classes.json").write_text(json.dumps({"classes": CLASSES, "positive": 1}))
    return folder


def stage_context(
    stage: str, prepared: Path, plugins: Plugins, folder: Path, spec: str, *, console: Console | None = None
) -> StageContext:
    """The context of `stage` in the run directory `folder`, which gets the prepare of `prepared` by a link."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "prepare").exists():
        (folder / "prepare").symlink_to(prepared / "prepare")
    (folder / stage).mkdir(exist_ok=True)
    return StageContext(
        stage=stage,
        run=Run(name="toy", path=folder),
        resolved=load_spec(spec, plugins),
        plugins=plugins,
        console=console or Console(stderr=io.StringIO()),
        folder=folder / stage,
        scratch=folder / f".{stage}.scratch",
        reads=next(known.reads for known in STAGES if known.name == stage),
    )
