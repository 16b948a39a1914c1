"""What ROADWork and the sets made from it say of a picture: its place in a video, where it was taken, what it shows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

#: The tags that name one frame of one drive, whatever set it came in.
FRAME_TAGS = ("city", "seq", "vid", "frame")
_VIDEO_FIELDS = {"seq": "seq_id", "vid": "vid_id", "frame": "frame_id"}
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_NO_PLACE = {"", "none", "nan", "null", "[]"}


def nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose columns may be called "video_info.seq_id" as one in which `video_info` is a table."""
    result: dict[str, Any] = {}
    for name, value in row.items():
        table, dot, field = name.partition(".")
        if table and dot and field:
            inner = result.get(table)
            result[table] = {**(inner if isinstance(inner, Mapping) else {}), field: value}
        else:
            result[name] = value
    return result


def text_of(value: Any) -> str:
    """A value as the text of a tag: "" where nothing is known, the items of a list separated by commas.

    Whole numbers that a table kept as floats lose their fraction; "['Sunny', 'Wet']" is taken as the list it shows.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(filter(None, map(text_of, value)))
    text = str(value).strip()
    if text.startswith("[") and text.endswith("]"):
        return ", ".join(first or second for first, second in _QUOTED.findall(text) if first or second)
    return text


def scene_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """The tags of an image record of ROADWork: `city`, `seq`, `vid`, `frame` and its scene-level tags."""
    video = record.get("video_info")
    video = video if isinstance(video, Mapping) else {}
    tags = {"city": text_of(record.get("city_name"))}
    tags |= {tag: text_of(video.get(field)) for tag, field in _VIDEO_FIELDS.items()}
    scene = record.get("scene_level_tags")
    if isinstance(scene, Mapping):
        tags |= {str(name): text_of(value) for name, value in scene.items()}
    return {name: value for name, value in tags.items() if value}


def sequence_of(tags: Mapping[str, str]) -> str | None:
    """The sequence that a frame belongs to as city/seq/vid, or None where the tags do not tell.

    The same text for the same drive in every set: capitals and spaces around do not count.
    """
    if not (tags.get("vid") or (tags.get("city") and tags.get("seq"))):
        return None
    return "/".join(tags.get(name, "").strip().casefold() or "-" for name in ("city", "seq", "vid"))


def frame_of(tags: Mapping[str, str]) -> str | None:
    """One frame as city/seq/vid/frame, or None; the ending of a file name ("04050.jpg") does not count."""
    sequence = sequence_of(tags)
    frame = tags.get("frame", "").strip().casefold()
    return f"{sequence}/{PurePosixPath(frame).stem}" if sequence and frame else None


def gps_of(value: Any) -> tuple[float, float] | None:
    """Latitude and longitude in degrees from a pair, its text "[40.4, -80.0]" or a table; None where unknown.

    Raises ValueError for anything else.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_PLACE):
        return None
    if isinstance(value, Mapping):
        parts: list[Any] = [_first(value, ("latitude", "lat")), _first(value, ("longitude", "lon", "lng", "long"))]
    elif isinstance(value, str):
        if not re.fullmatch(r"[\[(]?[^\[\]()A-Za-df-z]*[\])]?", value.strip()):
            raise ValueError(f"{_short(value)} is no latitude and longitude")
        parts = [float(number) for number in _NUMBER.findall(value)]
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        parts = list(value)
    else:
        raise ValueError(f"{_short(value)} is no latitude and longitude")
    if not parts or all(part is None or part != part for part in parts):
        return None
    if len(parts) != 2 or not all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts):
        raise ValueError(f"{_short(value)} is no latitude and longitude")
    latitude, longitude = float(parts[0]), float(parts[1])
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError(f"{latitude:g}, {longitude:g} is not a place on earth (latitude comes first)")
    return latitude, longitude


def _first(table: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((table[name] for name in names if name in table), None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
