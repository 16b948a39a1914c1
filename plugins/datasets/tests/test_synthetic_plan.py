"""A plan of synthetic frames: exact counts, whole sequences, conditions that say nothing on the label."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roadwork_datasets.synthetic import DAYTIMES, ENVIRONMENTS, WEATHERS, Frame, plan

from roadwork_core.errors import UsageError


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 300),
    fraction=st.floats(0.0, 1.0),
    length=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_counts_are_exact_and_sequences_keep_one_label_and_one_set_of_tags(
    n: int, fraction: float, length: int, seed: int
) -> None:
    frames = plan(n, positive_fraction=fraction, frames_per_sequence=length, seed=seed)
    assert [frame.index for frame in frames] == list(range(n))
    assert sum(frame.label for frame in frames) == round(n * fraction)
    drives: dict[int, list[Frame]] = defaultdict(list)
    for frame in frames:
        drives[frame.sequence].append(frame)
    for drive in drives.values():
        assert len(drive) <= length
        assert [frame.frame for frame in drive] == list(range(len(drive)))
        assert all(frame.frames == len(drive) for frame in drive)
        assert len({frame.label for frame in drive}) == 1
        assert len({tuple(sorted(frame.tags.items())) for frame in drive}) == 1
    short = [drive for drive in drives.values() if len(drive) < length]
    assert len(short) <= 2, "only the last sequence of each label may be shorter"


def test_every_condition_occurs_as_often_under_either_label() -> None:
    frames = plan(800, positive_fraction=0.5, frames_per_sequence=4, seed=3)
    for name, shares in (("weather", WEATHERS), ("daytime", DAYTIMES), ("environment", ENVIRONMENTS)):
        counts = {
            label: Counter(frame.tags[name] for frame in frames if frame.label is label) for label in (True, False)
        }
        assert set(counts[True]) == set(shares)
        for value, share in shares.items():
            # 100 sequences of 4 frames per label: quotas are exact to one sequence.
            assert abs(counts[True][value] - 400 * share) <= 4
            assert abs(counts[True][value] - counts[False][value]) <= 4


def test_a_restricted_weather_is_the_only_one() -> None:
    frames = plan(60, positive_fraction=0.3, frames_per_sequence=3, seed=1, weather=("fog", "snow"))
    assert {frame.tags["weather"] for frame in frames} == {"fog", "snow"}


def test_the_seed_decides_the_plan() -> None:
    def labels(seed: int) -> list[bool]:
        return [frame.label for frame in plan(64, positive_fraction=0.5, frames_per_sequence=1, seed=seed)]

    assert labels(1) == labels(1)
    assert labels(1) != labels(2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n": 0}, "n = 0"),
        ({"frames_per_sequence": 0}, "frames_per_sequence = 0"),
        ({"positive_fraction": 1.5}, "positive_fraction = 1.5"),
        ({"positive_fraction": float("nan")}, "positive_fraction = nan"),
        ({"weather": ("hail",)}, "unknown weather 'hail'"),
        ({"weather": ()}, "weather is empty"),
    ],
)
def test_a_wrong_argument_is_refused_with_its_value_and_a_hint(change: dict[str, object], says: str) -> None:
    arguments: dict[str, object] = {"n": 8, "positive_fraction": 0.5, "frames_per_sequence": 2, "seed": 0}
    with pytest.raises(UsageError) as caught:
        plan(**{**arguments, **change})  # type: ignore[arg-type]
    assert says in caught.value.message
    assert caught.value.hint
