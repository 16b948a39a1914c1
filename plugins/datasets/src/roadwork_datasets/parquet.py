"""Parquet files as the hub keeps data sets: columns, names of classes, and the split that a file's name tells."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from attrs import frozen

from roadwork_core.errors import DataError, RoadworkError
from roadwork_core.extras import how_to_install

if TYPE_CHECKING:
    import pyarrow

_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]+)?")
#: Bytes read at once: without a bound a whole row group of pictures is.
_BUFFER = 1 << 20
_LFS = b"version https://git-lfs"


@frozen
class ParquetTable:
    """An open parquet file. Rows are counted from 0, as data viewers do."""

    path: Path
    file: Any

    @property
    def schema(self) -> pyarrow.Schema:
        return self.file.schema_arrow

    @property
    def rows(self) -> int:
        return int(self.file.metadata.num_rows)

    def column_type(self, name: str) -> Any:
        """The Arrow type of a column. Raises DataError where there is none of this name."""
        if name not in self.schema.names:
            raise self.error(f'has no column "{name}"', f"it has {', '.join(self.schema.names) or 'none'}")
        return self.schema.field(name).type

    def class_names(self, column: str) -> Sequence[str] | None:
        """The names of a ClassLabel column, as the hub's libraries write them into the file's metadata, or None."""
        content = (self.schema.metadata or {}).get(b"huggingface")
        try:
            names = json.loads(content)["info"]["features"][column]["names"] if content else None
        except (ValueError, KeyError, TypeError):
            return None
        return [str(name) for name in names] if isinstance(names, list) else None

    def records(self, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Some columns of all rows as Python values. Raises DataError where they cannot be read."""
        with self._reading():
            table = self.file.read(columns=list(columns))
            return list(table.select(list(columns)).to_pylist())

    def batches(self, group: int, column: str) -> Iterator[list[Any]]:
        """One column of one row group, a few rows at a time: pictures are large."""
        with self._reading():
            stream = self.file.iter_batches(batch_size=8, row_groups=[group], columns=[column])
        while True:
            with self._reading():
                batch = next(stream, None)
                values = None if batch is None else batch.column(0).to_pylist()
            if values is None:
                return
            yield values

    def error(self, message: str, hint: str | None = None) -> DataError:
        return DataError(message, path=self.path, hint=hint)

    def row_error(self, row: int, message: str, hint: str | None = None) -> DataError:
        return DataError(f"row {row}: {message}", path=self.path, hint=hint)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self.error(f"is damaged: {_first_line(error)}", "fetch the file again") from None


def open_parquet(path: Path) -> ParquetTable:
    """Opens a file and reads its schema. Raises DataError for a file that is no parquet, or is cut short."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RoadworkError(
            "parquet files need pyarrow, which is not installed", hint=how_to_install("parquet", "roadwork-datasets")
        ) from None
    try:
        with path.open("rb") as file:
            if file.read(len(_LFS)) == _LFS:
                raise DataError("is a Git LFS pointer, not the data", path=path, hint="run `git lfs pull`")
        return ParquetTable(path, pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"cannot be read as parquet: {_first_line(error)}", path=path, hint="a cut file must be fetched again"
        ) from None


def split_of(file: str) -> str:
    """The split of a file: that of data/train-00000-of-00002.parquet, train/0000.parquet and train.parquet is train."""
    path = PurePosixPath(file)
    if match := _SHARD.fullmatch(path.stem):
        return match["split"]
    return path.parent.name if path.stem.isdigit() and path.parent.name else path.stem


def missing_shards(files: Sequence[str]) -> list[str]:
    """The files that "-of-00012" of others promise and that are not there."""
    here = set()
    promised: dict[tuple[str, str, str], PurePosixPath] = {}
    for file in files:
        path = PurePosixPath(file)
        if match := _SHARD.fullmatch(path.stem):
            key = str(path.parent), match["split"], match["count"]
            here.add((*key, int(match["number"])))
            promised[key] = path
    return [
        str(path.with_name(f"{key[1]}-{number:05d}-of-{key[2]}.parquet"))
        for key, path in promised.items()
        for number in range(int(key[2]))
        if (*key, number) not in here
    ]


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
