"""The bundle that answers now, how it is exchanged, and how many requests it takes on."""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from attrs import frozen
from PIL import Image

from roadwork_core.bundle import Bundle, Predictor, load
from roadwork_core.errors import RoadworkError

from .refusals import Refusal
from .settings import Settings

if TYPE_CHECKING:
    from .recorder import Recorder
    from .telemetry import Telemetry

A = TypeVar("A")
R = TypeVar("R")
_CHECK_AGAIN = 10.0


@frozen
class Loaded:
    """A bundle ready to answer. Workers share its weights: each request has a predictor, and so a lock, of its own."""

    predictor: Predictor

    @property
    def bundle(self) -> Bundle:
        return self.predictor.bundle

    def own(self) -> Predictor:
        return Predictor(self.predictor.runtime)


def load_bundle(path: Path, settings: Settings) -> Loaded:
    """The bundle of a folder, or of the folder that a link leads to now. Raises as `roadwork_core.bundle.load` does."""
    loaded = Loaded(
        load(
            path.resolve(),
            settings.verify,
            device=settings.device,
            backend=settings.backend,
            batch_size=settings.batch_size,
            workers=settings.workers,
            threads=settings.threads,
        )
    )
    # The first picture costs seconds of imports on a busy machine: it should not be a client's.
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(stream, "JPEG")
    loaded.own().predict([stream.getvalue()], on_bad_image="report")
    return loaded


class Service:
    """Answers with one bundle, at most `workers + queue` requests at a time; all but `compute` on the event loop."""

    def __init__(
        self,
        path: Path,
        loaded: Loaded,
        settings: Settings,
        *,
        workers: int,
        telemetry: Telemetry,
        recorder: Recorder | None = None,
    ) -> None:
        self.path = path
        self.settings = settings
        self.telemetry = telemetry
        self.recorder = recorder
        self.workers = workers
        self.draining = False
        self._current = loaded
        self._seen = _mark(path)
        self._held = 0
        self._seconds = 0.1
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._switching = asyncio.Lock()
        telemetry.bundle(loaded.bundle)

    @property
    def current(self) -> Loaded:
        return self._current

    @property
    def held(self) -> int:
        """Requests taken on and not yet answered."""
        return self._held

    async def answer(self, read: Callable[[], Awaitable[A]], compute: Callable[[Loaded, A], R]) -> R:
        """`compute` of what `read` reads, in a worker, with the bundle that is current when it begins.

        Raises Refusal where there are too many requests already (503), where the upload takes too long (408), and
        where the time is up before a worker was free (503) or had finished (504).
        """
        if self._held >= self.workers + self.settings.queue:
            self.telemetry.refused("overloaded")
            raise Refusal(503, "overloaded", "too many requests at once", retry_after=self._retry_after())
        self._change_held(1)
        job: Future[R] | None = None
        try:
            async with asyncio.timeout(self.settings.timeout):
                asked = await read()
                job = self._pool.submit(self._timed, compute, asked)
                return await asyncio.wrap_future(job)
        except TimeoutError:
            raise self._too_late(job) from None
        finally:
            if job is None or job.cancel() or job.done():
                self._change_held(-1)
            else:
                # It cannot be interrupted: it goes on counting until it ends.
                loop = asyncio.get_running_loop()
                job.add_done_callback(lambda _: _later(loop, self._change_held, -1))

    def _timed(self, compute: Callable[[Loaded, A], R], asked: A) -> R:
        start = time.monotonic()
        try:
            return compute(self._current, asked)
        finally:
            self._seconds += 0.1 * (time.monotonic() - start - self._seconds)

    def _too_late(self, job: Future[R] | None) -> Refusal:
        if job is None:
            return self.slow_upload()
        self.telemetry.refused("timeout")
        if job.cancelled():
            return Refusal(503, "timeout", "no worker was free in time", retry_after=self._retry_after())
        return Refusal(504, "timeout", f"no answer within {self.settings.timeout:g} s")

    def slow_upload(self) -> Refusal:
        """Says that a body was not there in time, and counts it."""
        self.telemetry.refused("slow_upload")
        return Refusal(408, "slow_upload", f"the request was not there in full after {self.settings.timeout:g} s")

    def _retry_after(self) -> int:
        return max(1, min(60, math.ceil(self._seconds * self._held / self.workers)))

    def _change_held(self, by: int) -> None:
        self._held += by
        self.telemetry.in_flight.set(self._held)

    async def switch(self) -> bool:
        """Loads what the bundle's path leads to now and answers with it from here on; requests that have begun end
        with the bundle that they began with. False where it is the bundle that is served already.

        Raises RoadworkError for one that does not pass verification; the one in service then stays.
        """
        async with self._switching:
            mark = _mark(self.path)
            if _bundle_id(self.path) == self._current.bundle.id:
                self._seen = mark
                return False
            try:
                loaded = await asyncio.to_thread(load_bundle, self.path, self.settings)
            except Exception as error:  # whatever a plugin raises, what is served stays and the log says why
                told = error if isinstance(error, RoadworkError) else RoadworkError(f"{type(error).__name__}: {error}")
                self.telemetry.switch_failed(told)
                raise told from error
            before, self._current, self._seen = self._current.bundle, loaded, mark
            self.telemetry.switched(before, loaded.bundle, loaded.predictor.backend)
            return True

    async def watch(self) -> None:
        """Switches whenever the path leads elsewhere or its bundle.json changes; never returns."""
        wait = self.settings.watch_interval
        while True:
            await asyncio.sleep(wait)
            wait = self.settings.watch_interval
            mark = await asyncio.to_thread(_mark, self.path)
            if mark is not None and mark != self._seen:
                try:
                    await self.switch()
                except RoadworkError:
                    # Perhaps it is still being copied. Verifying costs time, so not at once again.
                    wait = max(wait, _CHECK_AGAIN)

    async def close(self) -> None:
        """Ends the workers; what waits for one is dropped, what waits for the feedback store is written."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.close)


def _mark(path: Path) -> tuple[object, ...] | None:
    """What changes when the path is made to lead to another bundle."""
    try:
        target = path.resolve(strict=True)
        status = (target / "bundle.json").stat()
    except (OSError, RuntimeError):
        return None
    return (os.fspath(target), status.st_ino, status.st_mtime_ns, status.st_size)


def _bundle_id(path: Path) -> str | None:
    try:
        document = json.loads((path / "bundle.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    found = document.get("bundle_id") if isinstance(document, dict) else None
    return found if isinstance(found, str) else None


def _later(loop: asyncio.AbstractEventLoop, call: Callable[[int], None], argument: int) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, argument)
