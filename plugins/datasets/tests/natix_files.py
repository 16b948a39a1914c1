"""Parquet files in the layout of natix-network-org/roadwork and of the hub, written for the tests."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def jpeg(number: int) -> bytes:
    """A small picture that differs by its number."""
    target = io.BytesIO()
    Image.new("RGB", (32, 24), (number * 37 % 256, number * 91 % 256, number * 151 % 256)).save(target, "JPEG")
    return target.getvalue()


def png(number: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (32, 24), (number * 37 % 256, 10, 20)).save(target, "PNG")
    return target.getvalue()


def hub_metadata(names: Sequence[str]) -> dict[bytes, bytes]:
    """What the hub's libraries write into a file whose `label` is a ClassLabel."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def write(path: Path, columns: Mapping[str, Any], metadata: Mapping[bytes, bytes] | None = None, rows: int = 3) -> Path:
    """Writes columns (lists or Arrow arrays) with `rows` in a row group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(dict(columns))
    pq.write_table(table.replace_schema_metadata(dict(metadata or {})), path, row_group_size=rows)
    return path


def pictures(contents: Sequence[bytes | None], paths: Sequence[str | None] | None = None) -> pa.Array:
    rows = [{"bytes": b, "path": p} for b, p in zip(contents, paths or [None] * len(contents), strict=True)]
    return pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def natix(count: int = 6) -> list[dict[str, Any]]:
    """Rows as nested records: odd ones are roadwork; two frames to a sequence; row 4 contradicts its label."""
    rows = []
    for number in range(count):
        positive = number % 2
        rows.append(
            {
                "image": {"bytes": jpeg(number), "path": f"{number}.jpg"},
                "id": 700 + number,
                "license": 0,
                "gps": f"[39.7716, -86.1882{number}]",
                "city_name": "indianapolis",
                "scene_description": "Cones along the road." if positive or number == 4 else None,
                "video_info": {"frame_id": f"0405{number}.jpg", "seq_id": number // 2, "vid_id": "9ed0f7"},
                "scene_level_tags": {
                    "daytime": "Light",
                    "scene_environment": "Urban",
                    "travel_alteration": "['Partially Blocked', 'Lane Shift']",
                    "weather": "['Sunny']",
                },
                "label": positive,
            }
        )
    return rows


def columns_of(rows: Sequence[Mapping[str, Any]], *, flat: bool = False) -> dict[str, Any]:
    """Records as columns; `flat` calls those of tables "video_info.seq_id" and so on, as the published files do."""
    result: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            if flat and isinstance(value, dict) and name != "image":
                for inner, item in value.items():
                    result.setdefault(f"{name}.{inner}", []).append(item)
            else:
                result.setdefault(name, []).append(value)
    return result
