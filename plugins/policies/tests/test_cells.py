"""Cuts of resamples of very many margins, found on cells, are those that every sample would give."""

from __future__ import annotations

import numpy as np
import pytest
from roadwork_policies import cells
from roadwork_policies.cells import resampled_counts

from roadwork_core.metrics.sweep import Objective, best_cut


def drawn(n: int, *, tied: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Margins (n,), descending, and which are positive; `tied`: rounded to so many steps a logit."""
    rng = np.random.default_rng(5)
    positive = rng.random(n) < 0.3
    margins = rng.normal(size=n) * 1.5 + 2 * positive - 1
    if tied is not None:
        margins = np.round(margins * tied) / tied
    order = np.argsort(-margins, kind="stable")
    return margins[order], positive[order]


def cuts(margins: np.ndarray, positive: np.ndarray, codes: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = [best_cut(*table, Objective()).threshold for table in resampled_counts(margins, positive, codes, 150, rng)]
    return np.asarray(found)


@pytest.mark.parametrize("size", [1, 10])
def test_the_cuts_are_distributed_as_those_of_every_sample(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    margins, positive = drawn(30_000)
    codes = np.random.default_rng(1).permutation(np.arange(30_000) // size)
    on_cells = cuts(margins, positive, codes, 0)
    monkeypatch.setattr(cells, "MANY", 10**9)
    exact = cuts(margins, positive, codes, 1)
    error = exact.std() * np.sqrt(2 / 150)  # of a difference of two means
    assert abs(on_cells.mean() - exact.mean()) < 4 * error
    assert 0.7 < on_cells.std() / exact.std() < 1.4


def test_with_few_distinct_margins_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    margins, positive = drawn(30_000, tied=20)
    codes = np.arange(30_000) // 3
    on_cells = cuts(margins, positive, codes, 3)
    monkeypatch.setattr(cells, "MANY", 10**9)
    np.testing.assert_allclose(cuts(margins, positive, codes, 3), on_cells, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [1, 7])
def test_a_resample_draws_whole_groups_and_as_many_as_there_are(size: int) -> None:
    n = 21_000
    margins, _ = drawn(n)
    codes = np.arange(n) // size
    positive = codes % 2 == 0
    for centres, ones, zeros in resampled_counts(margins, positive, codes, 5, np.random.default_rng(0)):
        assert (np.diff(centres) < 0).all()
        assert centres.size <= cells.CELLS
        assert ones.sum() + zeros.sum() == n
        assert ones.sum() % size == 0
        assert abs(ones.sum() / size - n / size / 2) < 5 * np.sqrt(n / size / 4)
