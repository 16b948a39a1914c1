"""A linear probe of a real MobileNetV2 with kept features and without, in turn: ratios of medians per epoch."""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata
import io
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from roadwork_core.console import Console
from roadwork_core.data.sample import Row
from roadwork_core.data.table import write_rows
from roadwork_core.files import sha256_file
from roadwork_core.plugins import Plugins
from roadwork_core.runs import Run, StageContext
from roadwork_core.spec import load_spec
from roadwork_core.stages import STAGES, train

DATA = Path(__file__).parents[3] / "shared" / "data"
LIBRARIES = ("torch", "torchvision", "transformers", "pillow", "safetensors")
SPEC = """
spec_version = 1
name = "probe"
seed = {seed}
data = {{ use = "image_folder", root = ".", workers = {workers} }}
backbone = {{ use = "transformers", model = {model} }}
adapter = {{ use = "frozen" }}
optimizer = {{ use = "adamw", lr = {lr} }}
train = {{ epochs = {epochs}, batch_size = 32, precision = "fp32", feature_cache = "{cache}", select_by = "auroc" }}
"""


def scene_rows(limit: int) -> dict[str, list[Row]]:
    """Real street scenes (or signs, where there are none), `limit` that train and a quarter as many to select by."""
    folder = next(place for place in (DATA / "street_scenes", DATA / "gtsrb_signs") if place.is_dir())
    with (folder / "manifest.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    found: dict[str, list[Row]] = {"train": [], "val_select": []}
    for split, wanted, size in (("train", "train", limit), ("val_select", "val", limit // 4)):
        for number, line in enumerate([line for line in table if line["split"] == wanted][:size]):
            path = folder / line["path"]
            target = int(line["label"] == "roadwork")
            values: dict[str, Any] = {"index": number, "path": str(path), "label": line["label"], "target": target}
            values |= {"split": split, "group": line["group"], "sha256": sha256_file(path), "phash": ""}
            found[split].append(Row(**values, width=int(line.get("width") or 0), height=int(line.get("height") or 0)))
    return found


def prepare(folder: Path, rows: dict[str, list[Row]]) -> None:
    """What the stage prepare would have left."""
    for split, own in rows.items():
        write_rows(folder / "prepare" / "samples" / f"{split}.jsonl", own)
    (folder / "prepare" / "classes.json").write_text(
        json.dumps({"classes": ["no_roadwork", "roadwork"], "positive": 1})
    )


def probe(folder: Path, prepared: Path, plugins: Plugins, **values: Any) -> tuple[float, list[float], dict[str, Any]]:
    """Seconds of the whole stage, of each epoch, and the stage's metrics."""
    folder.mkdir()
    (folder / "prepare").symlink_to(prepared / "prepare")
    (folder / "train").mkdir()
    context = StageContext(
        stage="train",
        run=Run(name="probe", path=folder),
        resolved=load_spec(SPEC.format(**values), plugins),
        plugins=plugins,
        console=Console(stderr=io.StringIO()),
        folder=folder / "train",
        scratch=folder / ".scratch",
        reads=next(stage.reads for stage in STAGES if stage.name == "train"),
    )
    start = time.perf_counter()
    metrics = dict(train.run(context))
    total = time.perf_counter() - start
    lines = [json.loads(line) for line in (folder / "train" / "history.jsonl").read_text().splitlines()]
    return total, [line["seconds"] for line in lines], metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=384)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--heads", type=int, default=10, help="learning rates of the sweep")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(1)
    model = json.dumps(str(DATA / "backbone" / "mobilenet_v2_1.0_224"))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    print(f"{datetime.date.today()}, Python {platform.python_version()}, {versions}")
    print(f"{os.cpu_count()} cores, 1 thread of torch, load {os.getloadavg()[0]:.1f} at the start")
    plugins, rows = Plugins.load(), scene_rows(options.pictures)
    print({split: len(own) for split, own in rows.items()}, "pictures,", options.rounds, "rounds")
    values = {"model": model, "workers": options.workers, "seed": 0, "lr": 1e-3, "epochs": options.epochs}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, rows)
        filling, _, metrics = probe(folder / "filling", folder, plugins, **{**values, "cache": "on", "epochs": 1})
        found: dict[str, list[list[float]]] = {"off": [], "on": []}
        for number in range(options.rounds):
            for cache in ("off", "on") if number % 2 == 0 else ("on", "off"):
                _, epochs, own = probe(folder / f"{cache}{number}", folder, plugins, **values, cache=cache)
                assert cache == "off" or own["features"]["computed"] == 0
                found[cache].append(epochs)
        same = _same(folder / "off0", folder / "on0")
        off, on = (statistics.median(second for epochs in found[cache] for second in epochs) for cache in ("off", "on"))
        start = time.perf_counter()
        for number in range(options.heads):
            lr = 10 ** (-4 + 3 * number / max(1, options.heads - 1))
            probe(folder / f"sweep{number}", folder, plugins, **{**values, "lr": lr, "epochs": 20, "cache": "on"})
        sweep = time.perf_counter() - start
        size = sum(path.stat().st_size for path in (folder / ".." / folder.name).rglob("features/*/*.safetensors"))
    report(off, on, filling, metrics["features"], sweep, options.heads, same, size, len(rows["train"]))


def _same(first: Path, second: Path) -> bool:
    names = ("weights.safetensors",)
    return all((first / "train" / name).read_bytes() == (second / "train" / name).read_bytes() for name in names)


def report(
    off: float,
    on: float,
    filling: float,
    kept: dict[str, Any],
    sweep: float,
    heads: int,
    same: bool,
    size: int,
    pictures: int,
) -> None:
    lines: Sequence[str] = (
        f"| an epoch of {pictures} pictures and the validation, every picture through the backbone | {off:.2f} s |",
        f"| the same from kept features | {on:.3f} s |",
        f"| **ratio** | **{off / on:.0f} x** |",
        f"| computing {kept['computed']} features once (in a stage of {filling:.1f} s) | {kept['seconds']:.1f} s |",
        f"| sweep: {heads} learning rates, 20 epochs each, from kept features, each stage whole | {sweep:.1f} s |",
        f"| weights of the two heads | {'identical to the bit' if same else 'DIFFERENT'} |",
        f"| on disk | {size / 2**20:.2f} MiB |",
    )
    print("\n| | median |\n|:--|--:|")
    print("\n".join(lines))
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
