"""The store: one SQLite file in WAL mode, safe under concurrent writers and after a kill."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..database import Database
from .pictures import PictureFolder
from .record import Label, Recorded, Seen

#: How every SQLite file begins.
_MAGIC = b"SQLite format 3\0"
#: Files that are looked up together, while servers wait.
_FILES_AT_ONCE = 256

_TABLES = """
CREATE TABLE predictions (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, time REAL NOT NULL, bundle_id TEXT NOT NULL, policy TEXT NOT NULL,
  label TEXT, score REAL NOT NULL, path TEXT, sha256 TEXT, logits BLOB, features BLOB);
CREATE INDEX predictions_time ON predictions (time);
CREATE INDEX predictions_picture ON predictions (sha256) WHERE path IS NOT NULL;
CREATE TABLE labels (subject TEXT PRIMARY KEY, label TEXT NOT NULL, time REAL NOT NULL, source TEXT NOT NULL)
  WITHOUT ROWID;
"""
# A label of this very prediction counts before one of the picture's bytes, and that before one of its path.
_TRUTH = """COALESCE((SELECT label FROM labels WHERE subject = 'key:' || p.key),
  (SELECT label FROM labels WHERE subject = 'sha256:' || p.sha256),
  (SELECT label FROM labels WHERE subject = 'path:' || p.path))"""
_COLUMNS = "p.key, p.time, p.bundle_id, p.policy, p.label, p.score, p.path, p.sha256, p.logits, p.features"


def is_store(path: Path) -> bool:
    """Whether the file is a SQLite database, as a store is and no table of scores."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


class FeedbackStore(Database):
    """Predictions and labels at `path`."""

    what = "feedback store"
    #: "rwfb".
    application = 0x72776662
    tables = _TABLES

    def add(self, predictions: Iterable[Seen]) -> int:
        """Writes predictions, of one that is there already (by key) nothing; returns how many are new.

        `predictions` are drawn while no one else writes: what drawing one puts beside the store, its picture, no
        `prune_pictures` takes for one that has no prediction.
        """
        with self._writing() as connection:
            rows = [
                (
                    *(one.key, one.time, one.bundle_id, one.policy, one.label, one.score, one.path, one.sha256),
                    *(_packed(one.logits, "d"), _packed(one.features, "f")),
                )
                for one in predictions
            ]
            before = connection.total_changes
            connection.executemany(
                "INSERT INTO predictions (key, time, bundle_id, policy, label, score, path, sha256, logits, features)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                rows,
            )
            return connection.total_changes - before

    def label(self, labels: Iterable[Label], *, replace: bool = True) -> int:
        """Writes labels; of two of one subject the later (by its time) stays, or without `replace` the one that was
        there, unless they agree. Returns how many were written: one that is there already, time and all, is not."""
        later = "excluded.time > labels.time OR (excluded.time = labels.time AND excluded.label <> labels.label)"
        stays = later if replace else "excluded.label = labels.label"
        rows = [(label.subject, label.label, label.time, label.source) for label in labels]
        with self._writing() as connection:
            before = connection.total_changes
            connection.executemany(
                "INSERT INTO labels (subject, label, time, source) VALUES (?, ?, ?, ?) ON CONFLICT (subject) DO UPDATE"
                " SET label = excluded.label, time = excluded.time, source = excluded.source"
                f" WHERE {stays}",
                rows,
            )
            return connection.total_changes - before

    def holds(self, key: str) -> bool:
        """Whether the prediction of this key is there."""
        with self._told():
            found = self._connection.execute("SELECT 1 FROM predictions WHERE key = ?", (key,)).fetchone()
        return found is not None

    def read(
        self, *, bundle_id: str | None = None, since: float | None = None, labelled: bool = False, features: bool = True
    ) -> Iterator[Recorded]:
        """Predictions in the order of writing, read as they stood when the iteration began; some thousands at a time
        are held. `bundle_id` may be the first digits of one; without `features` those are left on the disk."""
        conditions = ["1"]
        values: list[Any] = []
        if bundle_id is not None:
            conditions.append("substr(p.bundle_id, 1, ?) = ?")
            values += [len(bundle_id), bundle_id]
        if since is not None:
            conditions.append("p.time >= ?")
            values.append(since)
        if labelled:
            conditions.append("truth IS NOT NULL")
        columns = _COLUMNS if features else _COLUMNS.replace("p.features", "NULL")
        statement = f"SELECT {columns}, {_TRUTH} AS truth FROM predictions p WHERE {' AND '.join(conditions)}"
        with self._told():
            for row in self._connection.execute(f"{statement} ORDER BY p.id", values):
                yield _recorded(row)

    def features_of(self, keys: Sequence[str]) -> dict[str, array[float]]:
        """The features of predictions by key, float32, of those that have any."""
        found: dict[str, array[float]] = {}
        with self._told():
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                statement = f"SELECT key, features FROM predictions WHERE key IN ({','.join('?' * len(part))})"
                for key, content in self._connection.execute(statement, part):
                    if features := _unpacked(content, "f"):
                        found[key] = features
        return found

    def stats(self) -> dict[str, Any]:
        """Counts as JSON: predictions, labelled, of these wrong and abstained, by bundle, and the span of time."""
        with self._told():
            rows = self._connection.execute(
                "SELECT bundle_id, COUNT(*), COUNT(truth), SUM(truth IS NOT NULL AND label IS NOT NULL AND"
                " label <> truth), SUM(label IS NULL), MIN(time), MAX(time)"
                f" FROM (SELECT p.*, {_TRUTH} AS truth FROM predictions p) GROUP BY bundle_id ORDER BY MIN(time)"
            ).fetchall()
            labels = self._connection.execute("SELECT COUNT(*) FROM labels").fetchone()[0]
        names = ("predictions", "labelled", "wrong", "abstained")
        bundles = {row[0]: dict(zip(names, row[1:5], strict=True)) for row in rows}
        return {
            **{name: sum(entry[name] for entry in bundles.values()) for name in names},
            "labels": labels,
            "first": min((row[5] for row in rows), default=None),
            "last": max((row[6] for row in rows), default=None),
            "bundles": bundles,
        }

    def prune(self, *, before: float | None = None, keep: int | None = None) -> int:
        """Removes predictions made before a time, then the oldest beyond `keep`, and labels that came before that time
        and are of no prediction that is left. Returns how many predictions went."""
        with self._writing() as connection:
            count = 0
            if before is not None:
                count += connection.execute("DELETE FROM predictions WHERE time < ?", (before,)).rowcount
            if keep is not None:
                count += connection.execute(
                    "DELETE FROM predictions WHERE id IN"
                    " (SELECT id FROM predictions ORDER BY time DESC, id DESC LIMIT -1 OFFSET ?)",
                    (keep,),
                ).rowcount
            if before is not None:
                connection.execute(
                    "DELETE FROM labels WHERE time < ? AND subject NOT IN (SELECT 'key:' || key FROM predictions UNION"
                    " SELECT 'sha256:' || sha256 FROM predictions WHERE sha256 IS NOT NULL UNION"
                    " SELECT 'path:' || path FROM predictions WHERE path IS NOT NULL)",
                    (before,),
                )
        with self._told():
            self._connection.execute("PRAGMA incremental_vacuum").fetchall()
        return count

    def prune_pictures(self, pictures: PictureFolder) -> int:
        """Removes the files of `pictures` that are of no prediction here, and those that a killed writer left behind;
        returns how many went. The folder must be this store's alone. Raises OSError."""
        with self._writing() as connection:
            # A store of an earlier roadwork lacks it, and would be read whole for every file.
            connection.execute(
                "CREATE INDEX IF NOT EXISTS predictions_picture ON predictions (sha256) WHERE path IS NOT NULL"
            )
        removed, files = 0, pictures.files()
        while part := list(islice(files, _FILES_AT_ONCE)):
            with self._told():
                loose = self._without_prediction(part)
            if loose:
                with self._writing():
                    for _, path in self._without_prediction(loose):
                        path.unlink(missing_ok=True)
                        removed += 1
        return removed

    def _without_prediction(self, files: Sequence[tuple[str | None, Path]]) -> list[tuple[str | None, Path]]:
        digests = [digest for digest, _ in files if digest is not None]
        statement = "SELECT DISTINCT sha256 FROM predictions WHERE path IS NOT NULL AND sha256 IN"
        found = self._connection.execute(f"{statement} ({','.join('?' * len(digests))})", digests)
        kept = {digest for (digest,) in found}
        return [(digest, path) for digest, path in files if digest not in kept]


def _packed(values: Sequence[float] | None, code: str) -> bytes | None:
    if values is None:
        return None
    packed = array(code, values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _unpacked(content: bytes | None, code: str) -> array[float] | None:
    if content is None:
        return None
    packed: array[float] = array(code, content)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed


def _recorded(row: Sequence[Any]) -> Recorded:
    key, time, bundle_id, policy, label, score, path, sha256, logits, features, truth = row
    return Recorded(
        seen=Seen(
            key=key,
            time=time,
            bundle_id=bundle_id,
            policy=policy,
            label=label,
            score=score,
            path=path,
            sha256=sha256,
            logits=_unpacked(logits, "d"),
            features=_unpacked(features, "f"),
        ),
        truth=truth,
    )
