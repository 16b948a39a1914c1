"""Predictions and labels in and out of a store: tables, evaluation folders, Parquet."""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files import digest_json, sha256_file
from .record import Label, Seen
from .store import FeedbackStore

#: Rows that are written in one transaction, or one row group of a Parquet file.
BATCH = 2000
COLUMNS = "a prediction has bundle_id, policy, label, score and path, sha256 or key; a label has truth and one of those"


def import_table(store: FeedbackStore, path: Path, *, bundle_id: str = "", source: str = "") -> dict[str, int]:
    """Reads a `.csv` or `.jsonl` file whose rows are predictions (a `score`), labels (a `truth`), or both.

    Returns how many `predictions` and `labels` were new. A row without a `time` has that of the file's last change, so
    giving the same file again changes nothing, and takes back no label that came since. Raises UsageError at the line
    that is wrong; rows before it may have been written.
    """
    counts = {"predictions": 0, "labels": 0}
    seen: list[Seen] = []
    labels: list[Label] = []
    when = _changed(path)
    for line, row in _rows(path):
        try:
            one, label = _parse(row, path.parent, when, bundle_id, source or path.name)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{error}", path=path, line=line, hint=COLUMNS) from None
        seen += [one] if one else []
        labels += [label] if label else []
        if len(seen) + len(labels) >= BATCH:
            _flush(store, seen, labels, counts)
    _flush(store, seen, labels, counts)
    return counts


def import_evaluation(store: FeedbackStore, folder: Path) -> dict[str, int]:
    """Reads the folder that `roadwork evaluate` wrote: the active policy's decisions, with their labels and logits."""
    try:
        metrics = json.loads((folder / "metrics.json").read_bytes())
        bundle_id, active = str(metrics["bundle_id"]), str(metrics["active"])
        with (folder / "decisions.csv").open(newline="", encoding="utf-8") as file:
            decisions = [row for row in csv.DictReader(file) if row["policy"] == active]
        with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
            logits = [[float(row[name]) for name in row if name.startswith("logit_")] for row in csv.DictReader(file)]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(f"is not a folder of roadwork evaluate: {error}", path=folder) from None
    if len(decisions) != len(logits):
        raise UsageError("decisions.csv and scores.csv are not of one evaluation", path=folder)
    when = (folder / "metrics.json").stat().st_mtime
    counts = {"predictions": 0, "labels": 0}
    for start in range(0, len(decisions), BATCH):
        seen, labels = [], []
        for row, values in zip(decisions[start : start + BATCH], logits[start : start + BATCH], strict=True):
            key = digest_json([bundle_id, active, row["path"]])[:32]
            seen.append(
                Seen(
                    key=key,
                    bundle_id=bundle_id,
                    policy=active,
                    label=row["label"] or None,
                    score=float(row["score"]),
                    logits=tuple(values),
                    time=when,
                    path=row["path"],
                    sha256=_digest(Path(row["path"])),
                )
            )
            labels.append(Label(key=key, label=row["truth"], time=when, source=f"evaluation {folder.name}"))
        _flush(store, seen, labels, counts)
    return counts


def export_parquet(store: FeedbackStore, path: Path, **choice: Any) -> int:
    """Writes what `store.read(**choice)` gives, batch by batch; the file appears whole or not at all. Returns rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.is_dir():
        raise UsageError("is a folder", path=path, hint="name the Parquet file to write")
    names = ("key", "bundle_id", "policy", "path", "sha256", "label", "truth")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in names),
            ("time", pa.timestamp("us", tz="UTC")),
            ("score", pa.float64()),
            ("logits", pa.list_(pa.float64())),
            ("features", pa.list_(pa.float32())),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        fresh = Path(scratch) / path.name
        with pq.ParquetWriter(fresh, schema) as writer:
            for rows in _batches(store, choice):
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                count += len(rows)
        fresh.replace(path)
    return count


def _batches(store: FeedbackStore, choice: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for found in store.read(**choice):
        seen = found.seen
        names = ("key", "bundle_id", "policy", "path", "sha256", "label", "score", "logits", "features")
        rows.append(
            {name: getattr(seen, name) for name in names} | {"truth": found.truth, "time": round(seen.time * 1e6)}
        )
        if len(rows) == BATCH:
            yield rows
            rows = []
    if rows:
        yield rows


def _flush(store: FeedbackStore, seen: list[Seen], labels: list[Label], counts: dict[str, int]) -> None:
    counts["predictions"] += store.add(seen)
    counts["labels"] += store.label(labels)
    seen.clear()
    labels.clear()


def _changed(path: Path) -> float:
    """When a file was last changed, and never later than now."""
    try:
        return max(0.0, min(path.stat().st_mtime, time.time()))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", path=path) from None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise UsageError("is neither .csv nor .jsonl, nor a folder of roadwork evaluate", path=path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            if suffix == ".csv":
                reader = csv.DictReader(file)
                for row in reader:
                    yield reader.line_num, {name: value for name, value in row.items() if name and value}
                return
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError:
                    raise UsageError("is not a line of JSON", path=path, line=number) from None
                if not isinstance(row, dict):
                    raise UsageError("is not a JSON object", path=path, line=number)
                yield number, {name: value for name, value in row.items() if value is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path=path) from None


def _parse(
    row: Mapping[str, Any], base: Path, when: float, bundle_id: str, source: str
) -> tuple[Seen | None, Label | None]:
    if "error" in row:
        return None, None
    text = {name: str(row[name]) for name in ("key", "sha256", "path") if name in row}
    if not text:
        raise ValueError("names no picture: path, sha256 or key is needed")
    if "score" not in row and "truth" not in row:
        raise ValueError("is neither a prediction (score) nor a label (truth)")
    when = float(row.get("time", when))
    path = str((base / text["path"]).absolute()) if "path" in text else None
    seen = None
    if "score" in row:
        digest = text.get("sha256") or (_digest(Path(path)) if path else None)
        bundle, policy = str(row.get("bundle_id", bundle_id)), str(row.get("policy", ""))
        key = text.get("key") or digest_json([bundle, policy, digest or path, row.get("time")])[:32]
        seen = Seen(
            key=key,
            time=when,
            bundle_id=bundle,
            policy=policy,
            label=None if "label" not in row else str(row["label"]),
            score=float(row["score"]),
            path=path,
            sha256=digest,
            logits=_numbers(row, "logits"),
            features=_numbers(row, "features"),
        )
    label = None
    if "truth" in row:
        if seen is not None or "key" in text:
            name = {"key": seen.key if seen else text["key"]}
        else:
            name = {"sha256": text["sha256"]} if "sha256" in text else {"path": str(path)}
        label = Label(label=str(row["truth"]), time=when, source=source, **name)
    return seen, label


def _numbers(row: Mapping[str, Any], name: str) -> tuple[float, ...] | None:
    value = row.get(name)
    if value is None and f"{name[:-1]}_0" in row:
        value = []
        while f"{name[:-1]}_{len(value)}" in row:
            value.append(row[f"{name[:-1]}_{len(value)}"])
    return None if value is None else tuple(float(one) for one in value)


def _digest(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None
