"""Whether two samples differ: statistics with their null by permuting whole groups, and exact tails for coverage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, lgamma, log

import numpy as np
from numpy.typing import NDArray

from .inputs import Booleans, Floats, Integers

#: Of many assignments, bool (B, n), True where a sample counts as served: one figure each, float64 (B,).
Statistic = Callable[[Booleans], Floats]
#: Assignments that are looked at together, so that memory stays bounded.
_TOGETHER = 200


def permutation_test(
    statistic: Statistic, groups: Integers, served: Booleans, *, permutations: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The statistic of `served` (n,), and the share of assignments of whole groups in which it is as large.

    `groups` int64 (n,) codes from 0; a group is served or not as a whole. The p-value counts the observed assignment
    too, so it is valid for any number of permutations (Phipson and Smyth, 2010).
    """
    size = int(groups.max()) + 1
    whole = np.zeros(size, dtype=np.bool_)
    whole[groups[served]] = True
    observed = float(statistic(served[None, :])[0])
    rng, larger = np.random.default_rng(seed), 0
    for start in range(0, permutations, _TOGETHER):
        count = min(_TOGETHER, permutations - start)
        drawn = rng.permuted(np.broadcast_to(whole, (count, size)).copy(), axis=1)
        values = statistic(drawn[:, groups])
        larger += int(np.count_nonzero(values >= observed - 1e-12 * max(1.0, abs(observed))))
    return observed, (1 + larger) / (1 + permutations)


def _shares(assignments: Booleans) -> tuple[Floats, Floats]:
    """Weights of each sample in the reference and in the served sample, each row summing to 1: float64 (B, n)."""
    inside = assignments.astype(np.float64)
    reference = 1.0 - inside
    return (
        reference / np.maximum(reference.sum(axis=1, keepdims=True), 1.0),
        inside / np.maximum(inside.sum(axis=1, keepdims=True), 1.0),
    )


def kolmogorov_smirnov(values: Floats) -> Statistic:
    """The largest distance of the two distribution functions of `values` (n,); equal values move together."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    last = np.append(ordered[1:] != ordered[:-1], True)

    def statistic(assignments: Booleans) -> Floats:
        reference, served = _shares(assignments[:, order])
        gaps: Floats = np.abs(np.cumsum(served - reference, axis=1))[:, last].max(axis=1)
        return gaps

    return statistic


def population_stability(values: Floats, bins: int = 10) -> Statistic:
    """The population stability index of `values` (n,): the sum of (q - p) ln(q / p) over bins.

    The bins have equal mass in both samples together, so that they do not favour either; every bin counts half a
    sample more than it holds, so that an empty one is finite.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    code = np.searchsorted(edges, values, side="right")
    member = (code[:, None] == np.arange(len(edges) + 1)[None, :]).astype(np.float64)

    def statistic(assignments: Booleans) -> Floats:
        inside = assignments.astype(np.float64) @ member
        outside = member.sum(axis=0)[None, :] - inside
        p, q = (
            (count + 0.5) / (count.sum(axis=1, keepdims=True) + 0.5 * count.shape[1]) for count in (outside, inside)
        )
        index: Floats = ((q - p) * np.log(q / p)).sum(axis=1)
        return index

    return statistic


def difference_of_means(values: Floats) -> Statistic:
    """The absolute difference of the means of `values` (n,), such as of an indicator."""

    def statistic(assignments: Booleans) -> Floats:
        reference, served = _shares(assignments)
        gaps: Floats = np.abs((served - reference) @ values)
        return gaps

    return statistic


def squared_mmd(features: Floats) -> Statistic:
    """The squared maximum mean discrepancy (Gretton et al., 2012) of `features` (n, D), biased, so never negative.

    A Gaussian kernel as wide as the median distance, on features scaled to the same spread. Memory is 8 n^2 bytes.
    """
    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    squares = (scaled**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2.0 * scaled @ scaled.T, 0.0)
    apart = distances[np.triu_indices(len(features), 1)]
    width = float(np.median(apart)) if apart.size else 1.0
    kernel = np.exp(-distances / (width if width > 0 else 1.0))

    def statistic(assignments: Booleans) -> Floats:
        reference, served = _shares(assignments)
        weights = served - reference
        found: Floats = ((weights @ kernel) * weights).sum(axis=1)
        return found

    return statistic


def beta_binomial_cdf(successes: int, n: int, a: float, b: float) -> float:
    """P(X <= successes) of n draws whose rate is Beta(a, b): exact, summed from the shorter side."""
    if successes < 0:
        return 0.0
    if successes >= n:
        return 1.0
    whole = lgamma(a) + lgamma(b) - lgamma(a + b)

    def chance(x: int) -> float:
        ways = lgamma(n + 1) - lgamma(x + 1) - lgamma(n - x + 1)
        return exp(ways + lgamma(x + a) + lgamma(n - x + b) - lgamma(n + a + b) - whole)

    if successes < n / 2:
        return min(1.0, sum(chance(x) for x in range(successes + 1)))
    return max(0.0, 1.0 - sum(chance(x) for x in range(successes + 1, n + 1)))


def binomial_at_least(successes: int, n: int, rate: float) -> float:
    """P(X >= successes) of n independent draws, exact."""
    if successes <= 0:
        return 1.0
    if rate <= 0.0:
        return 0.0
    if rate >= 1.0:
        return 1.0
    return min(
        1.0,
        sum(
            exp(lgamma(n + 1) - lgamma(x + 1) - lgamma(n - x + 1) + x * log(rate) + (n - x) * log(1 - rate))
            for x in range(successes, n + 1)
        ),
    )


def fisher_exact(first: tuple[int, int], second: tuple[int, int]) -> float:
    """The two-sided p-value of Fisher's exact test; each pair is (successes, n)."""
    (a, n), (b, m) = first, second
    hits = a + b

    def chance(x: int) -> float:
        parts = [(n, x), (m, hits - x)]
        ways = sum(lgamma(size + 1) - lgamma(k + 1) - lgamma(size - k + 1) for size, k in parts)
        return exp(ways - (lgamma(n + m + 1) - lgamma(hits + 1) - lgamma(n + m - hits + 1)))

    observed = chance(a)
    every = (chance(x) for x in range(max(0, hits - m), min(n, hits) + 1))
    return min(1.0, sum(value for value in every if value <= observed * (1 + 1e-7)))


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """P-values adjusted so that a family of tests errs once in all with their level (Holm, 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
