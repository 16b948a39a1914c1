"""COCO annotations, read as strictly as a label needs: images, objects by the name of their category, areas."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from roadwork_core.errors import DataError


@frozen
class CocoObject:
    """One annotated object: its category's name and its area in square pixels."""

    category: str
    area: float


@frozen
class CocoImage:
    """One image record with its objects; `place` is where it stands in the file, for messages."""

    record: Mapping[str, Any]
    file_name: str
    objects: Sequence[CocoObject]
    place: str


@frozen
class Coco:
    """A file of annotations: its images in order, the names of its categories and of its licences by id."""

    path: Path
    images: Sequence[CocoImage]
    categories: Sequence[str]
    licences: Mapping[Any, str]


def read_coco(path: Path) -> Coco:
    """Reads a file of annotations.

    Raises DataError, with the place in the file, for what is no JSON or no COCO, a missing or wrong field, an id that
    is used twice, and an annotation of an image or category that is not there.
    """
    document = _document(path)
    categories = _by_id(path, document, "categories")
    names = {key: _text(path, record, "name", place) for key, (record, place) in categories.items()}
    images = _by_id(path, document, "images")
    objects: dict[Any, list[CocoObject]] = defaultdict(list)
    seen: dict[Any, str] = {}
    for record, place in _records(path, document, "annotations"):
        image, category = _key(path, record, "image_id", place), _key(path, record, "category_id", place)
        if image not in images:
            raise _error(path, place, f"image_id {image} is no image of the file")
        if category not in names:
            raise _error(path, place, f"category_id {category} is no category of the file")
        if "id" in record:
            _refuse_twice(path, seen, _key(path, record, "id", place), place)
        objects[image].append(CocoObject(names[category], _area(path, record, place)))
    licences = {}
    for record in document.get("licenses") or ():
        if isinstance(record, Mapping) and isinstance(record.get("name"), str) and record["name"].strip():
            licences[record.get("id")] = record["name"].strip()
    return Coco(
        path=path,
        images=[
            CocoImage(record, _text(path, record, "file_name", place), objects[key], place)
            for key, (record, place) in images.items()
        ],
        categories=list(names.values()),
        licences=licences,
    )


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError("no such file", path=path, hint="mend data.annotations") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from None
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error.msg}", path=path, line=error.lineno, hint="fetch it again") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON: {error}", path=path, hint="fetch it again") from None
    if not isinstance(document, Mapping):
        raise DataError("is not COCO: no object at the top", path=path, hint="instances_*.json is needed")
    return document


def _records(path: Path, document: Mapping[str, Any], table: str) -> list[tuple[Mapping[str, Any], str]]:
    values = document.get(table)
    if not isinstance(values, list):
        has = ", ".join(document) or "nothing"
        raise DataError(f'is not COCO: "{table}" is missing or no array', path=path, hint=f"it has {has}")
    for number, record in enumerate(values):
        if not isinstance(record, Mapping):
            raise _error(path, f"{table}[{number}]", "is no object")
    return [(record, f"{table}[{number}]") for number, record in enumerate(values)]


def _by_id(path: Path, document: Mapping[str, Any], table: str) -> dict[Any, tuple[Mapping[str, Any], str]]:
    found: dict[Any, tuple[Mapping[str, Any], str]] = {}
    seen: dict[Any, str] = {}
    for record, place in _records(path, document, table):
        key = _key(path, record, "id", place)
        _refuse_twice(path, seen, key, place)
        found[key] = record, place
    return found


def _refuse_twice(path: Path, seen: dict[Any, str], key: Any, place: str) -> None:
    if key in seen:
        raise _error(path, place, f"id {key} is used twice, first in {seen[key]}")
    seen[key] = place


def _key(path: Path, record: Mapping[str, Any], field: str, place: str) -> Any:
    value = record.get(field)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _error(path, place, f'"{field}" is {"missing" if value is None else repr(value)}, not an id')
    return value


def _text(path: Path, record: Mapping[str, Any], field: str, place: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not value.strip():
        raise _error(path, place, f'"{field}" is {"missing" if value is None else repr(value)}, not text')
    return value.strip()


def _area(path: Path, record: Mapping[str, Any], place: str) -> float:
    """The area that the file states, or that of the box."""
    value: Any = record.get("area")
    box = record.get("bbox")
    if value is None and isinstance(box, list) and len(box) == 4 and all(_is_number(side) for side in box):
        value = box[2] * box[3]
    if not _is_number(value) or value < 0:
        raise _error(path, place, '"area" is missing or no size, and so is "bbox"')
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _error(path: Path, place: str, message: str) -> DataError:
    return DataError(f"{place}: {message}", path=path, hint="mend the record, or fetch the file again")
