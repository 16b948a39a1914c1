"""What the cut of each threshold method is worth outside its sample: kinds of scores, sample sizes, prevalences."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping

import numpy as np
from roadwork_policies import Platt, Threshold
from roadwork_policies.threshold import Samples, choose

from roadwork_core.metrics import COUNT_METRICS, Counts, sweep

Draw = tuple[np.ndarray, np.ndarray]
Source = Callable[[int, float, np.random.Generator], Draw]
POPULATION = 400_000

METHODS: Mapping[str, Threshold] = {
    "empirical": Threshold(method="empirical"),
    "bootstrap": Threshold(method="bootstrap", bootstrap=40, calibrator=Platt()),
    "plug_in": Threshold(method="plug_in", calibrator=Platt()),
    "auto": Threshold(method="auto", bootstrap=40, calibrator=Platt()),
}


def _labels(n: int, prior: float, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.random(n) < prior)


def normal(n: int, prior: float, rng: np.random.Generator) -> Draw:
    """Normal scores of equal spread: the posterior is exactly logistic in the margin."""
    labels = _labels(n, prior, rng)
    return 2 * (rng.normal(size=n) + 2 * labels), labels


def unequal_spread(n: int, prior: float, rng: np.random.Generator) -> Draw:
    """Positives twice as spread as negatives: the posterior is quadratic in the margin."""
    labels = _labels(n, prior, rng)
    return np.where(labels, rng.normal(3, 2, n), rng.normal(0, 1, n)), labels


def overconfident(n: int, prior: float, rng: np.random.Generator) -> Draw:
    """Margins pushed outwards by a power, as a network trained too long does."""
    labels = _labels(n, prior, rng)
    u = rng.normal(size=n) + 2.4 * (labels - 0.5)
    return 4 * np.sign(u) * np.abs(u) ** 2, labels


def saturated(n: int, prior: float, rng: np.random.Generator) -> Draw:
    """Three positives in four and three negatives in four at a far end, the others near the middle."""
    labels = _labels(n, prior, rng)
    easy = rng.random(n) < 0.75
    hard = rng.normal(size=n) + 1.2 * (labels - 0.5)
    return np.where(easy, np.where(labels, 12.0, -12.0) + rng.normal(0, 2, n), hard), labels


def confident_errors(n: int, prior: float, rng: np.random.Generator) -> Draw:
    """One positive in eight looks like a sure negative, and the negatives have heavy tails."""
    labels = _labels(n, prior, rng)
    positive = np.where(rng.random(n) < 0.12, rng.normal(-3, 1, n), rng.normal(4, 2, n))
    return np.where(labels, positive, 1.5 * rng.standard_t(3, n) - 3), labels


def label_noise(n: int, prior: float, rng: np.random.Generator) -> Draw:
    """Overconfident margins, and 4 % of the labels flipped."""
    margins, labels = overconfident(n, prior, rng)
    return margins, labels ^ (rng.random(n) < 0.04)


SOURCES: tuple[Source, ...] = (normal, unequal_spread, overconfident, saturated, confident_errors, label_noise)


class Worth:
    """The true metric of any cut, from a large sample that is sorted once."""

    def __init__(self, margins: np.ndarray, labels: np.ndarray) -> None:
        order = np.argsort(margins, kind="stable")
        self.margins = margins[order]
        self.below = np.append(0, np.cumsum(labels[order]))
        self.positives = int(labels.sum())
        self.best = sweep(margins, labels, n_thresholds=0).value

    def __call__(self, cut: float) -> float:
        at = int(np.searchsorted(self.margins, cut, side="left"))
        tp = self.positives - int(self.below[at])
        predicted = self.margins.size - at
        negatives = self.margins.size - self.positives
        table = [tp, predicted - tp, self.positives - tp, negatives - predicted + tp]
        return float(COUNT_METRICS["mcc"](Counts.from_columns(np.asarray(table, dtype=np.float64))))


def loss(source: Source, n: int, prior: float, draws: int) -> tuple[float, dict[str, np.ndarray]]:
    """The best MCC there is, and per method how much less its cut is worth, in 100ths, for each draw."""
    rng = np.random.default_rng([n, round(100 * prior), len(source.__name__)])
    worth = Worth(*source(POPULATION, prior, rng))
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    while len(found["empirical"]) < draws:
        margins, labels = source(n, prior, rng)
        if min(labels.sum(), n - labels.sum()) < 2:
            continue
        samples = Samples.sorted(margins, labels, np.arange(n, dtype=np.int64))
        for name, options in METHODS.items():
            cut = choose(samples, options, options.method, len(found[name])).threshold
            found[name].append(100 * (worth.best - worth(cut)))
    return worth.best, {name: np.asarray(values) for name, values in found.items()}


def _with_error(values: np.ndarray) -> str:
    return f"{values.mean():.2f} ± {values.std(ddof=1) / math.sqrt(values.size):.2f}"


def main() -> None:
    """Prints a row a case, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--n", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--prior", type=float, nargs="+", default=[0.05, 0.5, 0.85])
    options = parser.parse_args()
    names = list(METHODS)
    print(f"| scores | n | positives | attainable MCC | {' | '.join(names)} |")
    print("|:--|--:|--:|--:|" + "--:|" * len(names))
    everything: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for source in SOURCES:
        for n in options.n:
            for prior in options.prior:
                best, losses = loss(source, n, prior, options.draws)
                for name in names:
                    everything[name].append(losses[name])
                cells = " | ".join(_with_error(losses[name]) for name in names)
                print(f"| {source.__name__} | {n:,} | {prior:g} | {best:.4f} | {cells} |", flush=True)
    cases = {name: np.stack(values) for name, values in everything.items()}
    errors = {name: table.mean(axis=0) for name, table in cases.items()}
    print(f"| mean of all | | | | {' | '.join(_with_error(errors[name]) for name in names)} |")
    print(f"| worst case | | | | {' | '.join(f'{cases[name].mean(axis=1).max():.2f}' for name in names)} |")


if __name__ == "__main__":
    main()
