"""Drawing the frames of a plan into files, each whole or not there, in parallel where it pays."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from roadwork_core.kinds import Report

from . import synthetic
from .synthetic import Frame, render

#: Frames per task; and with fewer frames than two of these, no processes are started.
_BATCH = 32
#: How often a process looks whether the one that started it is still there.
_WATCH_SECONDS = 0.5


def frame_path(frame: Frame) -> Path:
    """Where a frame lies in the folder of its set."""
    label = "roadwork" if frame.label else "no_roadwork"
    return Path(label, f"sequence-{frame.sequence:06d}", f"frame-{frame.frame:03d}.png")


def render_missing(frames: Sequence[Frame], cache_dir: Path, *, width: int, height: int, report: Report) -> Path:
    """Draws those frames that have no file yet; returns the folder of the set.

    The folder is named by what the pictures depend on: the plan, the size and the renderer's own source. A file has its
    final name only when it is whole, so that a process that is killed leaves nothing to mistrust.
    """
    folder = cache_dir / _set_digest(frames, width, height)
    missing = [frame for frame in frames if not (folder / frame_path(frame)).is_file()]
    if not missing:
        return folder
    processes = min(_cores(), len(missing) // _BATCH)
    report(f"synthetic_roadwork: drawing {len(missing)} pictures")
    batches = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
    if processes < 2:
        for batch in batches:
            _render_batch(batch, folder, width, height)
        return folder
    with ProcessPoolExecutor(
        processes, mp_context=_context(), initializer=_follow_the_parent, initargs=(os.getpid(),)
    ) as pool:
        jobs = [pool.submit(_render_batch, batch, folder, width, height) for batch in batches]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return folder


def _render_batch(frames: Sequence[Frame], folder: Path, width: int, height: int) -> None:
    for frame in frames:
        path = folder / frame_path(frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with unfinished.open("wb") as file:
                render(frame, width=width, height=height).save(file, format="PNG", compress_level=3)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def _set_digest(frames: Sequence[Frame], width: int, height: int) -> str:
    digest = hashlib.sha256(f"{width}x{height}".encode())
    for frame in frames:
        digest.update(repr(frame).encode())
    for source in sorted(Path(synthetic.__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _context() -> multiprocessing.context.BaseContext:
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def _follow_the_parent(parent: int) -> None:
    """Leaves interrupts to the parent, and ends with it also where it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
