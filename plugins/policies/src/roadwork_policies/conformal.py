"""The closed forms of selective conformal prediction, on confidences and nonconformity scores alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from roadwork_core.errors import InfeasibleError
from roadwork_core.metrics.inputs import Booleans, Floats

JITTER_RULE = "equal confidences are ordered by splitmix64 of the row's float64 logits and the salt"


def ceil_count(share: float, n: int) -> int:
    """ceil(share * n), not thrown off by the last bits of the product (0.1 * 30 is above 3 in binary)."""
    product = share * n
    nearest = round(product)
    return nearest if math.isclose(product, nearest, rel_tol=1e-15) else math.ceil(product)


def conformal_rank(n: int, alpha: float) -> int:
    """k = ceil((n + 1)(1 - alpha)): the k-th smallest of n scores covers with probability k/(n + 1) at least."""
    return ceil_count(1.0 - alpha, n + 1)


def quantile(scores: Floats, alpha: float) -> float:
    """The conformal quantile of `scores` (n,): the k-th smallest, inf where k > n."""
    k = conformal_rank(scores.size, alpha)
    return math.inf if k > scores.size else float(np.partition(scores, k - 1)[k - 1])


def jitter(logits: Floats, salt: int) -> NDArray[np.uint64]:
    """A number per row (n,) that is a function of the row alone, so the same in every batch and on every machine."""
    words = np.ascontiguousarray(logits + 0.0).view(np.uint64)
    state = np.full(logits.shape[0], salt, dtype=np.uint64)
    for column in range(words.shape[1]):
        state = _splitmix64(state ^ words[:, column])
    return state


def _splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = x + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


@frozen
class Cut:
    """Select what is strictly above (confidence, jitter) in that order; without a confidence everything."""

    confidence: float | None
    jitter: int

    def selects(self, confidence: Floats, jitters: NDArray[np.uint64]) -> Booleans:
        """Which samples (n,) are selected."""
        if self.confidence is None:
            return np.ones(confidence.size, dtype=np.bool_)
        tied = (confidence == self.confidence) & (jitters > np.uint64(self.jitter))
        above: Booleans = (confidence > self.confidence) | tied
        return above


def top_cut(confidence: Floats, jitters: NDArray[np.uint64], k: int) -> Cut:
    """The cut at the k-th largest confidence (n,), or one that selects everything where k > n.

    A new sample is then selected exactly when it is above the (k + 1)-th largest of all n + 1: a rule in which no
    sample is special, which is why the coverage among the selected is that of split conformal prediction.
    """
    if k > confidence.size:
        return Cut(None, 0)
    index = np.lexsort((jitters, confidence))[confidence.size - k]
    return Cut(float(confidence[index]), int(jitters[index]))


def transductive_count(n: int, xi: float) -> int:
    """K = ceil(xi (n + 1)): with the cut at the K-th largest a new sample is selected with probability K/(n + 1)."""
    return ceil_count(xi, n + 1)


def inductive_count(n: int, xi: float, delta: float) -> int:
    """The K whose cut selects a share of at least xi with probability 1 - delta.

    K - 1 of the n samples lie above the cut, and the true share is at least (K - 1)/n - sqrt(log(1/delta)/(2n)): less
    than xi it is just where K samples or more fall among the xi most confident, a binomial count (Hoeffding; K is
    fixed before the samples, so that no inequality over all cuts is needed).
    """
    slack = math.sqrt(math.log(1.0 / delta) / (2.0 * n))
    return min(ceil_count(xi + slack, n) + 1, n + 1)


def smallest_n(alpha: float, count: Callable[[int], int]) -> int:
    """The least n with which `count(n)` = K gives a finite bound, that is K - 1 >= ceil(K (1 - alpha)).

    `count` does not fall as n rises, so the n that do are those from one on: found by doubling and halving.
    """

    def finite(n: int) -> bool:
        return conformal_rank(count(n) - 1, alpha) <= count(n) - 1

    enough = 1
    while not finite(enough):
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if finite(middle) else (middle, enough)
    return enough


def selected_quantile(scores: Floats, alpha: float, found: str, n_needed: int) -> float:
    """The nonconformity bound from scores (n,), of samples that `found` describes.

    Raises InfeasibleError, naming the number of samples needed, where it would be infinite.
    """
    bound = quantile(scores, alpha)
    if math.isfinite(bound):
        return bound
    raise infeasible(found, alpha, n_needed)


def infeasible(found: str, alpha: float, n_needed: int, *, of: str = "conformal samples") -> InfeasibleError:
    """The error that says how many samples it takes."""
    return InfeasibleError(
        f"INFEASIBLE: coverage {1 - alpha:g} cannot be promised {found}; it takes at least {n_needed} {of}",
        hint="give val_calib more samples or groups, or choose a smaller fit_fraction or a larger alpha",
    )
