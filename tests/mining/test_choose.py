"""What is chosen of a heap of errors: against brute force, against random picks, and what is doubted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from roadwork_core.mining import choose
from roadwork_core.mining.selection import farthest_points, nearest, normalised


def features(n: int, seed: int, dimensions: int = 8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(n, dimensions)).astype(np.float32)


@given(n=st.integers(2, 60), m=st.integers(0, 70), count=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_neighbours_are_scikit_learns_and_never_oneself(n: int, m: int, count: int, seed: int) -> None:
    among = features(n + m, seed)
    itself = np.arange(n)
    found = nearest(normalised(among[:n]), among, count, itself=itself)
    oracle = NearestNeighbors(n_neighbors=min(count, n + m - 1), metric="cosine").fit(among)
    # Asked without a query, scikit-learn leaves each sample itself out.
    distances = oracle.kneighbors()[0][:n]
    assert found[:, : distances.shape[1]] == pytest.approx(1 - distances, abs=1e-5)
    assert np.isneginf(found[:, distances.shape[1] :]).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    among, itself = features(100, 3), np.arange(50)
    whole = nearest(normalised(among[:50]), among, 7, itself=itself)
    monkeypatch.setattr("roadwork_core.mining.selection.BLOCK", 9)
    assert nearest(normalised(among[:50]), among, 7, itself=itself) == pytest.approx(whole, abs=1e-6)


@given(n=st.integers(1, 40), count=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_farthest_point_is_that_of_a_plain_loop(n: int, count: int, seed: int) -> None:
    rows = normalised(features(n, seed))
    priority = np.random.default_rng(seed).uniform(0.1, 1, n)
    expected = [int(np.argmax(priority))]
    while len(expected) < min(count, n):
        gains = [min(1 - float(rows[i] @ rows[j]) for j in expected) * priority[i] for i in range(n)]
        expected.append(max((i for i in range(n) if i not in expected), key=lambda i: gains[i]))
    assert farthest_points(rows, priority, count).tolist() == expected


def test_equal_pictures_are_picked_once() -> None:
    rows = np.repeat(features(3, 0), 5, axis=0)
    found = choose(rows, np.arange(15.0) + 1, others=features(0, 1), cap=10, pool=15)
    assert len({int(place) // 5 for place in found.picked}) == len(found.picked) == 3


def test_nothing_gives_nothing() -> None:
    found = choose(features(0, 0), np.empty(0), others=features(5, 1), cap=3, pool=9)
    assert len(found.picked) == len(found.suspects) == 0


def planted(seed: int) -> tuple[Any, ...]:
    """Errors of one label: 12 modes of very unequal size, and 30 samples with a wrong label amid those of the other.

    Returns features, losses, features of the other label, and the mode of each error (-1: a wrong label).
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(13, 32)) * 4
    sizes = [400, 200, 100, 60, 30, 20, 15, 15, 12, 12, 12, 12]
    modes = np.repeat(np.arange(12), sizes)
    rows = centres[modes] + rng.normal(size=(len(modes), 32))
    others = centres[12] + rng.normal(size=(800, 32))
    flipped = centres[12] + rng.normal(size=(30, 32))
    everything = np.concatenate([rows, flipped]).astype(np.float32)
    modes = np.concatenate([modes, np.full(30, -1)])
    losses = np.where(modes < 0, rng.uniform(3, 5, len(modes)), rng.uniform(1, 4, len(modes)))
    return everything, losses, others.astype(np.float32), modes


@pytest.mark.parametrize("seed", range(5))
def test_a_choice_covers_more_modes_than_random_picks_and_leaves_out_wrong_labels(seed: int) -> None:
    rows, losses, others, modes = planted(seed)
    found = choose(rows, losses, others=others, cap=24, pool=len(rows))
    covered = len(set(modes[found.picked].tolist()) - {-1})
    draws = np.random.default_rng(seed)
    random = [len(set(modes[draws.choice(len(rows), 24, replace=False)].tolist()) - {-1}) for _ in range(200)]
    assert covered == 12
    assert covered > np.quantile(random, 0.99)
    assert (modes[found.suspects] == -1).all()


def test_wrong_labels_are_found_but_for_those_that_chance_surrounds_with_their_like() -> None:
    """Each of the 10 neighbours is one of 29 other wrong labels or of 800 right ones; two of the former hide it."""
    doubted, picked, of_largest_loss, seeds = 0, 0, 0, 20
    for seed in range(seeds):
        rows, losses, others, modes = planted(seed)
        found = choose(rows, losses, others=others, cap=24, pool=len(rows))
        doubted += len(found.suspects)
        picked += int((modes[found.picked] == -1).sum())
        of_largest_loss += int((modes[np.argsort(-losses)[:24]] == -1).sum())
    assert doubted / (30 * seeds) == pytest.approx(hypergeom(829, 29, 10).cdf(1), abs=0.03)
    assert picked < 0.1 * of_largest_loss


def test_errors_that_come_in_numbers_go_before_odd_ones_and_large_losses_before_small_ones() -> None:
    rng = np.random.default_rng(0)
    many = np.eye(8)[0] + 0.05 * rng.normal(size=(20, 8))
    rows = np.concatenate([many, np.eye(8)[1:2]]).astype(np.float32)
    losses = np.where(np.arange(21) == 7, 1.5, 1.0)
    losses[20] = 2.0
    found = choose(rows, losses, others=features(0, 1), cap=2, pool=21)
    assert found.picked.tolist() == [7, 20]


def test_a_model_trained_on_the_choice_errs_less_than_one_trained_on_random_picks() -> None:
    """The same number of pictures added to the same training set, tested on new samples of every mode alike."""
    ours, theirs = [], []
    for seed in range(6):
        rows, losses, others, modes = planted(seed)
        rng = np.random.default_rng(100 + seed)
        centres = np.stack([rows[modes == mode].mean(axis=0) for mode in range(12)])
        fresh = np.repeat(centres, 40, axis=0) + rng.normal(size=(480, 32))

        def error(picked: Any, rows: Any = rows, others: Any = others, fresh: Any = fresh) -> float:
            data = np.concatenate([others, rows[picked]])
            truth = np.concatenate([np.zeros(len(others)), np.ones(len(picked))])
            model = LogisticRegression(max_iter=500, class_weight="balanced").fit(data, truth)
            return float(1 - model.predict(fresh).mean())

        ours.append(error(choose(rows, losses, others=others, cap=24, pool=len(rows)).picked))
        theirs += [error(rng.choice(len(rows), 24, replace=False)) for _ in range(5)]
    assert np.mean(ours) < 0.5 * np.mean(theirs)


def test_the_pool_is_of_the_largest_losses() -> None:
    rows, losses, others, _ = planted(0)
    found = choose(rows, losses, others=others, cap=10, pool=50)
    assert losses[found.pool].min() >= np.sort(losses)[-50]
    assert set(found.picked.tolist()) <= set(found.pool.tolist())
