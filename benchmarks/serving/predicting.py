"""Pictures a second of `roadwork predict` by ONNX Runtime (the default) and by torch: docs/benchmarks/serving.md."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bundles import NAMES, jpegs, made

from roadwork_core.bundle import Source, load
from roadwork_core.compute_threads import cores

#: How, with how many pictures held at a time, and torch's threads of the calling thread.
WAYS: dict[str, dict[str, Any]] = {
    "alone, a worker a core": {},
    "alone, one worker": {"workers": 1},
    "alone, a worker a core, torch": {"backend": "torch"},
    "batches of 32, one thread, torch": {"batch_size": 32, "torch": 1, "backend": "torch"},
    "batches of 32, a thread a core, torch": {"batch_size": 32, "torch": cores(), "backend": "torch"},
}


def rate(bundle: Path, sources: list[Source], way: dict[str, Any]) -> float:
    """Pictures a second of a stream of files, the load of the bundle not counted."""
    options = dict(way)
    torch.set_num_threads(options.pop("torch", 1))
    predictor = load(bundle, device="cpu", **options)
    list(predictor.stream(sources[:8]))
    start = time.perf_counter()
    failed = sum(one.error is not None for one in predictor.stream(sources, batch_size=64))
    assert not failed
    return len(sources) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, nargs=2, default=[1500, 150], help="of each network in a round")
    options = parser.parse_args()
    print("| network | way | pictures/s, median (least to most) | of the last line, round by round |")
    print("|:--|:--|--:|--:|")
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, content in enumerate(jpegs(64)):
            (folder / f"{number:02}.jpg").write_bytes(content)
        for network, count in zip(NAMES, options.pictures, strict=True):
            bundle = made(network, folder)
            sources = [Source(str(folder / f"{number % 64:02}.jpg")) for number in range(count)]
            found = {way: [0.0] * options.rounds for way in WAYS}
            for turn in range(options.rounds):
                # Each round in another order: a machine that others use changes from minute to minute.
                for place in range(len(WAYS)):
                    way = list(WAYS)[(place + turn) % len(WAYS)]
                    found[way][turn] = rate(bundle, sources, WAYS[way])
            last = np.array(found[list(WAYS)[-1]])
            for way, rates in found.items():
                ratio = np.array(rates) / last
                cells = [network, way, f"{np.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"]
                print(
                    "| "
                    + " | ".join([*cells, f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"])
                    + " |"
                )
    print(f"\nload {before:.1f} before, {os.getloadavg()[0]:.1f} after; {platform.machine()}, {cores()} cores,")
    print(f"Python {platform.python_version()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
