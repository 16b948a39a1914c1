"""Loader processes: how they start, what signals mean to them, and that they end with their parent."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

# A forked worker starts at once and only decodes and augments on the CPU; where fork is not safe (macOS) or not
# there (Windows), a fresh interpreter.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"
_HELD = (signal.SIGINT, signal.SIGTERM)
#: Seconds after which a worker looks again whether its parent is there.
_WATCH = 1.0


def worker_count(workers: int | None) -> int:
    """Loader processes for `data.workers`: one per core that this process may use, at most 8, unless it is given."""
    return workers if workers is not None else min(8, _cores())


def worker_setup() -> Callable[[int], None]:
    """What each worker of one loader runs first.

    A signal to the whole process group (Ctrl-C, `timeout`) is for the parent alone, which then still gets the batches
    that it needs to stop in good order. Once the parent exits, the workers obey its SIGTERM: multiprocessing sends it
    to those of a loader that nobody closed, and waits for them. A parent that was killed takes its workers along.
    """
    leaving = multiprocessing.get_context(START_METHOD).RawValue("b", 0)
    # Exit functions run last in, first out: this one before that of multiprocessing, which is imported above.
    atexit.register(_announce, leaving)
    return partial(_set_up, leaving)


@contextmanager
def signals_held() -> Iterator[None]:
    """Holds SIGINT and SIGTERM back in this thread. Processes started meanwhile are born with them held, so that none
    dies before it has said what they mean to it; `worker_setup` lets them through there.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _announce(leaving: Any) -> None:
    leaving.value = 1


def _set_up(leaving: Any, _: int) -> None:
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()

    def terminate(signum: int, frame: object) -> None:
        if leaving.value:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """Ends this process soon after its parent has died.

    torch's own watchdog asks who the parent is when the worker has started; if the parent has died by then, it watches
    whoever inherited the worker, for ever, and it does not look at all while a queue is being read.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    while os.getppid() == parent.pid:
        time.sleep(_WATCH)
    os._exit(1)


def _cores() -> int:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else multiprocessing.cpu_count()
