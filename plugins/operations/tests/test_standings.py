"""Rank, gaps and percentile at the edges: empty, absent, alone, tied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roadwork_operations.standings import Entry, Standing, parse_entries, standing_of
from scipy import stats

from roadwork_core.errors import DataError


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


def test_entries_are_found_where_they_are_said_to_be() -> None:
    content = b'{"data": {"rows": [{"who": 7, "points": 2}]}}'
    assert parse_entries(content, entries="data.rows", name="who", score="points") == [Entry(name="7", score=2.0)]
    assert parse_entries(b"[]") == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>", "did not answer with JSON"),
        (b"[" * 100_000, "did not answer with JSON"),
        (b"{}", "not an array"),
        (b"[1]", "entry 0"),
        (b'[{"name": "a"}]', "entry 0"),
        (b'[{"name": "a", "score": "1"}]', "no finite score"),
        (b'[{"name": "a", "score": NaN}]', "no finite score"),
        (b'[{"name": "a", "score": true}]', "no finite score"),
        (b'[{"name": "a", "score": 1}, {"name": "a", "score": 2}]', "twice"),
    ],
)
def test_any_other_answer_is_one_clear_error(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        parse_entries(content)
