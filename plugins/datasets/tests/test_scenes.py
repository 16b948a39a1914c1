"""What records of ROADWork say of a frame, in the forms in which they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roadwork_datasets.scenes import frame_of, gps_of, nested, sequence_of, text_of

DEGREES = st.floats(-90, 90)


@given(DEGREES, DEGREES)
def test_a_place_is_the_same_in_every_form(latitude: float, longitude: float) -> None:
    for value in (
        [latitude, longitude],
        f"[{latitude!r}, {longitude!r}]",
        f"{latitude!r},{longitude!r}",
        {"latitude": latitude, "longitude": longitude},
        {"lon": longitude, "lat": latitude},
    ):
        assert gps_of(value) == (latitude, longitude)


@pytest.mark.parametrize("value", [None, "", "[]", "None", "nan", [], [None, None], {"lat": None, "lon": None}])
def test_a_place_may_be_unknown(value: Any) -> None:
    assert gps_of(value) is None


@pytest.mark.parametrize(
    "value", [[1.0], "1", "[1, 2, 3]", "x", 7, True, [1, "2"], [95, 0], "[0, 181]", b"12", [1, None]]
)
def test_what_is_no_place_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"is no latitude and longitude|is not a place on earth"):
        gps_of(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (4.0, "4"),
        (2.5, "2.5"),
        (True, "true"),
        (" x ", "x"),
        (["Sunny", None, "Wet"], "Sunny, Wet"),
        ("['Sunny', \"It's wet\"]", "Sunny, It's wet"),
        ("[]", ""),
    ],
)
def test_values_become_the_text_of_tags(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_columns_with_dots_are_tables() -> None:
    assert nested({"a.b": 1, "a.c": 2, "d": 3, ".e": 4}) == {"a": {"b": 1, "c": 2}, "d": 3, ".e": 4}


def test_a_sequence_needs_a_video_or_a_city_with_a_number() -> None:
    assert sequence_of({"city": "Boston ", "seq": "4", "vid": "X"}) == "boston/4/x"
    assert sequence_of({"vid": "x"}) == "-/-/x"
    assert sequence_of({"city": "Boston", "seq": "4"}) == "boston/4/-"
    for tags in ({"seq": "4"}, {"city": "boston"}, {"city": "boston", "frame": "1"}, {}):
        assert sequence_of(tags) is None
    assert frame_of({"vid": "x", "frame": "04050.JPG"}) == frame_of({"vid": "X", "frame": "04050"}) == "-/-/x/04050"
    assert frame_of({"vid": "x"}) is None
