"""Wrong labels among the errors of a model: neighbours' agreement, as `roadwork mine` has it, and confident learning.

A model that has never seen the digit 9 serves all ten (5 to 9 against 0 to 4). Some labels of what it served are wrong.
Among its errors, which are wrong labels, and which are the pictures that it needs? cleanlab is installed by hand.
"""

from __future__ import annotations

import argparse
import platform

import cleanlab
import numpy as np
import sklearn
from cleanlab.filter import find_label_issues
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from roadwork_core.mining import choose

METHODS = ("agreement 0.2", "agreement 0.4", "cleanlab, model", "cleanlab, neighbours")


def agreement(
    features: np.ndarray, given: np.ndarray, said: np.ndarray, losses: np.ndarray, share: float
) -> np.ndarray:
    """bool (n,): errors that `roadwork mine --agreement SHARE` sets aside, each type of error for itself."""
    doubted = np.zeros(len(given), dtype=bool)
    wrong = said != given
    for label in (0, 1):
        errors = np.flatnonzero(wrong & (given == label))
        alike = np.flatnonzero(~wrong & (given == label))
        others = np.flatnonzero(given != label)
        found = choose(
            features[errors],
            losses[errors],
            others=features[others],
            alike=features[alike],
            cap=len(errors),
            pool=len(errors),
            agreement=share,
        )
        doubted[errors[found.suspects]] = True
    return doubted


def one(noise: float, seed: int) -> dict[str, tuple[float, float]]:
    """By method: the share of the wrong labels that are found, and that of the model's real errors that are lost."""
    rng = np.random.default_rng(seed)
    images, digits = load_digits(return_X_y=True)
    features = images.astype(np.float32) - images.mean(axis=1, keepdims=True).astype(np.float32)
    order = rng.permutation(len(digits))
    seen, served = order[:600], order[600:]
    seen = seen[digits[seen] != 9]
    model = LogisticRegression(max_iter=300, C=1e-3).fit(images[seen], digits[seen] >= 5)
    truth = (digits[served] >= 5).astype(int)
    given = np.where(rng.random(len(served)) < noise, 1 - truth, truth)
    probabilities = model.predict_proba(images[served])
    said = (probabilities[:, 1] >= 0.5).astype(int)
    losses = -np.log(probabilities[np.arange(len(served)), given].clip(1e-12))
    # Each sample's neighbours but itself: out of sample, and not blind where the model is.
    places = KNeighborsClassifier(11, metric="cosine").fit(features[served], given).kneighbors(return_distance=False)
    share = given[places[:, :10]].mean(axis=1)
    doubted = {
        "agreement 0.2": agreement(features[served], given, said, losses, 0.2),
        "agreement 0.4": agreement(features[served], given, said, losses, 0.4),
        "cleanlab, model": find_label_issues(given, probabilities, n_jobs=1),
        "cleanlab, neighbours": find_label_issues(given, np.stack([1 - share, share], axis=1), n_jobs=1),
    }
    errors = said != given
    flipped, real = errors & (given != truth), errors & (given == truth)
    return {name: (doubted[name][flipped].mean(), doubted[name][real].mean()) for name in METHODS}


def interval(values: list[float]) -> str:
    """Mean and 95 % interval over seeds."""
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{100 * np.mean(values):5.1f} % +- {100 * half:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    options = parser.parse_args()
    versions = f"cleanlab {cleanlab.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}"
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {versions}")
    for noise in (0.02, 0.05, 0.1):
        found = [one(noise, seed) for seed in range(options.seeds)]
        for name in METHODS:
            wrong, real = ([row[name][place] for row in found] for place in (0, 1))
            print(f"noise {noise:.0%}  {name:<20}  wrong found {interval(wrong)}  real errors lost {interval(real)}")


if __name__ == "__main__":
    main()
