"""Computing threads have torch's threads of their own; nobody else's change."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from roadwork_core.compute_threads import ComputeThreads


@pytest.fixture(autouse=True)
def _three_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def in_a_new_thread(function: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_each_has_as_many_of_torch_as_asked_and_the_process_as_before() -> None:
    for threads in (1, 2):
        made = ComputeThreads(workers=4, threads=threads)
        assert made.map(lambda _: torch.get_num_threads(), range(12)) == [threads] * 12
        assert torch.get_num_threads() == 3
        assert in_a_new_thread(torch.get_num_threads) == 3


def test_results_keep_their_order_and_errors_come_through() -> None:
    made = ComputeThreads(workers=4)

    def late(number: int) -> int:
        time.sleep(0.002 * (7 - number))
        return number

    assert made.map(late, range(8)) == list(range(8))
    with pytest.raises(ZeroDivisionError):
        made.map(lambda number: 1 // number, [1, 0, 2])
    assert made.map(late, range(3)) == [0, 1, 2]


def test_one_item_is_computed_where_it_is_asked_only_with_the_right_number() -> None:
    assert ComputeThreads(workers=2, threads=3).map(lambda _: threading.current_thread(), [0]) == [
        threading.current_thread()
    ]
    (thread,) = ComputeThreads(workers=2, threads=1).map(lambda _: threading.current_thread(), [0])
    assert thread is not threading.current_thread()


def test_many_callers_share_them() -> None:
    made = ComputeThreads(workers=2)
    inside, most, lock = 0, 0, threading.Lock()

    def watched(_: int) -> int:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.002)
        with lock:
            inside -= 1
        return torch.get_num_threads()

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: made.map(watched, range(4)), range(6)))
    assert found == [[1] * 4] * 6
    assert most == 2


def test_who_starts_them_side_by_side_leaves_the_number_of_the_process() -> None:
    for _ in range(20):
        together = threading.Barrier(8)

        def start(together: threading.Barrier = together) -> list[int]:
            together.wait()
            return ComputeThreads(workers=2).map(lambda _: torch.get_num_threads(), range(2))

        with ThreadPoolExecutor(8) as pool:
            assert [job.result() for job in [pool.submit(start) for _ in range(8)]] == [[1, 1]] * 8
        assert in_a_new_thread(torch.get_num_threads) == 3


def test_who_calls_keeps_its_own_number() -> None:
    def start() -> int:
        torch.set_num_threads(2)
        ComputeThreads(workers=2).map(lambda _: None, range(2))
        return torch.get_num_threads()

    assert in_a_new_thread(start) == 2
    assert in_a_new_thread(torch.get_num_threads) == 2
