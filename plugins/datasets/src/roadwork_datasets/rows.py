"""Rows of a manifest, read from CSV, TSV or JSON lines with the line that each began at."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from roadwork_core.errors import DataError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = {".jsonl", ".ndjson"}


@frozen
class ManifestRow:
    """One row as text by column, and where it is."""

    values: Mapping[str, str]
    file: Path
    line: int

    def __getitem__(self, column: str) -> str:
        return self.values[column]

    def get(self, column: str) -> str | None:
        """The value, or None where it is empty, there is no such column, or the column is "" (not to be used)."""
        return (self.values.get(column) or None) if column else None

    def required(self, column: str) -> str:
        """The value. Raises DataError where it is empty or missing."""
        if column not in self.values:
            raise self.error(f'has no "{column}"', f"it has {', '.join(self.values) or 'nothing'}")
        if not self.values[column]:
            raise self.error(f'"{column}" is empty', "fill it in, or remove the row")
        return self.values[column]

    def error(self, message: str, hint: str) -> DataError:
        return DataError(message, path=self.file, line=self.line, hint=hint)


def read_rows(file: Path) -> Iterator[ManifestRow]:
    """The rows of a manifest; the ending of its name says what it is.

    Raises DataError for a file that is missing, of another kind, or not UTF-8, and at the line that cannot be read.
    """
    ending = file.suffix.lower()
    if ending not in _DELIMITERS and ending not in _JSON:
        raise DataError(
            f'"{file.suffix}" is not a kind of manifest', path=file, hint="known: .csv, .tsv, .jsonl and .ndjson"
        )
    if not file.is_file():
        raise DataError("no such file", path=file, hint="mend data.path of the spec")
    text = _text(file)
    return _json_rows(file, text) if ending in _JSON else _csv_rows(file, text, _DELIMITERS[ending])


def read_csv(file: Path, delimiter: str) -> Iterator[ManifestRow]:
    """The rows of a table whose delimiter is known. Raises DataError as `read_rows` does."""
    if not file.is_file():
        raise DataError("no such file", path=file, hint="fetch the whole data set")
    return _csv_rows(file, _text(file), delimiter)


def _text(file: Path) -> str:
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError("is not UTF-8", path=file, line=line, hint="save the file as UTF-8") from None


def _csv_rows(file: Path, text: str, delimiter: str) -> Iterator[ManifestRow]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    end = 0
    while True:
        line = end + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"cannot be read: {error}", path=file, line=line, hint="check the quotes") from None
        end = reader.line_num
        if not any(field.strip() for field in fields):
            continue
        if header is None:
            header = [name.strip() for name in fields]
            if twice := [name for name, count in Counter(header).items() if count > 1]:
                raise DataError(f'has two columns "{twice[0]}"', path=file, line=line, hint="rename one")
            continue
        if len(fields) != len(header):
            raise DataError(
                f"has {len(fields)} fields, the header {len(header)}",
                path=file,
                line=line,
                hint=f'a field that contains "{delimiter}" must be in quotes',
            )
        yield ManifestRow(dict(zip(header, (field.strip() for field in fields), strict=True)), file, line)


def _json_rows(file: Path, text: str) -> Iterator[ManifestRow]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DataError(f"is not JSON: {error}", path=file, line=line, hint="one object per line") from None
        if not isinstance(value, dict):
            raise DataError("is not a JSON object", path=file, line=line, hint="one object per line")
        yield ManifestRow({str(key): _plain(item) for key, item in value.items()}, file, line)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
