"""What a report draws: every change of a line, and no more points than a page can show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roadwork_core.leaderboard.reporting import number, signed, thinned

NAN = float("nan")


def drawn(points: list[tuple[int, float]]) -> list[str]:
    """The value of a line of steps at every time between its first and its last point."""
    values = dict(points)
    shown, last = [], NAN
    for time in range(points[0][0], points[-1][0] + 1):
        last = values.get(time, last)
        shown.append(repr(last))
    return shown


@given(st.lists(st.sampled_from([1.0, 2.0, NAN]), min_size=1, max_size=40))
def test_a_thinned_line_is_the_same_line(values: list[float]) -> None:
    points = list(enumerate(values))
    kept = thinned(points)
    assert drawn(kept) == drawn(points)
    assert len(kept) <= len(points)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=300), st.integers(2, 20))
def test_of_many_points_the_ends_stay(values: list[int], most: int) -> None:
    points = list(enumerate(map(float, values)))
    kept = thinned(points, most)
    assert len(kept) <= most + 1
    assert (kept[0], kept[-1]) == (points[0], points[-1])


def test_a_history_of_one_value_is_two_points() -> None:
    assert thinned([(time, 7.0) for time in range(1000)]) == [(0, 7.0), (999, 7.0)]


def test_gaps_are_shown_as_what_is_missing() -> None:
    assert [signed(0.0), signed(0.25), signed(None)] == ["0", "-0.25", "-"]
    assert [number(1 / 3), number(None)] == ["0.333333", "-"]
