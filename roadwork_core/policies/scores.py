"""Files of logits, CSV or Parquet: `logit_0..logit_{C-1}`, `label`, optional `group`."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from roadwork_core.errors import UsageError
from roadwork_core.metrics.inputs import LARGEST_SCORE, group_codes

if TYPE_CHECKING:
    from roadwork_core.data.sample import Row

_LOGIT = re.compile(r"logit_(0|[1-9][0-9]*)")
_PARQUET_MAGIC = b"PAR1"
FORMAT = "columns logit_0, logit_1, ..., label (a class index) and optionally group"


@frozen(kw_only=True, eq=False)
class Scores:
    """`logits` float64 (n, C); `labels` int64 (n,) and group codes `groups` int64 (n,) where there are any."""

    logits: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    groups: NDArray[np.int64] | None

    def __len__(self) -> int:
        return int(self.logits.shape[0])

    @property
    def digest(self) -> str:
        """sha256 in hex of logits, labels and groups as little-endian bytes."""
        found = hashlib.sha256(np.ascontiguousarray(self.logits, dtype="<f8").tobytes())
        for column in (self.labels, self.groups):
            found.update(b"-" if column is None else np.ascontiguousarray(column, dtype="<i8").tobytes())
        return found.hexdigest()


def scores_csv(rows: Sequence[Row], logits: NDArray[np.float64]) -> bytes:
    """The scores file of a split that `read_scores` reads: floats by repr, so that the same bits come back.

    `logits` float64 (n, C). `index` is the sample's number in the whole table, `label` its class index.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "label", "group", *(f"logit_{column}" for column in range(logits.shape[1]))])
    for row, values in zip(rows, logits.tolist(), strict=True):
        writer.writerow([row.index, row.target, row.group, *map(repr, values)])
    return text.getvalue().encode()


@frozen(kw_only=True)
class _Table:
    """Columns of a file as they stand there, with the line (CSV) or row (Parquet) of each sample."""

    path: Path
    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int]
    numbered: bool

    def fail(self, index: int, column: str, message: str) -> NoReturn:
        """Raises the error for one cell."""
        where = f"column {column}" if self.numbered else f"row {self.lines[index]}, column {column}"
        raise UsageError(f"{where}: {message}", path=self.path, line=self.lines[index] if self.numbered else None)


def read_scores(path: Path, *, labelled: bool = True) -> Scores:
    """Reads a CSV or Parquet file of logits; other columns are ignored, and `label` is needed only if `labelled`.

    Raises UsageError (file:line and column) for anything that is not finite logits of at least two classes and
    labels that index them.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == _PARQUET_MAGIC
    except OSError as error:
        raise UsageError(f"cannot read scores: {error.strerror or error}", path=path) from None
    table = _read_parquet(path) if is_parquet else _read_csv(path)
    logits = np.stack([_floats(table, name) for name in _logit_columns(table)], axis=1)
    labels = None
    if "label" in table.columns:
        labels = _labels(table, logits.shape[1])
    elif labelled:
        raise UsageError("there is no column label", path=path, hint=FORMAT)
    return Scores(logits=np.ascontiguousarray(logits), labels=labels, groups=_groups(table))


def _logit_columns(table: _Table) -> list[str]:
    found = [name for name in table.columns if _LOGIT.fullmatch(name)]
    expected = [f"logit_{index}" for index in range(max(len(found), 2))]
    if missing := [name for name in expected if name not in found]:
        columns = ", ".join(table.columns) or "none"
        raise UsageError(f"there is no column {missing[0]} (columns: {columns})", path=table.path, hint=FORMAT)
    return expected


def _floats(table: _Table, name: str) -> NDArray[np.float64]:
    cells = table.columns[name]
    try:
        values = np.asarray(cells, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (len(cells),):
        values = np.asarray([_float(table, name, index, cell) for index, cell in enumerate(cells)])
    bad = np.flatnonzero(~(np.abs(values) < LARGEST_SCORE))
    if bad.size:
        index = int(bad[0])
        table.fail(index, name, f"{cells[index]!r} is not a finite number below {LARGEST_SCORE:g} in magnitude")
    return values


def _float(table: _Table, name: str, index: int, cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        table.fail(index, name, f"{cell!r} is not a number" if cell not in ("", None) else "is empty")


def _labels(table: _Table, classes: int) -> NDArray[np.int64]:
    cells = table.columns["label"]
    labels = np.empty(len(cells), dtype=np.int64)
    for index, cell in enumerate(cells):
        text = str(cell).strip()
        label = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        if not 0 <= label < classes:
            table.fail(index, "label", f"{cell!r} is not a class index from 0 to {classes - 1}")
        labels[index] = label
    return labels


def _groups(table: _Table) -> NDArray[np.int64] | None:
    cells = table.columns.get("group")
    if cells is None:
        return None
    for index, cell in enumerate(cells):
        if cell is None or cell == "":
            table.fail(index, "group", "is empty")
    return group_codes([str(cell) for cell in cells], len(cells))


def _read_csv(path: Path) -> _Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"is neither CSV in UTF-8 nor Parquet (byte {error.start})", path=path) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            if not cells:
                continue
            if header is None:
                header = _header(cells, path, reader.line_num)
            elif len(cells) != len(header):
                message = f"has {len(cells)} columns, the header has {len(header)}"
                raise UsageError(message, path=path, line=reader.line_num)
            else:
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise UsageError(f"is not CSV: {error}", path=path, line=reader.line_num) from None
    if header is None:
        raise UsageError("is empty", path=path, hint=FORMAT)
    if not rows:
        raise UsageError("has a header and no rows", path=path)
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    return _Table(path=path, columns=columns, lines=lines, numbered=True)


def _header(cells: list[str], path: Path, line: int) -> list[str]:
    header = [cell.strip() for cell in cells]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise UsageError(f"the column {twice[0]!r} is there twice", path=path, line=line)
    return header


def _read_parquet(path: Path) -> _Table:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        wanted = [name for name in names if _LOGIT.fullmatch(name) or name in ("label", "group")]
        table = file.read(columns=wanted)
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"is not Parquet that can be read: {' '.join(str(error).split())}", path=path) from None
    if twice := sorted({name for name in wanted if names.count(name) > 1}):
        raise UsageError(f"the column {twice[0]!r} is there twice", path=path)
    if table.num_rows == 0:
        raise UsageError("has no rows", path=path)
    columns = {name: table.column(name).to_pylist() for name in wanted}
    return _Table(path=path, columns=columns, lines=range(table.num_rows), numbered=False)
