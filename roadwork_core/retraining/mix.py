"""The champion's sample tables as one manifest, with hard negatives in train and nowhere else."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from attrs import frozen

from ..data.sample import Row
from ..data.table import read_rows
from ..errors import DataError, UsageError
from ..files import sha256_file
from ..spec import SPLITS

COLUMNS = ("path", "label", "split", "group", "source", "licence", "latitude", "longitude")


@frozen(kw_only=True)
class Mix:
    """`manifest`: bytes of a CSV; `given` hard negatives, `used` of them, beside `train` pictures of the champion's."""

    manifest: bytes
    given: int
    used: int
    train: int
    classes: Sequence[str]
    positive: str


def mix(run: Path, hard_negatives: Path, *, share: float) -> Mix:
    """Mixes hard negatives, at most the `share` of what will be train, with the tables of a finished run.

    They are taken in the file's order, the types of error in turn. Those that the run has already are left out where
    they are in train. Raises DataError for one that is held out or of an unknown class, UsageError for a folder
    that is no run or a file that is no manifest.
    """
    try:
        document = json.loads((run / "prepare" / "classes.json").read_bytes())
        classes, positive = list(document["classes"]), int(document["positive"])
        rows = [row for split in SPLITS for row in read_rows(run / "prepare" / "samples" / f"{split}.jsonl")]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"is not the directory of a run: {error}", path=run, hint="--champion-run names the champion's run"
        ) from None
    train = sum(row.split == "train" for row in rows)
    hard = _read(hard_negatives, classes)
    known = {row.sha256: row.split for row in rows}
    fresh: dict[str, dict[str, str]] = {}
    for line, one in hard:
        digest = sha256_file(Path(one["path"]))
        split = known.get(digest)
        if split not in (None, "train"):
            raise DataError(
                f"is in the split {split} of the champion's run", path=hard_negatives, line=line, hint="mine anew"
            )
        if split is None:
            fresh.setdefault(digest, one)
    room = int(share * train / (1 - share)) if share < 1 else len(fresh)
    used = _in_turn(list(fresh.values()))[:room]
    return Mix(
        manifest=_manifest(rows, used),
        given=len(hard),
        used=len(used),
        train=train,
        classes=classes,
        positive=classes[positive],
    )


def overrides(found: Mix, manifest: Path, name: str, values: Mapping[str, Any]) -> list[str]:
    """What to lay over the spec, as for `--set`: the manifest as data, its splits as they are, and the run's name.

    `values` is the resolved spec; what its [data] says of decoding and near-duplicates stays.
    """
    data = values["data"]
    kept = ("on_bad_image", "near_duplicates", "near_duplicate_distance", "fit", "max_pixels", "workers")
    parts: dict[str, Any] = {"use": "manifest", "path": str(manifest.absolute()), "root": "/"}
    parts |= {"gps_columns": ["latitude", "longitude"]} | {key: data[key] for key in kept if data.get(key) is not None}
    parts |= {"classes": list(found.classes), "positive": found.positive}
    # A JSON string, number, boolean or list of strings is written the same in TOML.
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in parts.items())
    return [f"data={{ {table} }}", f"name={json.dumps(name)}"]


def _read(path: Path, classes: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    found = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                raise UsageError("has no columns path and label", path=path, hint="roadwork mine writes such a file")
            for row in reader:
                picture = path.parent / row["path"]
                if row["label"] not in classes:
                    raise DataError(f"{row['label']!r} is no class of the champion", path=path, line=reader.line_num)
                if not picture.is_file():
                    raise DataError(f"{row['path']} is not there", path=path, line=reader.line_num)
                entry = {"path": str(picture.absolute()), "label": row["label"], "error": row.get("error") or ""}
                found.append((reader.line_num, entry))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path=path) from None
    return found


def _in_turn(hard: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    by_kind: dict[str, list[dict[str, str]]] = defaultdict(list)
    for one in hard:
        by_kind[one["error"]].append(one)
    return [one for turn in zip_longest(*by_kind.values()) for one in turn if one is not None]


def _manifest(rows: Sequence[Row], hard: Sequence[Mapping[str, str]]) -> bytes:
    tags = sorted({name for row in rows for name in row.tags} - set(COLUMNS))
    text = io.StringIO()
    table = csv.DictWriter(text, [*COLUMNS, *tags], restval="", lineterminator="\n")
    table.writeheader()
    for row in rows:
        place = {"latitude": row.gps[0], "longitude": row.gps[1]} if row.gps else {}
        plain = {name: getattr(row, name) or "" for name in COLUMNS[:6]}
        table.writerow({**{name: row.tags[name] for name in tags if name in row.tags}, **plain, **place})
    for one in hard:
        table.writerow({"path": one["path"], "label": one["label"], "split": "train", "source": "mined"})
    return text.getvalue().encode()
