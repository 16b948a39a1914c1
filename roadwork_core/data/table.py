"""The sample table on disk: one JSON object per line, one file per split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from ..errors import DataError
from ..files import canonical_json, write_atomic
from .sample import Row


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes a split's rows; the same rows are the same bytes."""
    write_atomic(path, b"".join(canonical_json(row_to_json(row)) + b"\n" for row in rows))


def row_to_json(row: Row) -> dict[str, object]:
    """The row as a plain JSON value."""
    return {**attrs.asdict(row, recurse=False), "tags": dict(row.tags), "gps": list(row.gps) if row.gps else None}


def read_rows(path: Path) -> list[Row]:
    """The rows of one split. Raises DataError at the line that is not a row."""
    return list(SplitReader(path))


class SplitReader:
    """The rows of one split, read line by line on each iteration. Raises DataError at the line that is not a row."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    values = json.loads(line)
                    gps = values.pop("gps", None)
                    yield Row(**values, gps=(float(gps[0]), float(gps[1])) if gps else None)
                except (ValueError, TypeError, AttributeError, LookupError) as error:
                    raise DataError(
                        f"not a row of a sample table: {error}",
                        path=self.path,
                        line=number,
                        hint="this file is written by the stage prepare; delete its folder and run again",
                    ) from None
