"""Pictures taken out of parquet files once, into files that are named by what they hold."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from roadwork_core.files import canonical_json, digest_json, write_atomic

from .parquet import ParquetTable

_FORMAT = 1
_ENDINGS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


@frozen
class _Entry:
    """Where one row's picture went: a file of the cache and its size in bytes, or a file that the row names."""

    name: str
    size: int | None

    def locate(self, pictures: Path, base: Path) -> Path:
        return base / self.name if self.size is None else pictures / self.name

    def whole(self, pictures: Path) -> bool:
        if self.size is None:
            return True
        try:
            return (pictures / self.name).stat().st_size == self.size
        except OSError:
            return False


def extract_pictures(table: ParquetTable, column: str, wanted: Sequence[bool], cache: Path) -> list[Path | None]:
    """The picture file of every row that is wanted, None for the others.

    A row holds bytes, a path relative to the parquet file, or a struct of both, of which the bytes count. What was
    taken out is noted for each row group when all of it is there, so that a process that is killed goes on at that row
    group; a picture that went missing since is taken out again. Raises DataError, with the row, where there is none.
    """
    pictures, base = cache / "pictures", table.path.parent
    status = table.path.stat()
    stamp = digest_json([_FORMAT, str(table.path.absolute()), status.st_size, status.st_mtime_ns, column])[:16]
    located: list[Path | None] = []
    for group in range(table.file.metadata.num_row_groups):
        start, count = len(located), int(table.file.metadata.row_group(group).num_rows)
        if not any(wanted[start : start + count]):
            located += [None] * count
            continue
        note = cache / "rows" / stamp / f"{group:05d}.json"
        entries = _read_note(note, wanted[start : start + count], pictures)
        if entries is None:
            entries = _extract_group(table, column, group, start, wanted, pictures)
            write_atomic(
                note, canonical_json([None if entry is None else [entry.name, entry.size] for entry in entries])
            )
        located += [None if entry is None else entry.locate(pictures, base) for entry in entries]
    return located


def _extract_group(
    table: ParquetTable, column: str, group: int, start: int, wanted: Sequence[bool], pictures: Path
) -> list[_Entry | None]:
    entries: list[_Entry | None] = []
    for batch in table.batches(group, column):
        for value in batch:
            row = start + len(entries)
            entries.append(_entry(table, column, row, value, pictures) if wanted[row] else None)
    return entries


def _entry(table: ParquetTable, column: str, row: int, value: Any, pictures: Path) -> _Entry:
    content, path = value, None
    if isinstance(value, Mapping):
        content, path = value.get("bytes"), value.get("path")
    elif isinstance(value, str):
        content, path = None, value
    if isinstance(content, bytes) and content:
        return _keep(content, pictures)
    if isinstance(path, str) and path:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise table.row_error(row, f"{path!r} leads out of the file's folder", "paths are relative to the file")
        if not (table.path.parent / path).is_file():
            raise table.row_error(
                row, f'"{column}" has no bytes, and there is no file {path}', "fetch the pictures too"
            )
        return _Entry(path, None)
    raise table.row_error(row, f'"{column}" holds no picture', "remove the row, or fetch the file again")


def _keep(content: bytes, pictures: Path) -> _Entry:
    digest = hashlib.sha256(content).hexdigest()
    entry = _Entry(f"{digest[:2]}/{digest}{_ending(content)}", len(content))
    if entry.whole(pictures):
        return entry
    target = pictures / entry.name
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".unfinished-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return entry


def _read_note(note: Path, wanted: Sequence[bool], pictures: Path) -> list[_Entry | None] | None:
    """What a note says, or None where it is not there, not whole, or not true any more."""
    try:
        values = json.loads(note.read_bytes())
        entries = [None if value is None else _Entry(str(value[0]), value[1]) for value in values]
    except (OSError, ValueError, TypeError, IndexError):
        return None
    if [entry is not None for entry in entries] != list(wanted):
        return None
    return entries if all(entry is None or entry.whole(pictures) for entry in entries) else None


def _ending(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((ending for magic, ending in _ENDINGS.items() if content.startswith(magic)), ".img")
