"""Ways to load 640 x 480 JPEG files for a 224 x 224 network, in turn: ratios of medians to PIL with v1 transforms."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from contenders import V1Pictures, Work
from training import cpu_seconds
from workloads import decode_bound

from roadwork_core.data.loading import ImageDataset, make_loader

LIBRARIES = ("torch", "torchvision", "pillow")
BATCH = 32
Way = Callable[[Work, int], int]


def batches(work: Work) -> list[range]:
    return [range(start, min(start + BATCH, work.size)) for start in range(0, work.size, BATCH)]


def ours(work: Work, workers: int) -> int:
    """PIL at the smallest sufficient scale, uint8 to the loader's end, normalised per batch."""
    assert work.rows is not None
    loader = make_loader(ImageDataset(work.rows, work.preprocessing), batches(work), workers=workers)
    return sum(len(work.preprocessing.normalise(images)) for images, _ in loader)


def plain(work: Work, workers: int) -> int:
    """PIL at full size, torchvision's v1 transforms, a normalised float tensor per picture."""
    return sum(len(images) for images, _ in DataLoader(V1Pictures(work), BATCH, num_workers=workers))


class V2Pictures(Dataset[tuple[Tensor, int]]):
    """torchvision's own decoder and v2 transforms on uint8, normalised picture by picture."""

    def __init__(self, work: Work) -> None:
        from torchvision.transforms import v2

        assert work.rows is not None
        self.rows = work.rows
        height, width = work.preprocessing.size
        self.transform = v2.Compose(
            [
                v2.Resize(min(height, width), antialias=True),
                v2.CenterCrop((height, width)),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(work.preprocessing.mean), list(work.preprocessing.std)),
            ]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from torchvision.io import decode_jpeg, read_file

        return self.transform(decode_jpeg(read_file(self.rows[index].path))), self.rows[index].target


def tensors(work: Work, workers: int) -> int:
    """torchvision.io.decode_jpeg at full size, v2 transforms."""
    return sum(len(images) for images, _ in DataLoader(V2Pictures(work), BATCH, num_workers=workers))


WAYS: dict[str, Way] = {"ours": ours, "PIL, v1 transforms": plain, "decode_jpeg, v2 transforms": tensors}


def rates(way: Way, work: Work, workers: int) -> tuple[float, float]:
    """Pictures a second of wall time and of CPU time (the workers' start included)."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    count = way(work, workers)
    return count / (time.perf_counter() - wall), count / (cpu_seconds() - cpu)


def compare(work: Work, workers: int, *, rounds: int) -> None:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name in list(WAYS) if number % 2 == 0 else list(WAYS)[::-1]:
            found[name].append(rates(WAYS[name], work, workers))
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    print(f"\n### {workers} loader processes\n" if workers else "\n### In the process itself\n")
    print("| | images/s, wall | images/s, CPU time | ours is, wall | ours is, CPU time |")
    print("|:--|--:|--:|--:|--:|")
    wall_ours, cpu_ours = medians["ours"]
    for name, (wall, cpu) in medians.items():
        print(f"| {name} | {wall:.0f} | {cpu:.0f} | {wall_ours / wall:.2f} x | {cpu_ours / cpu:.2f} x |")


def steps_alone(work: Work) -> None:
    """Milliseconds a picture of each step of ours, best of several passes."""
    from roadwork_core.data.decode import decode

    assert work.rows is not None
    rows: Sequence[Any] = work.rows[:64]
    raw = [torch.from_numpy(decode(Path(row.path), min_side=224)).permute(2, 0, 1) for row in rows]
    inputs = torch.stack([work.preprocessing.to_input(image) for image in raw[:BATCH]])
    steps: dict[str, tuple[Callable[[], Any], int]] = {
        "decode at half size": (lambda: [decode(Path(row.path), min_side=224) for row in rows], len(rows)),
        "decode at full size": (lambda: [decode(Path(row.path), min_side=0) for row in rows], len(rows)),
        "resize and crop, uint8": (lambda: [work.preprocessing.to_input(image) for image in raw], len(raw)),
        "normalise, per batch": (lambda: work.preprocessing.normalise(inputs), len(inputs)),
    }
    print("\n| step of ours | ms a picture, best of 9 |")
    print("|:--|--:|")
    for name, (step, count) in steps.items():
        best = min(_seconds(step) for _ in range(9))
        print(f"| {name} | {1e3 * best / count:.2f} |")


def _seconds(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pictures", type=int, default=384)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    print(f"{datetime.date.today()}, Python {platform.python_version()}, {versions}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, {options.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        work = decode_bound(Path(folder), options.pictures)
        for workers in (0, 2):
            compare(work, workers, rounds=options.rounds)
        steps_alone(work)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
