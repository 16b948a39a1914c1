"""Balanced sampling draws each class or group as often as any other, and each of its samples as often, to the draw."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from roadwork_core.data.order import epoch_order, sample_seed
from roadwork_core.data.sample import Row
from roadwork_core.data.sampling import balanced_draws, drawn


def rows(targets: list[int], groups: list[str] | None = None) -> list[Row]:
    return [
        Row(
            index=100 + number,
            path="",
            label=str(target),
            target=target,
            split="train",
            group=groups[number] if groups else str(number),
            sha256="",
            phash="",
            width=1,
            height=1,
        )
        for number, target in enumerate(targets)
    ]


STRATA = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(
    lambda found: np.unique(found, return_inverse=True)[1]
)


@given(STRATA, st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_an_epoch_draws_each_stratum_as_often_as_any_other_give_or_take_one(
    strata: np.ndarray, seed: int, epoch: int
) -> None:
    draws = balanced_draws(strata, seed=seed, epoch=epoch)
    assert len(draws) == len(strata)
    counts = np.bincount(strata[draws], minlength=strata.max() + 1)
    assert counts.max() - counts.min() <= 1


@given(STRATA, st.integers(0, 99), st.integers(1, 6))
def test_over_epochs_every_sample_of_a_stratum_is_drawn_equally_often_give_or_take_one(
    strata: np.ndarray, seed: int, epochs: int
) -> None:
    draws = np.concatenate([balanced_draws(strata, seed=seed, epoch=epoch) for epoch in range(epochs)])
    per_stratum = np.bincount(strata[draws], minlength=strata.max() + 1)
    assert per_stratum.max() - per_stratum.min() <= 1
    for stratum in range(strata.max() + 1):
        times = np.bincount(draws, minlength=len(strata))[strata == stratum]
        assert times.max() - times.min() <= 1


def test_nine_to_one_becomes_one_to_one() -> None:
    table = rows([1] * 90 + [0] * 10)
    for epoch in range(3):
        draws = drawn(table, "class_balanced", seed=3, epoch=epoch)
        positions = [draw % 100 for draw in draws]
        counts = Counter(table[position].target for position in positions)
        assert counts == {0: 50, 1: 50}
        assert set(Counter(positions[n] for n in range(100) if positions[n] >= 90).values()) == {5}
        # An epoch that begins a deck before the one before is dealt out may see a sample of it twice.
        assert max(Counter(position for position in positions if position < 90).values()) <= (2 if epoch else 1)


def test_a_long_sequence_counts_no_more_than_a_short_one() -> None:
    table = rows([0, 1] * 30, ["long"] * 50 + ["a"] * 5 + ["b"] * 5)
    draws = drawn(table, "group_balanced", seed=0, epoch=4)
    assert Counter(table[draw % 60].group for draw in draws) == {"long": 20, "a": 20, "b": 20}


def test_each_occurrence_of_a_row_has_its_own_number_and_so_its_own_augmentation() -> None:
    table = rows([1] * 9 + [0])
    draws = drawn(table, "class_balanced", seed=0, epoch=0)
    assert len(set(draws)) == 10
    assert sorted(divmod(draw, 10)[0] for draw in draws if draw % 10 == 9) == [0, 1, 2, 3, 4]
    seeds = {sample_seed(0, 0, 109, occurrence) for occurrence in range(5)}
    assert len(seeds) == 5
    assert sample_seed(0, 0, 109) == sample_seed(0, 0, 109, 0)


def test_draws_follow_from_seed_and_epoch_alone_and_differ_between_them() -> None:
    table = rows([1] * 40 + [0] * 8)
    again = [drawn(rows([1] * 40 + [0] * 8), "class_balanced", seed=1, epoch=epoch) for epoch in (2, 0, 1)]
    first = [drawn(table, "class_balanced", seed=1, epoch=epoch) for epoch in (2, 0, 1)]
    assert first == again
    assert first[0] != first[1] != first[2]
    assert drawn(table, "class_balanced", seed=2, epoch=0) != first[1]


def test_shuffle_is_each_sample_once() -> None:
    assert drawn(rows([0, 1, 1, 1]), "shuffle", seed=5, epoch=2) == epoch_order(4, seed=5, epoch=2)
