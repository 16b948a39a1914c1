"""Choosing 500 of 100,000 errors with 1,536 features each: time and memory, features on the disk."""

from __future__ import annotations

import argparse
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from roadwork_core.mining import choose


def planted(path: Path, n: int, dimensions: int, modes: int, seed: int = 0) -> np.ndarray:
    """Features in `path`, float32 (n, dimensions), around `modes` centres, written in parts; returns the modes (n,)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(modes, dimensions)).astype(np.float32)
    shares = 1 / np.arange(1, modes + 1)
    which = rng.choice(modes, n, p=shares / shares.sum())
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, dimensions))
    for start in range(0, n, 5000):
        part = which[start : start + 5000]
        rows[start : start + 5000] = centres[part] + rng.normal(size=(len(part), dimensions)).astype(np.float32)
    rows.flush()
    return which


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--errors", type=int, default=100_000)
    parser.add_argument("--others", type=int, default=4000)
    parser.add_argument("--dimensions", type=int, default=1536)
    parser.add_argument("--pool", type=int, default=5000)
    parser.add_argument("--cap", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        which = planted(path, options.errors, options.dimensions, 300)
        rows = np.load(path, mmap_mode="r")
        rng = np.random.default_rng(1)
        others = rng.normal(size=(options.others, options.dimensions)).astype(np.float32)
        losses = rng.gamma(2.0, size=options.errors)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, spent = time.perf_counter(), time.process_time()
        found = choose(rows, losses, others=others, cap=options.cap, pool=options.pool)
        wall, spent = time.perf_counter() - start, time.process_time() - spent
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    random = [len(set(which[rng.choice(options.errors, options.cap, replace=False)])) for _ in range(50)]
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"{options.errors} errors x {options.dimensions}, pool {options.pool}, {len(found.picked)} picked")
    print(f"{wall:.1f} s ({spent:.1f} s of processor time); peak {after / 1024:.0f} MiB, {before / 1024:.0f} before")
    print(f"modes covered: {len(set(which[found.picked]))} of 300; random picks: {np.mean(random):.0f}")


if __name__ == "__main__":
    main()
