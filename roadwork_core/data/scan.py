"""One look at every picture before anything trains: is it whole, how large, what bytes, what does it look like."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from ..files import sha256_file
from .decode import BadImageError, decode_picture
from .perceptual import SIDE, perceptual_hash, thumbnail

#: Shorter side in pixels that pictures are decoded to: enough for a thumbnail of 32 x 32 cell means.
_MIN_SIDE = 2 * SIDE
#: Results of another version of decoding or hashing are not used.
_VERSION = 1
#: Pictures per task of the pool, and between two writes to the cache.
_BATCH = 64


@frozen
class Look:
    """What is known of a readable picture: sha256 of the file in hex, 64-bit hash, upright size, uint8 (32, 32)."""

    sha256: str
    phash: int
    width: int
    height: int
    thumbnail: NDArray[np.uint8]


@frozen
class Unreadable:
    """Why a picture cannot be used."""

    reason: str


def look(path: Path, *, max_pixels: int) -> Look | Unreadable:
    """Decodes the whole picture, so that what passes here does not fail in training."""
    try:
        path.as_posix().encode()
        picture = decode_picture(path, min_side=_MIN_SIDE, max_pixels=max_pixels)
        grid = thumbnail(picture.pixels)
        return Look(sha256_file(path), perceptual_hash(grid), picture.width, picture.height, grid)
    except BadImageError as error:
        return Unreadable(error.message)
    except UnicodeEncodeError:
        return Unreadable("its name is not valid UTF-8")
    except OSError as error:
        return Unreadable((error.strerror or str(error)).lower())


def scan(
    paths: Sequence[Path], *, max_pixels: int, threads: int, cache: Path | None = None
) -> Iterator[Look | Unreadable]:
    """The look of each path, in order. `cache` is a file that remembers looks at files that did not change since."""
    remembered = LookCache(cache) if cache is not None else None
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]

    def work(batch: Sequence[Path]) -> list[tuple[_Stamp | None, Look | Unreadable, bool]]:
        results: list[tuple[_Stamp | None, Look | Unreadable, bool]] = []
        for path in batch:
            stamp = _stamp(path)
            known = remembered.get(path, stamp) if remembered and stamp else None
            if known is not None and known.width * known.height <= max_pixels:
                results.append((stamp, known, True))
            else:
                results.append((stamp, look(path, max_pixels=max_pixels), False))
        return results

    with ThreadPoolExecutor(max(1, threads)) as pool:
        pending = [pool.submit(work, batch) for batch in batches]
        try:
            for batch, future in zip(batches, pending, strict=True):
                results = future.result()
                if remembered:
                    remembered.put(
                        (path, stamp, found)
                        for path, (stamp, found, old) in zip(batch, results, strict=True)
                        if stamp and not old and isinstance(found, Look)
                    )
                for _, found, _ in results:
                    yield found
        finally:
            pool.shutdown(cancel_futures=True)


_Stamp = tuple[int, int]


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


class LookCache:
    """Looks by (path, size, modification time) in an SQLite file; a file that cannot be used is done without."""

    _SCHEMA = (
        "CREATE TABLE IF NOT EXISTS looks (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, version INTEGER,"
        " sha256 TEXT, phash TEXT, width INTEGER, height INTEGER, thumbnail BLOB)"
    )

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: Mapping[str, tuple[_Stamp, Look]] = {}
        with suppress(sqlite3.Error, OSError, ValueError):
            file.parent.mkdir(parents=True, exist_ok=True)
            self._known = self._load()

    def get(self, path: Path, stamp: _Stamp) -> Look | None:
        known = self._known.get(str(path.absolute()))
        return known[1] if known and known[0] == stamp else None

    def put(self, found: Iterator[tuple[Path, _Stamp, Look]]) -> None:
        rows = [
            (
                *(str(path.absolute()), *stamp, _VERSION, look.sha256, f"{look.phash:016x}"),
                *(look.width, look.height, look.thumbnail.tobytes()),
            )
            for path, stamp, look in found
        ]
        if rows:
            with suppress(sqlite3.Error), closing(sqlite3.connect(self._file, timeout=5)) as database, database:
                database.execute(self._SCHEMA)
                database.executemany("INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _load(self) -> dict[str, tuple[_Stamp, Look]]:
        known = {}
        with closing(sqlite3.connect(self._file, timeout=5)) as database, database:
            database.execute(self._SCHEMA)
            for path, size, mtime, sha256, phash, width, height, cells in database.execute(
                "SELECT path, size, mtime_ns, sha256, phash, width, height, thumbnail FROM looks WHERE version = ?",
                (_VERSION,),
            ):
                grid = np.frombuffer(cells, dtype=np.uint8).reshape(SIDE, SIDE)
                known[path] = (size, mtime), Look(sha256, int(phash, 16), width, height, grid)
        return known
