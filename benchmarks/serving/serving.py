"""Throughput and latency of `roadwork serve` beside the bare predict loop: see docs/benchmarks/serving.md."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

MAIN = "import sys; from roadwork_core.cli import main; sys.exit(main())"


def pictures(count: int, side: int) -> list[bytes]:
    """JPEGs of smooth noise, quality 75."""
    draws = np.random.default_rng(0)
    found = []
    for _ in range(count):
        small = Image.fromarray(draws.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        stream = io.BytesIO()
        small.resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=75)
        found.append(stream.getvalue())
    return found


def bare(bundle: Path, images: Sequence[bytes], seconds: float, workers: int) -> float:
    """Pictures a second of `Predictor.predict` in a loop, one picture a call, in threads that share the weights."""
    import torch

    from roadwork_core.bundle import Predictor, load

    torch.set_num_threads(1)
    loaded = load(bundle, device="cpu")
    loaded.predict([images[0]])
    counts = [0] * workers
    end = time.perf_counter() + seconds

    def loop(worker: int) -> None:
        own = Predictor(loaded.runtime)
        while time.perf_counter() < end:
            own.predict([images[counts[worker] % len(images)]])
            counts[worker] += 1

    start = time.perf_counter()
    threads = [threading.Thread(target=loop, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


async def load_from(url: str, images: Sequence[bytes], connections: int, seconds: float) -> dict[str, float]:
    """Closed loop: each connection asks again as soon as it has its answer; a refused one waits and asks again."""
    times: list[float] = []
    refused = lost = 0
    end = time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=connections)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False) as client:

        async def one(number: int) -> None:
            nonlocal refused, lost
            while time.perf_counter() < end:
                start = time.perf_counter()
                try:
                    answer = await client.post("/predict", content=images[number % len(images)])
                except httpx.HTTPError:
                    lost += 1
                    continue
                number += 1
                if answer.status_code == 200:
                    times.append(time.perf_counter() - start)
                else:
                    refused += 1
                    await asyncio.sleep(0.1)

        start = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(connections)))
        elapsed = time.perf_counter() - start
    p50, p99 = np.percentile(times, [50, 99])
    return {"rate": len(times) / elapsed, "p50": p50, "p99": p99, "refused": refused, "lost": lost}


def serve(bundle: Path, workers: int, queue: int) -> tuple[subprocess.Popen[str], str]:
    words = ["serve", str(bundle), "--port", "0", "--json", "-q", "--device", "cpu", "--timeout", "120"]
    words += ["--workers", str(workers), "--threads", "1", "--queue", str(queue)]
    process = subprocess.Popen([sys.executable, "-c", MAIN, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["url"]


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    images = pictures(16, options.side)
    rows: list[dict[str, Any]] = []
    for _ in range(options.rounds):
        for workers in options.workers:
            rate = bare(options.bundle, images, options.seconds, workers)
            rows.append({"what": "bare loop", "workers": workers, "connections": "", "rate": rate})
            for queue, counts in ((64, options.connections), (2, [max(options.connections)])):
                process, url = serve(options.bundle, workers, queue)
                try:
                    for connections in counts:
                        found = asyncio.run(load_from(url, images, connections, options.seconds))
                        key = {"what": f"serve, queue {queue}", "workers": workers, "connections": connections}
                        rows.append({**key, **found})
                finally:
                    process.send_signal(signal.SIGTERM)
                    process.wait(60)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Medians over the rounds."""
    keys = list(dict.fromkeys((row["what"], row["workers"], row["connections"]) for row in rows))
    lines = [
        "| | workers | connections | answers/s | p50 ms | p99 ms | refused | lost |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for key in keys:
        of_key = [row for row in rows if (row["what"], row["workers"], row["connections"]) == key]
        middle = {name: float(np.median([row[name] for row in of_key])) for name in of_key[0] if name not in _NAMES}
        cells = [f"{middle['rate']:.1f}"]
        if "p50" in middle:
            cells += [f"{1000 * middle['p50']:.0f}", f"{1000 * middle['p99']:.0f}"]
            cells += [f"{middle['refused']:.0f}", f"{middle['lost']:.0f}"]
        else:
            cells += [""] * 4
        lines.append("| " + " | ".join([key[0], str(key[1]), str(key[2]), *cells]) + " |")
    return "\n".join(lines)


_NAMES = ("what", "workers", "connections")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", type=int, default=224, help="pixels of a picture's side")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    rows = measure(options)
    print(table(rows))
    print(f"\nload {before:.1f} before, {os.getloadavg()[0]:.1f} after; {platform.machine()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
