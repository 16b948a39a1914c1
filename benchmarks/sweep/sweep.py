"""The exact threshold sweep against a loop of scikit-learn metric calls over a grid, in one run."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics

from roadwork_core.metrics import sigmoid, sweep

oracle: Any = metrics
GRID_POINTS = 5000
REPEATS = 5


def samples(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Margins (n,) that saturate as probabilities, and labels (n,) with 20 % positives."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.2
    return 12.0 * (rng.normal(size=n) + 2.0 * labels), labels


def cpu_seconds(repeats: int, call: Callable[[], Any]) -> tuple[float, Any]:
    """The median CPU time (other work may share the cores) of `repeats` calls in seconds, and the result."""
    seconds, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), result


def grid_search(probabilities: np.ndarray, labels: np.ndarray, points: int) -> float:
    """The best MCC over an even grid of cuts on probabilities, one scikit-learn call per cut."""
    return float(max(oracle.matthews_corrcoef(labels, probabilities >= cut) for cut in np.linspace(0.0, 1.0, points)))


def sorted_search(margins: np.ndarray, labels: np.ndarray) -> float:
    """The best MCC over all cuts by scikit-learn's own sorted counts: the strongest thing to compare with."""
    tn, fp, fn, tp, _ = (x.astype(np.float64) for x in oracle.confusion_matrix_at_thresholds(labels, margins))
    roots = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    return float(np.max(np.divide(tp * tn - fp * fn, roots, out=np.zeros_like(roots), where=roots > 0)))


def measure(n: int, budget: float) -> dict[str, Any]:
    """One row of the table. Where 5,000 calls would pass `budget` seconds, fewer are made and the row says so."""
    margins, labels = samples(n)
    ours, result = cpu_seconds(REPEATS, lambda: sweep(margins, labels))
    bare, _ = cpu_seconds(REPEATS, lambda: sweep(margins, labels, n_thresholds=0))
    alternative, reached = cpu_seconds(REPEATS, lambda: sorted_search(margins, labels))
    if abs(reached - result.value) > 1e-12:
        raise SystemExit(f"n = {n}: the sweep reaches {result.value}, scikit-learn's counts {reached}")
    probabilities = sigmoid(margins)
    per_call, _ = cpu_seconds(3, lambda: oracle.matthews_corrcoef(labels, probabilities >= 0.5))
    points = GRID_POINTS if per_call * GRID_POINTS <= budget else max(20, int(budget / per_call))
    seconds, best = cpu_seconds(1, lambda: grid_search(probabilities, labels, points))
    return {
        "n": n,
        "sweep": ours,
        "bare": bare,
        "sorted": alternative,
        "points": points,
        "grid": seconds,
        "whole": points == GRID_POINTS,
        "per_call": seconds / points,
        "mcc": result.value,
        "grid_mcc": best,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The measurements as a Markdown table."""
    lines = [
        "| n | exact sweep | without its curve | scikit-learn's sorted counts | calls made | per call | 5,000 calls | ratio | MCC exact | MCC grid |",  # noqa: E501
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        loop = row["grid"] if row["whole"] else row["per_call"] * GRID_POINTS
        shown = f"{loop:,.1f} s" if row["whole"] else f"{loop:,.0f} s (per call x 5,000)"
        of = "" if row["whole"] else f" (of {row['points']:,} cuts)"
        lines.append(
            f"| {row['n']:,} | {1e3 * row['sweep']:.1f} ms | {1e3 * row['bare']:.1f} ms |"
            f" {1e3 * row['sorted']:.1f} ms | {row['points']:,} |"
            f" {1e3 * row['per_call']:.2f} ms | {shown} | {loop / row['sweep']:,.0f} |"
            f" {row['mcc']:.4f} | {row['grid_mcc']:.4f}{of} |"
        )
    return "\n".join(lines)


def surroundings() -> str:
    """Date, processor and versions of the run."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scikit-learn"))
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return f"{today}, {cpu}, one thread, Python {platform.python_version()}, {versions}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--budget", type=float, default=60.0, help="seconds that one grid may take")
    options = parser.parse_args()
    print(surroundings(), end="\n\n")
    print(table([measure(n, options.budget) for n in options.n]))


if __name__ == "__main__":
    main()
