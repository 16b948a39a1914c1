"""`roadwork mine`, whole, on a store of 100,000 errors with 1,536 features each: time, memory, kinds of error found."""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from roadwork_core.data.sample import Row
from roadwork_core.data.scan import Look, look
from roadwork_core.data.table import write_rows
from roadwork_core.feedback import FeedbackStore

CLASSES = ("no_roadwork", "roadwork")
#: Different pictures; every prediction has a file of its own, which is one of them under another name.
PICTURES = 2000


def draw(folder: Path, count: int, seed: int) -> list[Path]:
    """JPEG files of 640 x 480 pixels."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    found = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        found.append(folder / f"{number}.jpg")
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(found[-1], quality=85)
    return found


def make_run(folder: Path, pictures: list[Path]) -> None:
    """The tables of a finished run whose splits are these pictures."""
    for index, split in enumerate(("train", "val_select", "val_calib", "test")):
        rows = []
        for path in pictures[index::4]:
            seen = look(path, max_pixels=10**7)
            assert isinstance(seen, Look)
            names: dict[str, Any] = {"index": len(rows), "path": str(path), "label": CLASSES[0], "target": 0}
            digests = {"sha256": seen.sha256, "phash": f"{seen.phash:016x}"}
            rows.append(Row(**names, **digests, split=split, group=path.stem, width=640, height=480))
        write_rows(folder / "prepare" / "samples" / f"{split}.jsonl", rows)
    (folder / "prepare" / "classes.json").write_text(json.dumps({"classes": CLASSES, "positive": 1}))


def predictions(
    folder: Path, pictures: list[Path], errors: int, right: int, dimensions: int, modes: int
) -> Iterator[tuple[Any, ...]]:
    """Rows of the store: errors of both types around `modes` centres, sizes as 1/rank, and right answers elsewhere."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    centres = rng.normal(size=(modes + 2, dimensions)).astype(np.float32)
    shares = 1 / np.arange(1, modes + 1)
    kinds = rng.choice(modes, errors, p=shares / shares.sum())
    for number in range(errors + right):
        wrong = number < errors
        mode = int(kinds[number]) if wrong else modes + number % 2
        truth = mode % 2
        path = folder / f"{number}-{mode}.jpg"
        os.link(pictures[number % len(pictures)], path)
        features = centres[mode] + rng.normal(size=dimensions).astype(np.float32)
        score = float(rng.uniform(0.5, 1.0))
        said = 1 - truth if wrong else truth
        row = (f"k{number}", float(number), "b", "threshold", CLASSES[said], score if said else 1 - score, str(path))
        yield (*row, features.astype("<f4").tobytes(), CLASSES[truth])


def fill(path: Path, rows: Iterator[tuple[Any, ...]]) -> None:
    """Writes rows as a store holds them; through the store itself, each of 150 million floats would be checked."""
    FeedbackStore(path).close()
    with sqlite3.connect(path) as connection:
        for row in rows:
            connection.execute(
                "INSERT INTO predictions (key, time, bundle_id, policy, label, score, path, features)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row[:8],
            )
            connection.execute("INSERT INTO labels VALUES (?, ?, ?, 'planted')", (f"key:{row[0]}", row[8], row[1]))
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--errors", type=int, default=100_000)
    parser.add_argument("--right", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=1536)
    parser.add_argument("--modes", type=int, default=300)
    parser.add_argument("--place", type=Path, help="where to put some gigabytes for the time (default: the system's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.place) as scratch:
        folder = Path(scratch)
        make_run(folder / "run", draw(folder / "known", 400, 1))
        pictures = draw(folder / "pictures", PICTURES, 2)
        kinds = (options.errors, options.right, options.dimensions, options.modes)
        fill(folder / "store.sqlite", predictions(folder / "served", pictures, *kinds))
        size = (folder / "store.sqlite").stat().st_size / 2**20
        start = time.perf_counter()
        words = ["mine", folder / "store.sqlite", "--run", folder / "run", "--out", folder / "mined", "--quiet"]
        subprocess.run([sys.executable, "-m", "roadwork_core", *map(str, words)], check=True)
        wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        with (folder / "mined" / "hard_negatives.csv").open(newline="") as file:
            picked = [int(Path(row["path"]).stem.split("-")[1]) for row in csv.DictReader(file)]
        served = [int(path.stem.split("-")[1]) for path in (folder / "served").iterdir()]
    wrong = [mode for mode in served if mode < options.modes]
    rng = np.random.default_rng(1)
    random = np.mean([len(set(rng.choice(wrong, len(picked), replace=False))) for _ in range(50)])
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"{options.errors} errors and {options.right} right answers x {options.dimensions} features, {size:.0f} MiB")
    spent = used.ru_utime + used.ru_stime
    print(f"{wall:.1f} s ({spent:.1f} s of processor time); peak {used.ru_maxrss / 1024:.0f} MiB")
    print(f"{len(picked)} picked, of {len(set(picked))} of {len(set(wrong))} kinds; random picks: {random:.0f} kinds")


if __name__ == "__main__":
    main()
