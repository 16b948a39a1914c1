"""What the cut of each threshold method is worth outside its sample, on scores that a logistic curve fits and not."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from roadwork_policies import BetaCalibration, Platt, Threshold
from roadwork_policies.threshold import Samples, choose

from roadwork_core.metrics import COUNT_METRICS, confusion, sweep

Draw = tuple[np.ndarray, np.ndarray]
POPULATION = 200_000

METHODS: dict[str, Threshold] = {
    "empirical": Threshold(method="empirical"),
    "bootstrap": Threshold(method="bootstrap", bootstrap=60),
    "plug_in, platt": Threshold(calibrator=Platt()),
    "plug_in, beta": Threshold(calibrator=BetaCalibration()),
    "auto, platt": Threshold(method="auto", calibrator=Platt()),
}


def normal(n: int, prior: float, rng: np.random.Generator) -> Draw:
    """Normal scores of equal spread: the posterior is exactly logistic in the margin."""
    labels = rng.random(n) < prior
    return 2 * (rng.normal(size=n) + 2 * labels), labels


def confident_errors(n: int, prior: float, rng: np.random.Generator) -> Draw:
    """One positive in eight looks like a sure negative, and the negatives have heavy tails."""
    labels = rng.random(n) < prior
    hidden = rng.random(n) < 0.12
    positive = np.where(hidden, rng.normal(-3, 1, n), rng.normal(4, 2, n))
    return np.where(labels, positive, 1.5 * rng.standard_t(3, n) - 3), labels


def label_noise(n: int, prior: float, rng: np.random.Generator) -> Draw:
    """Margins pushed outwards, and 4 % of the labels flipped."""
    labels = rng.random(n) < prior
    u = rng.normal(size=n) + 3 * (labels - 0.5)
    return 3 * np.sign(u) * np.abs(u) ** 1.7, labels ^ (rng.random(n) < 0.04)


def mcc_of(population: Draw, threshold: float) -> float:
    """The MCC of a cut on a large sample."""
    margins, labels = population
    return float(COUNT_METRICS["mcc"](confusion(labels, margins >= threshold)))


def row(source: Callable[[int, float, np.random.Generator], Draw], n: int, prior: float, draws: int) -> str:
    """Mean MCC of each method over the draws, and the paired difference of each to empirical with its error."""
    rng = np.random.default_rng([n, round(100 * prior)])
    population = source(POPULATION, prior, rng)
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for draw in range(draws):
        margins, labels = source(n, prior, rng)
        samples = Samples.sorted(margins, labels, np.arange(n, dtype=np.int64))
        for name, options in METHODS.items():
            found[name].append(mcc_of(population, choose(samples, options, options.method, draw).threshold))
    base = np.asarray(found["empirical"])
    cells = [f"{base.mean():.4f}"]
    for name in list(METHODS)[1:]:
        gain = np.asarray(found[name]) - base
        cells.append(f"{gain.mean():+.4f} ± {1.96 * gain.std(ddof=1) / math.sqrt(draws):.4f}")
    best = sweep(*population, n_thresholds=0).value
    return f"| {source.__name__} | {n:,} | {prior:g} | {best:.4f} | {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    names = [f"{name} - empirical" for name in list(METHODS)[1:]]
    print(f"| scores | n | positives | attainable | empirical | {' | '.join(names)} |")
    print("|:--|--:|--:|--:|--:|" + "--:|" * len(names))
    for source in (normal, confident_errors, label_noise):
        for n, prior in ((300, 0.05), (300, 0.8), (1200, 0.8), (1200, 0.5)):
            print(row(source, n, prior, options.draws), flush=True)


if __name__ == "__main__":
    main()
