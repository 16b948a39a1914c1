"""Views together against one at a time and against ttach, and what each augmentation costs: ratios of medians."""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib
import importlib.metadata
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roadwork_core.data.decode import decode
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.inference import Scorer, build_tta
from roadwork_core.kinds import BackboneContext, Kind
from roadwork_core.plugins import Plugins
from roadwork_core.spec import resolve_component

DATA = Path(__file__).parents[3] / "shared" / "data"
LIBRARIES = ("torch", "torchvision", "transformers", "ttach")
SMALL = {"use": "small_cnn", "image_size": 96, "width": 16, "stages": 3}
#: Of each picture the mirror image too: what ttach has as well, on inputs that are made beforehand.
FLIP: dict[str, Any] = {"use": "flip"}
SEVERAL: tuple[dict[str, Any], ...] = (
    {"use": "none"},
    FLIP,
    {"use": "multiscale"},
    {"use": "five_crop"},
    {"use": "grid"},
    {"use": "multiview"},
)

Logits = Any


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {platform.machine()}, {options.device}, load {_load()}")
    print(", ".join(f"{name} {_version(name)}" for name in LIBRARIES))
    plugins = Plugins.load()
    pictures = _pictures(options.pictures)
    for name, values in _models(options.models):
        model, preprocessing = _classifier(values, plugins)
        print(
            f"\n## {name}, input {preprocessing.size[0]}, {len(pictures)} pictures of {tuple(pictures[0].shape[-2:])}"
        )
        print("| augmentation | views | together | one at a time | ratio | largest gap |\n|:--|--:|--:|--:|--:|--:|")
        for part in SEVERAL:
            component = resolve_component(Kind.TTA, part, plugins)
            tta = build_tta(component, preprocessing, 2)
            scorer = Scorer(model, preprocessing, tta, device=options.device, batch_size=options.batch)
            runs: dict[str, Callable[[], Logits]] = {
                "together": partial(scorer.logits, pictures),
                "alone": partial(one_at_a_time, scorer, pictures),
            }
            seconds, answers = measure(runs, options.rounds)
            gap = np.abs(answers["together"] - answers["alone"]).max()
            together, alone = seconds["together"], seconds["alone"]
            row = f"{together:.3f} s | {alone:.3f} s | {alone / together:.2f} | {gap:.1e}"
            print(f"| {part['use']} | {len(tta.view_ids)} | {row} |", flush=True)
        _against_ttach(model, preprocessing, pictures, plugins, options)
    print(f"\nload {_load()} at the end")


def one_at_a_time(scorer: Scorer, pictures: Sequence[torch.Tensor]) -> Logits:
    """The same views and the same fusion, each view of each picture through the model on its own."""
    rows = []
    for picture in pictures:
        views = [scorer._forward(view[None]) for view in scorer.tta.views(picture)]
        rows.append(scorer.tta.fuse(np.stack(views)))
    return np.concatenate(rows)


def _against_ttach(
    model: Any, preprocessing: Preprocessing, pictures: Sequence[torch.Tensor], plugins: Plugins, options: Any
) -> None:
    """Flip by both on inputs of the model's size, normalised beforehand for ttach, as a loader would hand them over."""
    try:
        ttach: Any = importlib.import_module("ttach")
    except ImportError:
        print("\nttach is not installed: not compared")
        return
    tta = build_tta(resolve_component(Kind.TTA, FLIP, plugins), preprocessing, 2)
    scorer = Scorer(model, preprocessing, tta, device=options.device, batch_size=options.batch)
    inputs = [preprocessing.to_input(picture) for picture in pictures]
    wrapped = ttach.ClassificationTTAWrapper(scorer.model, ttach.aliases.flip_transform(), merge_mode="mean")
    horizontal = ttach.Compose([ttach.HorizontalFlip()])
    wrapped.transforms = horizontal

    @torch.inference_mode()
    def by_ttach(size: int) -> Logits:
        parts = []
        for at in range(0, len(inputs), size):
            batch = preprocessing.normalise(torch.stack(inputs[at : at + size]).to(options.device))
            parts.append(wrapped(batch).double().cpu().numpy())
        return np.concatenate(parts)

    runs = {
        "roadwork": lambda: scorer.logits(inputs),
        "ttach": lambda: by_ttach(options.batch // 2),
        "ttach, one picture at a time": lambda: by_ttach(1),
    }
    seconds, answers = measure(runs, options.rounds)
    print("\n| flip on inputs of the model's size | seconds | against roadwork |\n|:--|--:|--:|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.3f} | {value / seconds['roadwork']:.2f} x |")
    print(f"\nlargest difference of a logit: {np.abs(answers['roadwork'] - answers['ttach']).max():.1e}", flush=True)


def measure(runs: dict[str, Callable[[], Logits]], rounds: int) -> tuple[dict[str, float], dict[str, Logits]]:
    """Median seconds of each, run in turn `rounds` times after one run that does not count; and the answers."""
    answers = {name: run() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in sorted(runs, reverse=bool(number % 2)):
            started = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}, answers


def _classifier(values: dict[str, Any], plugins: Plugins) -> tuple[torch.nn.Module, Preprocessing]:
    backbone = resolve_component(Kind.BACKBONE, values, plugins).build(BackboneContext())
    head = torch.nn.Linear(backbone.feature_dim, 2)
    return torch.nn.Sequential(backbone, head).eval(), backbone.preprocessing


def _models(names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    published = DATA / "backbone" / "mobilenet_v2_1.0_224"
    known = {"small_cnn": SMALL}
    if published.is_dir():
        known["mobilenet_v2"] = {"use": "transformers", "model": str(published)}
    else:
        known["mobilenet_v2"] = {"use": "small_cnn", "image_size": 224, "width": 32, "stages": 4}
    return [(name, known[name]) for name in names]


def _pictures(count: int) -> list[torch.Tensor]:
    """Real street scenes where the data are, otherwise noise of their size."""
    folder = DATA / "street_scenes"
    if not folder.is_dir():
        generator = torch.Generator().manual_seed(0)
        return [torch.randint(0, 256, (3, 640, 1088), dtype=torch.uint8, generator=generator) for _ in range(count)]
    with (folder / "manifest.csv").open(newline="") as file:
        paths = [folder / line["path"] for line in csv.DictReader(file)][:count]
    pixels = [decode(path, min_side=640, max_pixels=100_000_000) for path in paths]
    return [torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))) for picture in pixels]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["small_cnn", "mobilenet_v2"])
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="views of the model's size that go through it together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
