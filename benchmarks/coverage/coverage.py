"""Nominal against measured: coverage, selection and selective error by simulation, where they hold and where not."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from roadwork_policies import (
    BetaCalibration,
    Conformal,
    Identity,
    IsotonicCalibration,
    Platt,
    Scrc,
    SelectiveError,
    Temperature,
    VectorScaling,
)
from roadwork_policies.selective_error import largest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from roadwork_core.kinds import Policy, PolicyContext
from roadwork_core.metrics import clopper_pearson

Sample = tuple[np.ndarray, np.ndarray]
Draw = Callable[[int, np.random.Generator], Sample]
FRESH = 1000


def normal(
    n: int, rng: np.random.Generator, *, prior: float = 0.5, classes: int = 2, distance: float = 2.0, lean: float = 0.0
) -> Sample:
    """Overconfident normal logits (n, classes); class 1 has the share `prior` and its logit is lowered by `lean`."""
    others = [label for label in range(classes) if label != 1]
    labels = np.where(rng.random(n) < prior, 1, rng.choice(others, size=n))
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += distance
    logits[:, 1] -= lean
    return 2 * logits, labels


def build(component: Any, sample: Sample, seed: int, groups: np.ndarray | None = None) -> Policy:
    """The policy fitted to a sample."""
    logits, labels = sample
    classes = tuple(str(label) for label in range(logits.shape[1]))
    ctx = PolicyContext(logits=logits, labels=labels, groups=groups, classes=classes, positive=1, seed=seed, members={})
    policy: Policy = component.build(ctx)
    return policy


def observe(policy: Policy, sample: Sample) -> dict[str, float]:
    """Selection, coverage of the selected and of the selected positives, set size, answers and their error."""
    logits, labels = sample
    decisions = policy.decide(logits)
    selected = ~np.asarray([reason.startswith("not selected") for reason in decisions.reasons])
    covered = decisions.sets[np.arange(labels.size), labels]
    answered = ~decisions.abstain
    wrong = answered & (decisions.labels != labels)
    return {
        "selected": float(selected.mean()),
        "coverage": float(covered[selected].mean()),
        "positives": float(covered[selected & (labels == 1)].mean()),
        "size": float(decisions.sets[selected].sum(axis=1).mean()),
        "answered": float(answered.mean()),
        "error": float(wrong.sum() / answered.sum()) if answered.any() else math.nan,
    }


def repeat(
    component: Any, n: int, fit: Draw, meet: Draw, draws: int
) -> tuple[Mapping[str, Any], dict[str, np.ndarray]]:
    """The last guarantee, and what was observed in every draw of n samples of `fit` and fresh ones of `meet`."""
    rows: list[dict[str, float]] = []
    promise: Mapping[str, Any] = {}
    for seed in range(draws):
        rng = np.random.default_rng([seed, n])
        policy = build(component, fit(n, rng), seed)
        promise = policy.guarantee() or {}
        rows.append(observe(policy, meet(FRESH, rng)))
    return promise, {key: np.asarray([row[key] for row in rows]) for key in rows[0]}


def shown(values: np.ndarray) -> str:
    """Mean ± standard error."""
    return f"{values.mean():.4f} ± {values.std(ddof=1) / math.sqrt(values.size):.4f}"


def heading(*columns: str) -> None:
    """The head of a Markdown table."""
    print("| " + " | ".join(columns) + " |")
    print("|" + "--:|" * len(columns))


def scrc_table(draws: int) -> None:
    """SCRC-T over alpha, samples, class balance and calibrator."""
    heading(
        "alpha", "n", "positives", "calibrator", "selection", "measured", "coverage", "measured", "answered", "error"
    )
    calibrators = {
        "none": Identity(),
        "temperature": Temperature(),
        "platt": Platt(),
        "beta": BetaCalibration(),
        "isotonic": IsotonicCalibration(),
        "vector": VectorScaling(),
    }
    cases = [(alpha, n, 0.5, "temperature") for alpha in (0.02, 0.1, 0.2) for n in (200, 1000, 4000)]
    cases += [(0.1, 1000, prior, "temperature") for prior in (0.05, 0.85)]
    cases += [(0.1, 1000, 0.5, name) for name in calibrators if name != "temperature"]
    for alpha, n, prior, name in cases:

        def draw(size: int, rng: np.random.Generator, prior: float = prior) -> Sample:
            return normal(size, rng, prior=prior)

        component = Scrc(alpha=alpha, xi=0.8, calibrator=calibrators[name])
        promise, found = repeat(component, n, draw, draw, draws)
        cells = [alpha, f"{n:,}", prior, name, f"{promise['selection']:.4f}", shown(found["selected"])]
        cells += [f"{promise['coverage_without_ties']:.4f}", shown(found["coverage"])]
        cells += [f"{found['answered'].mean():.3f}", error_shown(found)]
        print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def error_shown(found: Mapping[str, np.ndarray]) -> str:
    """The mean error of the answers, over draws with answers; a dash where hardly one sample in 2,000 is answered."""
    return "–" if found["answered"].mean() < 0.0005 else f"{np.nanmean(found['error']):.3f}"


def sets_table(draws: int) -> None:
    """Conformal scores on five classes of which one is rare and neglected by the logits."""
    heading("score", "coverage", "measured", "of the rare class", "labels in a set", "answered", "error")

    def draw(size: int, rng: np.random.Generator) -> Sample:
        return normal(size, rng, prior=0.08, classes=5, distance=1.2, lean=0.8)

    options: Mapping[str, Mapping[str, Any]] = {
        "lac": {"score": "lac"},
        "aps": {"score": "aps"},
        "aps, not randomized": {"score": "aps", "randomized": False},
        "raps": {"score": "raps"},
        "lac, class-conditional": {"score": "lac", "class_conditional": True},
        "aps, class-conditional": {"score": "aps", "class_conditional": True},
    }
    for name, chosen in options.items():
        component = Conformal(alpha=0.1, calibrator=Temperature(), **chosen)
        promise, found = repeat(component, 2000, draw, draw, draws)
        exactly = promise["coverage_without_ties"]
        nominal = f"{exactly:.4f}" if isinstance(exactly, float) else "0.9 in each"
        cells = [name, nominal, shown(found["coverage"]), shown(found["positives"]), f"{found['size'].mean():.3f}"]
        cells += [f"{found['answered'].mean():.3f}", error_shown(found)]
        print("| " + " | ".join(cells) + " |", flush=True)


def broken_table(draws: int) -> None:
    """What the promise of .9 becomes where new samples are not like those of the calibration."""
    heading("calibrated on", "met", "policy", "promised", "measured")

    def fit(size: int, rng: np.random.Generator) -> Sample:
        return normal(size, rng, prior=0.85, lean=1.0)

    meetings: Mapping[str, Draw] = {
        "the same": fit,
        "15 % positives": lambda size, rng: normal(size, rng, prior=0.15, lean=1.0),
        "50 % positives": lambda size, rng: normal(size, rng, prior=0.5, lean=1.0),
        "blurred: distance 1.2, not 2": lambda size, rng: normal(size, rng, prior=0.85, lean=1.0, distance=1.2),
    }
    policies: Mapping[str, Any] = {
        "scrc": Scrc(alpha=0.1, calibrator=Platt()),
        "conformal": Conformal(alpha=0.1, calibrator=Platt()),
        "conformal, class-conditional": Conformal(alpha=0.1, class_conditional=True, calibrator=Platt()),
    }
    for name, meet in meetings.items():
        for policy, component in policies.items():
            _, found = repeat(component, 1000, fit, meet, draws)
            print(f"| 85 % positives | {name} | {policy} | 0.90 | {shown(found['coverage'])} |", flush=True)
    grouped_rows(draws)


def grouped(groups: int, size: int, rng: np.random.Generator) -> tuple[Sample, np.ndarray]:
    """Frames of sequences: the samples of a group share a label and most of their luck."""
    labels = np.repeat(rng.integers(0, 2, size=groups), size)
    luck = np.repeat(1.5 * rng.normal(size=groups), size)
    m = (2 * labels - 1) * (2 + luck + 0.4 * rng.normal(size=labels.size))
    return (np.stack([-m, m], axis=1), labels), np.repeat(np.arange(groups), size)


def grouped_rows(draws: int) -> None:
    """All samples of few groups against one sample of each."""
    for count in (12, 25, 100):
        for how in ("all", "one"):
            component = Conformal(alpha=0.1, calibrator=Identity(), per_group=how)
            coverage = []
            for seed in range(2 * draws):
                rng = np.random.default_rng([seed, count])
                sample, groups = grouped(count, 40, rng)
                fresh, _ = grouped(FRESH, 1, rng)
                coverage.append(observe(build(component, sample, seed, groups), fresh)["coverage"])
            nominal = math.ceil((count + 1) * 0.9 - 1e-9) / (count + 1) if how == "one" else 0.9
            name = f'conformal, per_group = "{how}"'
            print(
                f"| {count} groups of 40 | new groups | {name} | {nominal:.4f} | {shown(np.asarray(coverage))} |",
                flush=True,
            )


def selective_table(draws: int) -> None:
    """How often the true error of the answers is above the target, and how much is answered."""
    heading("n", "target", "cut by", "violations", "95 % interval", "answered", "nothing answered")
    for n, target in ((500, 0.05), (2000, 0.05), (2000, 0.1), (8000, 0.05)):
        found: dict[str, list[tuple[bool, float]]] = {"estimate": [], "fixed_sequence": [], "sgr": []}
        for seed in range(draws):
            rng = np.random.default_rng([seed, n, 7])
            m = rng.normal(size=n) + 1.0
            confidence, wrong, jitters = np.abs(m), m < 0, np.zeros(n, dtype=np.uint64)
            for method, results in found.items():
                k = _cut(method, target, confidence, jitters, wrong)
                cut = 0.0 if k is not None and k > n else np.sort(confidence)[n - (k or 1)]
                right, missed = stats.norm.sf(cut - 1.0), stats.norm.cdf(-cut - 1.0)
                share = float(right + missed)
                results.append((k is not None and missed / share > target, share if k is not None else 0.0))
        for method, results in found.items():
            violated, shares = np.asarray([row[0] for row in results]), np.asarray([row[1] for row in results])
            rate = clopper_pearson(int(violated.sum()), draws)
            print(
                f"| {n:,} | {target} | {method} | {rate.value:.3f} | {rate.low:.3f} to {rate.high:.3f} |"
                f" {shares.mean():.3f} | {np.mean(shares == 0):.3f} |",
                flush=True,
            )


def _cut(method: str, target: float, confidence: np.ndarray, jitters: np.ndarray, wrong: np.ndarray) -> int | None:
    if method == "estimate":
        order = np.argsort(-confidence)
        kept = np.flatnonzero(np.cumsum(wrong[order]) / np.arange(1, wrong.size + 1) <= target)
        return int(kept[-1]) + 2 if kept.size else None
    methods: Mapping[str, Any] = {
        name: SelectiveError(method=name, target_error=target, delta=0.1, calibrator=Identity())
        for name in ("fixed_sequence", "sgr")
    }
    return largest(methods[method], confidence, jitters, wrong)[0]


def digits_table(splits: int) -> None:
    """scikit-learn's digits, 5 to 9 against 0 to 4: 300 to train, 500 to calibrate, 997 to look; 5 * `splits` times."""
    bunch: Any = load_digits()
    labels = (bunch.target >= 5).astype(np.int64)
    order = np.random.default_rng(0).permutation(labels.size)
    train, rest = order[:300], order[300:]
    model: Any = LogisticRegression(C=0.01, max_iter=500).fit(bunch.data[train] / 16, labels[train])
    m = model.decision_function(bunch.data / 16)
    logits = np.stack([-m / 2, m / 2], axis=1)
    policies: Mapping[str, Any] = {
        "conformal, lac": Conformal(alpha=0.1, calibrator=Identity()),
        "scrc, xi 0.8": Scrc(alpha=0.1, xi=0.8, calibrator=Identity()),
    }
    heading("policy", "selection", "measured", "coverage", "measured", "spread", "spread in theory")
    for name, component in policies.items():
        rows, promise = [], {}
        for split in range(5 * splits):
            shuffled = np.random.default_rng(split).permutation(rest)
            fit, new = shuffled[:500], shuffled[500:]
            policy = build(component, (logits[fit], labels[fit]), split)
            promise = dict(policy.guarantee() or {})
            rows.append(observe(policy, (logits[new], labels[new])))
        coverage, selected = (np.asarray([row[key] for row in rows]) for key in ("coverage", "selected"))
        used = promise.get("selected", promise["n"])
        rank = round(promise["coverage_without_ties"] * (used + 1))
        met = round(997 * selected.mean())
        spread = stats.betabinom(met, rank, used + 1 - rank).std() / met
        print(
            f"| {name} | {promise.get('selection', 1.0):.4f} | {shown(selected)} |"
            f" {promise['coverage_without_ties']:.4f} | {shown(coverage)} |"
            f" {coverage.std(ddof=1):.4f} | {spread:.4f} |",
            flush=True,
        )


TABLES: Mapping[str, Callable[[int], None]] = {
    "scrc": scrc_table,
    "sets": sets_table,
    "broken": broken_table,
    "selective": selective_table,
    "digits": digits_table,
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    for name in options.tables:
        print(f"\n{name}, {options.draws} draws\n")
        TABLES[name](options.draws)


if __name__ == "__main__":
    main()
