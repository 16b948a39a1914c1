"""The reward that a miner of NATIX StreetVision may expect of given rates of recognition."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .binary import Counts, mcc, ratio
from .inputs import Floats, InvalidScores

#: Answers that the reward looks back on, and the share of positives among them.
WINDOW = 100
PRIOR = 0.5


def reward(counts: Counts) -> Floats:
    """(MCC / 2 + accuracy / 2) cubed over a window, with MCC floored at 0 (and 0 where the window holds one class)."""
    accuracy = ratio(counts.tp + counts.tn, counts.total)
    cubed: Floats = ((np.maximum(mcc(counts), 0.0) + accuracy) / 2.0) ** 3
    return cubed


def expected_reward(recall: ArrayLike, specificity: ArrayLike, *, window: int = WINDOW, prior: float = PRIOR) -> Floats:
    """Mean reward of independent answers with these rates, each (R,), over windows drawn at random: float64 (R,).

    Exact: the sum over every count of positives, of hits among them and of hits among the rest, each binomial.
    Raises InvalidScores for a rate outside [0, 1].
    """
    rates = [np.atleast_1d(np.asarray(rate, dtype=np.float64)) for rate in (recall, specificity)]
    if not all(((rate >= 0.0) & (rate <= 1.0)).all() for rate in rates) or not 0.0 <= prior <= 1.0 or window < 1:
        raise InvalidScores("rates and the prior must lie between 0 and 1, and the window be at least 1")
    choose = _log_factorials(window)
    drawn = _binomial(np.array([prior]), window, choose)[0]
    total = np.zeros(np.broadcast_shapes(*(rate.shape for rate in rates)))
    for positives in np.flatnonzero(drawn > 1e-12).tolist():
        tp = np.arange(positives + 1.0)[:, None]
        tn = np.arange(window - positives + 1.0)[None, :]
        table = reward(Counts(*np.broadcast_arrays(tp, window - positives - tn, positives - tp, tn)))
        hits = _binomial(rates[0], positives, choose), _binomial(rates[1], window - positives, choose)
        total += drawn[positives] * ((hits[0] @ table) * hits[1]).sum(axis=1)
    return total


def _log_factorials(n: int) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, n + 1.0)))])


def _binomial(rate: Floats, n: int, log_factorial: Floats) -> Floats:
    """Binomial probabilities of 0 to n hits at each rate (R,): float64 (R, n + 1)."""
    k = np.arange(n + 1)
    ways = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    # 0 log 0 is 0 here: a rate of 0 or 1 leaves one outcome.
    hit = np.where(k > 0, k * np.log(np.maximum(rate, 1e-300))[:, None], 0.0)
    miss = np.where(k < n, (n - k) * np.log(np.maximum(1.0 - rate, 1e-300))[:, None], 0.0)
    chances: Floats = np.exp(ways + hit + miss)
    return chances
