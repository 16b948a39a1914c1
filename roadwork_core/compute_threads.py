"""Threads that compute, each with a number of torch's own threads that the rest of the process does not share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

A = TypeVar("A")
R = TypeVar("R")
#: For all of them: while some start, the number for threads to come is not the process's own.
_STARTING = threading.Lock()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ComputeThreads:
    """`workers` threads (None: as many as leave each its share of the cores), each with `threads` of torch.

    The number of threads over which torch shares one sum changes its last bits, so it is a property of the result and
    not to be had from OMP_NUM_THREADS or from who calls. They are started when first needed.
    """

    def __init__(self, workers: int | None = None, threads: int = 1) -> None:
        self.workers = workers or max(1, cores() // threads)
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[A], R], items: Sequence[A]) -> list[R]:
        """`function` of each item, in their order; in the calling thread where there is but one and it has as many
        threads of torch."""
        if len(items) == 1 and torch.get_num_threads() == self.threads:
            return [function(items[0])]
        return list(self._started().map(function, items))

    def _started(self) -> ThreadPoolExecutor:
        with _STARTING:
            if self._pool is None:
                together = threading.Barrier(self.workers + 1)
                pool = ThreadPoolExecutor(self.workers, thread_name_prefix="compute")
                # Torch keeps the number for each thread, and one for threads to come, which is put back. That one is
                # what a new thread finds; whoever calls may have another.
                with ThreadPoolExecutor(1) as new:
                    of_process = new.submit(torch.get_num_threads).result()
                    for _ in range(self.workers):
                        pool.submit(self._begin, together)
                    together.wait()
                    new.submit(torch.set_num_threads, of_process).result()
                self._pool = pool
            return self._pool

    def _begin(self, together: threading.Barrier) -> None:
        try:
            # A thread takes the number of the process over when torch first looks, which must not come later.
            torch.get_num_threads()
            torch.set_num_threads(self.threads)
        finally:
            together.wait()
