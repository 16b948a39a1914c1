"""Every sample of an epoch is seen once, in windows that know their size, however many processes share them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roadwork_core.training.plan import epoch_windows, steps_per_epoch

sizes = {
    "samples": st.integers(1, 90),
    "batch_size": st.integers(1, 17),
    "accumulate": st.integers(1, 4),
    "world": st.integers(1, 3),
}


@given(**sizes)
def test_each_sample_is_counted_once_over_all_processes(
    samples: int, batch_size: int, accumulate: int, world: int
) -> None:
    order = list(range(samples))[::-1]
    ranks = [epoch_windows(order, batch_size, accumulate, rank=rank, world=world) for rank in range(world)]
    seen = [
        index
        for windows in ranks
        for window in windows
        for micro in window.batches
        if micro.counted
        for index in micro.indices
    ]
    assert sorted(seen) == list(range(samples))


@given(**sizes)
def test_processes_take_the_same_number_of_steps_and_know_the_size_of_each(
    samples: int, batch_size: int, accumulate: int, world: int
) -> None:
    ranks = [epoch_windows(range(samples), batch_size, accumulate, rank=rank, world=world) for rank in range(world)]
    for windows in ranks:
        assert len(windows) == steps_per_epoch(samples, batch_size, accumulate)
        assert all(micro.indices for window in windows for micro in window.batches)
    for together in zip(*ranks, strict=True):
        counted = sum(len(micro.indices) for window in together for micro in window.batches if micro.counted)
        assert {window.samples for window in together} == {counted}
        assert len({len(window.batches) for window in together}) == 1


@given(**sizes)
def test_one_process_keeps_the_order(samples: int, batch_size: int, accumulate: int, world: int) -> None:
    order = [(7 * number) % samples for number in range(samples)]
    windows = epoch_windows(order, batch_size, accumulate)
    assert [index for window in windows for micro in window.batches for index in micro.indices] == order


@given(samples=st.integers(4, 90), batch_size=st.integers(3, 17))
def test_no_batch_is_of_one_sample_for_a_batchnorm_cannot_train_on_it(samples: int, batch_size: int) -> None:
    windows = epoch_windows(range(samples), batch_size, 1)
    assert min(window.samples for window in windows) >= 2
