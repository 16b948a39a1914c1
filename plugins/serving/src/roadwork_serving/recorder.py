"""Predictions and labels on their way to the feedback store: a bounded queue, and the one thread that empties it."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from PIL import Image

from roadwork_core.errors import RoadworkError, UsageError
from roadwork_core.feedback import FeedbackStore, Label, PictureFolder, Seen

if TYPE_CHECKING:
    from roadwork_core.bundle import Prediction

    from .pictures import Picture
    from .telemetry import Telemetry

MIB = 2**20
#: What is written in one transaction.
_BATCH = 256
#: Seconds between two lines of log on the same trouble, and for what waits when the server ends.
_QUIET, _LAST = 10.0, 10.0


class QueueFullError(Exception):
    """There is no room for a label now."""


class UnknownKeyError(Exception):
    """No prediction of this key is kept."""


class LabelledOtherwiseError(Exception):
    """The prediction has another label already."""


@frozen
class _Said:
    """A prediction, and the picture that is to be kept with it."""

    seen: Seen
    picture: Picture | None
    size: int


@frozen
class _Told:
    """A label; the future ends when it is on the disk."""

    label: Label
    replace: bool
    done: Future[None]
    size: int = 512


class Recorder:
    """Writes to the store at `path`, and pictures into the folder `pictures` (None: none are kept).

    Nobody waits for it but who gives a label: where `capacity` entries or `capacity_bytes` bytes wait already, a
    prediction is dropped and counted. Entries are written in the order in which they came.
    """

    def __init__(
        self,
        path: Path,
        pictures: Path | None,
        telemetry: Telemetry,
        *,
        capacity: int = 2048,
        capacity_bytes: int = 64 * MIB,
    ) -> None:
        self._path = path
        self._pictures = None if pictures is None else PictureFolder(pictures)
        self._telemetry = telemetry
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._waiting: deque[_Said | _Told] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._told_at = -_QUIET
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Entries that the writer has not taken yet."""
        return len(self._waiting)

    def keep(self, bundle_id: str, found: Sequence[Prediction], pictures: Sequence[Picture]) -> list[str | None]:
        """A key for each prediction, by which it can be labelled; None for one that was dropped or has no decision."""
        return [
            None if prediction.error is not None else self._keep(bundle_id, prediction, picture)
            for prediction, picture in zip(found, pictures, strict=True)
        ]

    def _keep(self, bundle_id: str, prediction: Prediction, picture: Picture) -> str | None:
        try:
            entry = self._said(bundle_id, prediction, picture)
        except ValueError as error:  # features that are not finite, say: the answer stands all the same
            self._telemetry.feedback("failed")
            self._complain(str(error))
            return None
        if self._put(entry):
            return entry.seen.key
        self._telemetry.feedback("dropped")
        return None

    def _said(self, bundle_id: str, prediction: Prediction, picture: Picture) -> _Said:
        seen = Seen(
            key=uuid.uuid4().hex,
            time=time.time(),
            bundle_id=bundle_id,
            policy=prediction.policy,
            label=prediction.label,
            score=prediction.score,
            sha256=_sha256(picture) if isinstance(picture, bytes) else None,
            logits=prediction.logits or None,
            features=prediction.features,
        )
        held = None if self._pictures is None else picture
        size = 1024 + 32 * len(seen.features or ())
        return _Said(
            seen, held, size if held is None else size + (len(held) if isinstance(held, bytes) else held.nbytes)
        )

    def label(self, label: Label, *, replace: bool) -> Future[None]:
        """Ends when the label is on the disk, or with UnknownKeyError, LabelledOtherwiseError (without `replace`) or
        RoadworkError. Raises QueueFullError."""
        entry = _Told(label, replace, Future())
        if not self._put(entry):
            raise QueueFullError
        return entry.done

    def _put(self, entry: _Said | _Told) -> bool:
        with self._changed:
            full = len(self._waiting) >= self._capacity or self._bytes + entry.size > self._capacity_bytes
            if self._closed or full:
                return False
            self._waiting.append(entry)
            self._bytes += entry.size
            self._telemetry.feedback_waiting.set(len(self._waiting))
            self._changed.notify()
            return True

    def close(self) -> None:
        """Takes no more, and waits a while for what is left to be written."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_LAST)
        if self._thread.is_alive():
            self._telemetry.event("feedback lost", entries=len(self._waiting))

    def _run(self) -> None:
        store: FeedbackStore | None = None
        while batch := self._take():
            try:
                store = store or FeedbackStore(self._path)
                self._write(store, batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, the server goes on and the log says why
                self._failed(batch, error)
                if store is not None:
                    store.close()
                store = None
        if store is not None:
            store.close()

    def _take(self) -> list[_Said | _Told]:
        """What to write next; nothing when the end has come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._bytes -= sum(entry.size for entry in batch)
            self._telemetry.feedback_waiting.set(len(self._waiting))
            return batch

    def _write(self, store: FeedbackStore, batch: Sequence[_Said | _Told]) -> None:
        # A label comes after its prediction, so it may be written after all of the batch.
        said = [(entry.seen, self._content(entry)) for entry in batch if isinstance(entry, _Said)]
        if said:
            # Pictures are written as the store draws the predictions, so none is pruned before its prediction is there.
            store.add(self._with_picture(seen, content) for seen, content in said)
            self._telemetry.feedback("kept", len(said))
        for entry in batch:
            if isinstance(entry, _Told) and entry.done.set_running_or_notify_cancel():
                if not store.holds(str(entry.label.key)):
                    entry.done.set_exception(UnknownKeyError())
                elif not store.label([entry.label], replace=entry.replace):
                    entry.done.set_exception(LabelledOtherwiseError())
                else:
                    entry.done.set_result(None)

    def _content(self, entry: _Said) -> bytes | None:
        """The file of the picture that is to be kept, encoded where it came as pixels."""
        if entry.picture is None or isinstance(entry.picture, bytes):
            return entry.picture
        return _png(entry.picture)

    def _with_picture(self, seen: Seen, content: bytes | None) -> Seen:
        if content is None or self._pictures is None:
            return seen
        digest = seen.sha256 or _sha256(content)
        try:
            place = self._pictures.put(content, digest)
        except OSError as error:
            self._telemetry.feedback("picture failed")
            self._complain(f"a picture could not be kept: {error.strerror}")
            return seen
        return evolve(seen, path=os.fspath(place), sha256=digest)

    def _failed(self, batch: Sequence[_Said | _Told], error: Exception) -> None:
        said = sum(isinstance(entry, _Said) for entry in batch)
        if said:
            self._telemetry.feedback("failed", said)
        self._complain(str(error) if isinstance(error, RoadworkError) else repr(error))
        for entry in batch:
            # Whoever waits may give up at any moment: only what runs can no longer be cancelled under our hands.
            if isinstance(entry, _Told) and not entry.done.done() and _begun(entry.done):
                entry.done.set_exception(RoadworkError("the feedback store cannot be written"))

    def _complain(self, cause: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= _QUIET:
            self._told_at = now
            self._telemetry.event("feedback failed", cause=cause)


def prepare(path: Path | None, pictures: Path | None) -> None:
    """Makes the store and the folder, readable for their owner alone, where they are not there yet.

    Raises UsageError and RoadworkError as `FeedbackStore` does, and where the folder cannot be written to.
    """
    if path is None:
        if pictures is not None:
            raise UsageError("--feedback-pictures needs --feedback", hint="predictions and pictures are kept together")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        if pictures is not None:
            pictures.mkdir(0o700, parents=True, exist_ok=True)
            if not os.access(pictures, os.W_OK | os.X_OK):
                raise UsageError("pictures cannot be written there", path=pictures)
    except OSError as error:
        raise UsageError(f"feedback cannot be kept: {error.strerror}", path=error.filename) from None
    FeedbackStore(path).close()


def _begun(job: Future[None]) -> bool:
    """Whether a job that has not ended runs from here on; False where it was cancelled."""
    return job.running() or job.set_running_or_notify_cancel()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _png(pixels: Picture) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
