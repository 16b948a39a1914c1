"""Groups stay whole, every sample has one split, and fractions are hit as nearly as groups allow."""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadwork_core.data.splits import divide

Grouped = tuple[list[str], np.ndarray]
FRACTIONS = {"train": 0.6, "val_select": 0.15, "val_calib": 0.15, "test": 0.1}


@st.composite
def grouped(draw: st.DrawFn, max_classes: int = 3, pure: bool = False) -> tuple[list[str], np.ndarray]:
    """Samples in groups of uneven size; a pure group holds one class."""
    groups: list[str] = []
    targets: list[int] = []
    for number in range(draw(st.integers(4, 60))):
        size = draw(st.integers(1, 12))
        first = draw(st.integers(0, max_classes - 1))
        groups += [f"g{number}"] * size
        targets += [first if pure else draw(st.integers(0, max_classes - 1)) for _ in range(size)]
    return groups, np.array(targets, dtype=np.int64)


@st.composite
def fractions(draw: st.DrawFn) -> dict[str, float]:
    parts = [draw(st.integers(1, 10)) for _ in FRACTIONS]
    return {name: part / sum(parts) for name, part in zip(FRACTIONS, parts, strict=True)}


@settings(max_examples=50, deadline=None)
@given(grouped(), fractions(), st.integers(0, 2**32 - 1))
def test_no_group_is_in_two_splits_and_every_sample_in_one(data: Grouped, parts: dict[str, float], seed: int) -> None:
    groups, targets = data
    splits = divide(groups, targets, parts, seed=seed)
    assert len(splits) == len(groups)
    assert set(splits) <= set(parts)
    where = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        where[group].add(split)
    assert all(len(found) == 1 for found in where.values())


@settings(max_examples=50, deadline=None)
@given(grouped(), st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_the_order_of_the_samples_does_not_matter(data: Grouped, random: Random, seed: int) -> None:
    groups, targets = data
    order = list(range(len(groups)))
    random.shuffle(order)
    plain = divide(groups, targets, FRACTIONS, seed=seed)
    shuffled = divide([groups[i] for i in order], targets[order], FRACTIONS, seed=seed)
    assert [plain[i] for i in order] == shuffled
    assert plain == divide(groups, targets, FRACTIONS, seed=seed)


@settings(max_examples=50, deadline=None)
@given(grouped(max_classes=1), fractions(), st.integers(0, 1000))
def test_fractions_are_hit_within_the_largest_group(data: Grouped, parts: dict[str, float], seed: int) -> None:
    groups, targets = data
    largest = max(Counter(groups).values())
    counts = Counter(divide(groups, targets, parts, seed=seed))
    smallest_quota = min(parts.values()) * len(groups)
    for name, part in parts.items():
        # Where a quota is below one group, a split that must not be empty takes more than its quota from others.
        slack = largest if smallest_quota >= largest else largest * len(parts)
        assert abs(counts[name] - part * len(groups)) <= slack


@settings(max_examples=50, deadline=None)
@given(grouped(pure=True), st.integers(0, 1000))
def test_each_class_is_divided_in_proportion(data: Grouped, seed: int) -> None:
    groups, targets = data
    splits = np.array(divide(groups, targets, FRACTIONS, seed=seed))
    largest = max(Counter(groups).values())
    for target in set(targets.tolist()):
        members = targets == target
        enough = 0.1 * members.sum() >= largest
        for name, part in FRACTIONS.items():
            if enough:
                assert abs((splits[members] == name).sum() - part * members.sum()) <= 2 * largest


@settings(max_examples=50, deadline=None)
@given(grouped(pure=True), fractions(), st.integers(0, 1000))
def test_a_class_with_enough_groups_is_in_every_split(data: Grouped, parts: dict[str, float], seed: int) -> None:
    groups, targets = data
    splits = divide(groups, targets, parts, seed=seed)
    for target in set(targets.tolist()):
        held = {group for group, label in zip(groups, targets, strict=True) if label == target}
        found = {split for split, label in zip(splits, targets, strict=True) if label == target}
        assert len(found) == min(len(held), len(parts)) or len(held) < len(parts)


def test_rare_positives_are_shared_out() -> None:
    targets = np.array([1] * 20 + [0] * 1980)
    splits = np.array(divide([f"frame{i}" for i in range(2000)], targets, FRACTIONS, seed=3))
    assert {name: int((splits[:20] == name).sum()) for name in FRACTIONS} == {
        "train": 12,
        "val_select": 3,
        "val_calib": 3,
        "test": 2,
    }
    assert {name: int((splits == name).sum()) for name in FRACTIONS} == {
        "train": 1200,
        "val_select": 300,
        "val_calib": 300,
        "test": 200,
    }


def test_many_small_classes_do_not_round_off_in_one_direction() -> None:
    targets = np.repeat(np.arange(60), 13)  # quotas of 7.8, 1.95, 1.95 and 1.3
    counts = Counter(divide([f"frame{i}" for i in range(780)], targets, FRACTIONS, seed=1))
    for name, part in FRACTIONS.items():
        assert abs(counts[name] - part * 780) <= 3


def test_a_few_large_sequences_do_not_swamp_a_small_split() -> None:
    sizes = [50, 5, 5, 5]
    groups = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
    counts = Counter(divide(groups, np.zeros(len(groups), dtype=np.int64), FRACTIONS, seed=0))
    assert counts == {"train": 50, "val_select": 5, "val_calib": 5, "test": 5}


@pytest.mark.parametrize("seed", range(5))
def test_new_data_moves_few_old_groups(seed: int) -> None:
    groups = [f"g{i // 3}" for i in range(3000)]
    targets = np.array([int(i // 3 % 7 == 0) for i in range(3000)])
    more = groups + [f"new{i // 3}" for i in range(300)]
    more_targets = np.concatenate([targets, [int(i // 3 % 5 == 0) for i in range(300)]])
    before = divide(groups, targets, FRACTIONS, seed=seed)
    after = divide(more, more_targets, FRACTIONS, seed=seed)[:3000]
    assert np.mean(np.array(before) != np.array(after)) < 0.05


def test_another_seed_divides_otherwise() -> None:
    groups = [f"g{i}" for i in range(200)]
    targets = np.arange(200) % 2
    assert divide(groups, targets, FRACTIONS, seed=1) != divide(groups, targets, FRACTIONS, seed=2)


def test_a_split_of_fraction_zero_gets_nothing() -> None:
    parts = {"train": 0.5, "val_select": 0.0, "val_calib": 0.5, "test": 0.0}
    assert set(divide([str(i) for i in range(50)], np.arange(50) % 2, parts, seed=0)) == {"train", "val_calib"}
