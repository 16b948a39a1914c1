"""`roadwork serve` beside LitServe, plain FastAPI and the bare predict loop: see docs/benchmarks/serving.md."""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from bundles import NAMES, jpegs, made

from roadwork_core.compute_threads import cores

PROGRAMS = {"plain": Path(__file__).with_name("plain.py"), "litserve": Path(__file__).with_name("lit.py")}
MANY = 100_000
#: Seconds in which the connections of a load begin.
RAMP = 1.0


def bare(bundle: Path, images: Sequence[bytes], seconds: float, workers: int) -> dict[str, float]:
    """Pictures a second of `Predictor.predict` in a loop, one picture a call, in threads that share the weights."""
    import torch

    from roadwork_core.bundle import Predictor, load

    torch.set_num_threads(1)
    loaded = load(bundle, device="cpu")
    loaded.predict([images[0]])
    counts = [0] * workers
    start = time.perf_counter()

    def loop(worker: int) -> None:
        own = Predictor(loaded.runtime)
        while time.perf_counter() < start + seconds:
            own.predict([images[counts[worker] % len(images)]])
            counts[worker] += 1

    threads = [threading.Thread(target=loop, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"rate": sum(counts) / (time.perf_counter() - start)}


async def load_from(url: str, images: Sequence[bytes], connections: int, seconds: float) -> dict[str, float]:
    """Closed loop: each connection asks again as soon as it has its answer; a refused one waits as long as it is told,
    and up to as long again by chance. They begin one after another in the first second, which does not count."""
    documents = [json.dumps({"image": base64.b64encode(image).decode()}).encode() for image in images]
    times: list[float] = []
    refused = lost = 0
    limits = httpx.Limits(max_connections=connections)
    head = {"content-type": "application/json"}
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False, headers=head) as client:
        begin = time.perf_counter() + RAMP
        chance = random.Random(0)

        async def one(number: int) -> None:
            nonlocal refused, lost
            await asyncio.sleep(RAMP * number / connections)
            while time.perf_counter() < begin + seconds:
                start = time.perf_counter()
                try:
                    answer = await client.post("/predict", content=documents[number % len(documents)])
                except httpx.HTTPError:
                    lost += start >= begin
                    await asyncio.sleep(0.1)
                    continue
                number += 1
                if answer.status_code == 200:
                    times.extend([time.perf_counter() - start] if start >= begin else [])
                elif answer.status_code in (429, 503):
                    refused += start >= begin
                    await asyncio.sleep(float(answer.headers["retry-after"]) * (1 + chance.random()))
                else:
                    lost += start >= begin

        await asyncio.gather(*(one(number) for number in range(connections)))
        elapsed = time.perf_counter() - begin
    p50, p99 = np.percentile(times, [50, 99]) if times else (np.nan, np.nan)
    return {"rate": len(times) / elapsed, "p50": p50, "p99": p99, "refused": refused, "lost": lost}


@contextmanager
def served(words: Sequence[str], url: str, health: str) -> Iterator[str]:
    """A server process that answers, until the block ends."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                if httpx.get(url + health, trust_env=False, timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"{' '.join(words)} did not start")
        yield url
    finally:
        # The whole session: LitServe has processes of its own.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def contender(name: str, bundle: Path, workers: int) -> tuple[list[str], str, str]:
    """The command, the URL and the path that tells its health."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    if name in PROGRAMS:
        return [sys.executable, str(PROGRAMS[name]), str(bundle), str(port), str(workers)], url, "/health"
    queue, _, backend = name.partition("queue ")[2].partition(", ")
    words = ["serve", str(bundle), "--port", str(port), "-q", "--device", "cpu", "--timeout", "120", "--verify", "load"]
    words += ["--workers", str(workers), "--queue", queue, "--backend", backend or "auto"]
    return [sys.executable, "-m", "roadwork_core", *words], url, "/readyz"


def measure(bundle: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    images = jpegs(16)
    workers = options.workers or cores()
    names = [f"roadwork serve, queue {MANY}", f"roadwork serve, queue {MANY}, torch", "plain"]
    names += ["litserve"] if importlib.util.find_spec("litserve") else []
    rows: list[dict[str, Any]] = []
    for turn in range(options.rounds):
        rows.append({"what": "bare loop", "connections": "", **bare(bundle, images, options.seconds, workers)})
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            with served(*contender(name, bundle, workers)) as url:
                asyncio.run(load_from(url, images, workers, 1.0))
                for connections in options.connections:
                    found = asyncio.run(load_from(url, images, connections, options.seconds))
                    rows.append({"what": name, "connections": connections, **found})
        name = f"roadwork serve, queue {options.queue}"
        with served(*contender(name, bundle, workers)) as url:
            asyncio.run(load_from(url, images, workers, 1.0))
            most = max(options.connections)
            found = asyncio.run(load_from(url, images, most, options.seconds))
            rows.append({"what": name, "connections": most, **found})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Medians over the rounds, and the least and the largest rate."""
    lines = [
        "| | connections | answers/s | least to most | p50 ms | p99 ms | refused | lost |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for what, connections in dict.fromkeys((row["what"], row["connections"]) for row in rows):
        of_key = [row for row in rows if (row["what"], row["connections"]) == (what, connections)]
        rates = [row["rate"] for row in of_key]
        cells = [f"{np.median(rates):.1f}", f"{min(rates):.1f} to {max(rates):.1f}"]
        if "p50" in of_key[0]:
            cells += [f"{1000 * np.median([row[name] for row in of_key]):.0f}" for name in ("p50", "p99")]
            cells += [f"{sum(row[name] for row in of_key)}" for name in ("refused", "lost")]
        else:
            cells += [""] * 4
        lines.append(
            "| " + " | ".join([_LABELS.get(what, what).replace(f", queue {MANY}", ""), str(connections), *cells]) + " |"
        )
    return "\n".join(lines)


_LABELS = {"plain": "FastAPI + uvicorn", "litserve": "LitServe"}
_VERSIONS = ("torch", "onnxruntime", "fastapi", "uvicorn", "litserve")


def versions() -> str:
    found = []
    for name in _VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"without {name}")
    return ", ".join([f"Python {platform.python_version()}", *found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NAMES, default="mobilenet_v2")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--workers", type=int, help="(default: one a core)")
    parser.add_argument("--queue", type=int, default=8, help="of the overloaded server")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the table there too")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(made(options.network, Path(folder)), options)
    facts = f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after; {platform.machine()}, {cores()} cores"
    text = (
        f"{table(rows)}\n\n{options.network}, {options.rounds} rounds of {options.seconds:g} s; {facts}; {versions()}\n"
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
