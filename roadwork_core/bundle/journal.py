"""Predictions into a file: line by line into a journal beside it, which a run that was killed goes on with."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ..errors import UsageError
from ..files import sync_directory
from .images import Source

SCHEMA = "roadwork.predict-part/1"
SUFFIXES = (".jsonl", ".csv", ".parquet")
COLUMNS = ("path", "label", "abstain", "score", "set", "policy", "reason", "error")
#: Rows that are held when the journal becomes the file; lines after which the journal is on the disk for sure.
BATCH, SYNC = 2000, 500


class Journal:
    """The answers for `path` (.jsonl, .csv, .parquet) so far, in `path`.part; `asked` says who answers.

    `finish` makes the file of it, whole or not at all. Raises UsageError where the file is there already, or the
    journal's answers are of another `asked`.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"answers are written as {', '.join(SUFFIXES)}", path=path)
        if path.exists():
            raise UsageError("is there already", path=path, hint="name another file, or remove it")
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._asked = {"schema": SCHEMA, **asked}
        self._file = self._opened()
        self._since = 0
        self.answered = self.failed = 0

    def _opened(self) -> IO[bytes]:
        file = self.part.open("r+b" if self.part.exists() else "w+b")
        whole = file.readline()
        if not whole.endswith(b"\n"):
            file.seek(0)
            file.truncate()
            file.write(json.dumps(self._asked).encode() + b"\n")
        elif whole != json.dumps(self._asked).encode() + b"\n":
            file.close()
            raise UsageError(
                "holds answers of another bundle, or to other options", path=self.part, hint="remove it to begin anew"
            )
        return file

    def rest(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources that are not `answered` yet, given all of them in the order of the run that began it.

        Raises UsageError where the journal answers for others.
        """
        pending = iter(sources)
        end = self._file.tell()
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # killed within it
            source, row = next(pending, None), json.loads(line)
            if source is None or row["path"] != source.path:
                raise UsageError(
                    f"its answer {self.answered + 1} is to another picture than is asked now",
                    path=self.part,
                    hint="ask for the same pictures, or remove it to begin anew",
                )
            self._count(row)
            end += len(line)
        self._file.seek(end)
        self._file.truncate()
        return pending

    def _count(self, row: Mapping[str, Any]) -> None:
        self.answered += 1
        self.failed += "error" in row

    def write(self, row: Mapping[str, Any]) -> None:
        self._count(row)
        self._file.write(json.dumps(row).encode() + b"\n")
        self._since += 1
        if self._since >= SYNC:
            self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._since = 0

    def close(self) -> None:
        """Keeps what there is for a later run."""
        if not self._file.closed:
            self._sync()
            self._file.close()

    def finish(self) -> None:
        """Makes the file, and removes the journal."""
        self._sync()
        with tempfile.TemporaryDirectory(prefix=f".{self.path.name}-", dir=self.path.parent) as scratch:
            fresh = Path(scratch) / self.path.name
            {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}[self.path.suffix.lower()](self._rows(), fresh)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            fresh.replace(self.path)
        sync_directory(self.path.parent)
        self._file.close()
        self.part.unlink()

    def _rows(self) -> Iterator[dict[str, Any]]:
        self._file.seek(0)
        return (json.loads(line) for line in islice(self._file, 1, None))


def cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON row as the cells of a table."""
    if "error" in row:
        return {"path": row["path"], "error": row["error"]}
    return {**row, "set": "|".join(row["set"]), "label": row["label"] or ""}


def _jsonl(rows: Iterator[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _csv(rows: Iterator[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(cells(row) for row in rows)


def _parquet(rows: Iterator[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("path", "label", "policy", "reason", "error")
    types = {name: pa.string() for name in texts} | {"abstain": pa.bool_(), "score": pa.float64()}
    types["set"] = pa.list_(pa.string())
    schema = pa.schema([(name, types[name]) for name in COLUMNS])
    with pq.ParquetWriter(path, schema) as writer:
        writer.write_table(schema.empty_table())
        while some := list(islice(rows, BATCH)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))
