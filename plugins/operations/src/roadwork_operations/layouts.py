"""The entries of a leaderboard from what it answered: JSON by its keys, CSV by its columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from roadwork_core.errors import DataError
from roadwork_core.kinds import Entry


def parse_json(content: bytes, *, entries: str = "", name: str = "name", score: str = "score") -> list[Entry]:
    """The entries of a JSON document: an array of objects, at the key `entries` where it is not the whole.

    `name` and `score` are the keys of each; all three may be dotted (`data.rows`, `hotkey.ss58`). Raises DataError
    for anything else: no JSON, another shape, a score that is no finite number, a name that is there twice.
    """
    found = read_json(content)
    for part in entries.split(".") if entries else ():
        if not isinstance(found, dict) or part not in found:
            raise DataError(f'the leaderboard\'s answer has no "{entries}"')
        found = found[part]
    if not isinstance(found, list):
        raise DataError("the leaderboard's entries are not an array", hint="name the key that holds them")
    return entries_of(enumerate(found), name, score)


def parse_csv(content: bytes, *, name: str = "name", score: str = "score") -> list[Entry]:
    """The entries of a CSV file in UTF-8 with a header; other columns are ignored. Raises DataError."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the leaderboard is no CSV in UTF-8: {error}") from None
    if missing := [column for column in (name, score) if column not in (reader.fieldnames or ())]:
        raise DataError(f'the leaderboard has no column "{missing[0]}"')
    return entries_of(((line, {**row, score: number(row[score])}) for line, row in rows), name, score)


def read_json(content: bytes) -> Any:
    """The value of a JSON text. Raises DataError where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise DataError("the leaderboard did not answer with JSON") from None


def entries_of(items: Iterable[tuple[int, Any]], name: str, score: str) -> list[Entry]:
    """Entries from numbered objects by the keys of name and score. Raises DataError with the number."""
    made: dict[str, Entry] = {}
    for index, item in items:
        who, value = at(item, name), at(item, score)
        if not isinstance(who, str | int) or isinstance(who, bool) or who == "" or value is None:
            raise DataError(f'entry {index} of the leaderboard has no "{name}" and "{score}"')
        if not isinstance(value, int | float):
            raise DataError(f"entry {index} of the leaderboard: {value!r:.40} is no finite score")
        try:
            entry = Entry(name=str(who), score=value)
        except ValueError as error:
            raise DataError(f"entry {index} of the leaderboard: {error}") from None
        if entry.name in made:
            raise DataError(f"the leaderboard names {entry.name!r:.80} twice")
        made[entry.name] = entry
    return list(made.values())


def at(item: Any, key: str) -> Any:
    """The value at a dotted key, None where there is none. A key that is there as it is written comes first."""
    if isinstance(item, Mapping) and key in item:
        return item[key]
    for part in key.split("."):
        if not isinstance(item, Mapping) or part not in item:
            return None
        item = item[part]
    return item


def number(value: Any) -> Any:
    """The number that a text says; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
