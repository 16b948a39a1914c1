"""Rank, gaps and percentile at the edges: empty, absent, alone, tied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from roadwork_core.errors import DataError
from roadwork_core.kinds import Entry
from roadwork_core.leaderboard import Standing, standing_of
from roadwork_core.leaderboard.standing import leader_of


def board(*scores: float) -> list[Entry]:
    return [Entry(name=f"m{index}", score=score) for index, score in enumerate(scores)]


def test_nobody_stands_on_an_empty_leaderboard_and_the_absent_do_not_stand() -> None:
    assert standing_of("m0", []) is None
    assert standing_of("other", board(1.0, 2.0)) is None


def test_alone_there_is_nobody_to_compare_with() -> None:
    expected = Standing(rank=1, of=1, score=0.5, tied=0, to_leader=0.0, to_next=None, percentile=None)
    assert standing_of("m0", board(0.5)) == expected


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("m0", (1, 0, 0.0, None, 100.0)),
        ("m1", (2, 1, 1.0, 1.0, 50.0)),
        ("m3", (4, 0, 3.0, 2.0, 0.0)),
    ],
)
def test_a_tie_shares_the_better_rank_and_counts_half(own: str, expected: tuple[object, ...]) -> None:
    found = standing_of(own, board(4.0, 3.0, 3.0, 1.0))
    assert found is not None
    assert (found.rank, found.tied, found.to_leader, found.to_next, found.percentile) == expected


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12))
def test_ranks_are_scipys_and_percentiles_lie_between_0_and_100(scores: list[int]) -> None:
    ranks = stats.rankdata([-score for score in scores], method="min")
    for index, rank in enumerate(ranks):
        found = standing_of(f"m{index}", board(*map(float, scores)))
        assert found is not None
        assert found.rank == rank
        assert found.percentile is not None
        assert 0.0 <= found.percentile <= 100.0
        assert (found.to_next is None) == (rank == 1)


def test_a_leaderboard_that_names_one_twice_has_no_standing() -> None:
    with pytest.raises(DataError, match="twice"):
        standing_of("m0", [*board(1.0), *board(2.0)])


def test_the_leader_is_the_first_of_the_best() -> None:
    assert leader_of([]) is None
    found = leader_of(board(1.0, 2.0, 2.0))
    assert found is not None
    assert found.name == "m1"


@pytest.mark.parametrize("score", [float("nan"), float("inf"), True, 10**400])
def test_an_entry_has_a_finite_score(score: float) -> None:
    with pytest.raises(ValueError, match="no finite score"):
        Entry(name="a", score=score)
