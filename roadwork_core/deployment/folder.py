"""The folder of a deployment: its versions, the link that names the current one, its history and its lock.

    DIR/current -> versions/<version>      replaced atomically
    DIR/versions/<version>/                a bundle, named by the first 12 digits of its id
    DIR/history.jsonl                      one line per switch or refusal
    DIR/.pending.json                      a switch that is being made: what its line of the history will say

Names that begin with a dot are work in progress; what a killed process left of them goes with the next change.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from ..bundle import Level, verify
from ..errors import RoadworkError, UsageError
from ..files import canonical_json, pretty_json, sync_directory, sync_tree, write_atomic

CURRENT = "current"
VERSIONS = "versions"
HISTORY = "history.jsonl"
PENDING = ".pending.json"
LOCK = ".lock"
#: Digits of the bundle's id in the name of its version.
DIGITS = 12

#: What a killed process may leave, beside the lock: nothing else that begins with a dot is ours.
_LEFT = re.compile(
    r"\.(current\.new|pending\.json|(history\.jsonl|\.pending\.json)\..+|[0-9a-f]{12}(-\d+)?\.(new|old))"
)
_VERSION = re.compile(r"[0-9a-f]{12}(-\d+)?")


@frozen
class Deployment:
    """What lies at `path`. Reading needs no lock; every change is made by `locked()` callers, one process at a time."""

    path: Path

    @property
    def versions(self) -> Path:
        return self.path / VERSIONS

    def current(self) -> str | None:
        """The name of the version that is served, or None where nothing was deployed yet."""
        try:
            target = (self.path / CURRENT).readlink()
        except OSError:
            return None
        return target.name if target.parent == Path(VERSIONS) and (self.path / target).is_dir() else None

    def names(self) -> list[str]:
        """The versions that are there, sorted."""
        return sorted(path.name for path in self.versions.iterdir() if _VERSION.fullmatch(path.name))

    def history(self) -> list[dict[str, Any]]:
        """Every switch and refusal, oldest first, the one that a killed process did not write down included."""
        entries = self._written()
        pending = self._pending()
        if pending is not None and self._was_made(pending, entries):
            entries.append(pending)
        return entries

    def previous(self) -> str | None:
        """The version that was served before the current one and is still there."""
        current = self.current()
        seen: list[str] = []
        for entry in self.history():
            if entry["event"] == "rollback" and entry["version"] in seen:
                # What a rollback turned away from is not where the next one leads.
                del seen[seen.index(entry["version"]) + 1 :]
            elif entry["event"] in ("deploy", "rollback"):
                seen = [name for name in seen if name != entry["version"]] + [entry["version"]]
        there = [name for name in seen if name != current and (self.versions / name).is_dir()]
        return there[-1] if there else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out and mends what a killed one left. Raises RoadworkError where another works here."""
        self._check_place()
        self.versions.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                held = error.errno in (errno.EWOULDBLOCK, errno.EACCES)
                raise RoadworkError(
                    "another process is deploying here" if held else f"cannot be locked: {error.strerror or error}",
                    path=self.path,
                    hint="wait for it" if held else "deploy to a disk with file locks",
                ) from None
            self._mend()
            yield
        finally:
            os.close(descriptor)

    def store(self, bundle: Path, bundle_id: str) -> str:
        """Copies a bundle among the versions, whole or not at all, and returns its name there.

        A version that is there and sound is used as it is; a damaged one is left where it is, since it may be served,
        and the copy has another name. Raises VerificationError where the copy is not what was read.
        """
        name, number = bundle_id[:DIGITS], 1
        while (self.versions / name).exists():
            if _sound(self.versions / name, bundle_id):
                return name
            number += 1
            name = f"{bundle_id[:DIGITS]}-{number}"
        fresh = self.versions / f".{name}.new"
        shutil.copytree(bundle, fresh)
        verify(fresh, Level.SCHEMA).raise_for_failures()
        if not _sound(fresh, bundle_id):
            raise RoadworkError("the bundle was changed while it was copied", path=bundle, hint="deploy again")
        sync_tree(fresh)
        fresh.rename(self.versions / name)
        sync_directory(self.versions)
        return name

    def switch(self, version: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Makes `version` the current one and writes `entry` into the history; returns the whole entry."""
        whole = {**entry, "version": version, "previous": self.current()}
        write_atomic(self.path / PENDING, pretty_json(whole))
        link = self.path / f".{CURRENT}.new"
        link.symlink_to(Path(VERSIONS) / version)
        link.replace(self.path / CURRENT)
        sync_directory(self.path)
        self._settle()
        return whole

    def note(self, entry: Mapping[str, Any]) -> None:
        """Writes a line of the history for what changed nothing."""
        self._write([*self._written(), dict(entry)])

    def prune(self, keep: int) -> list[str]:
        """Removes all but the `keep` versions that were served last (the current one always stays); their names."""
        first = {name: place for place, name in enumerate((self.current(), self.previous())) if name}
        order = [entry["version"] for entry in self._written() if entry["event"] in ("deploy", "rollback")]
        rank = {name: place for place, name in enumerate(order)}
        ranked = sorted(self.names(), key=lambda name: (first.get(name, 2), -rank.get(name, -1)))
        removed = ranked[max(1, keep) :]
        for name in removed:
            trash = self.versions / f".{name}.old"
            (self.versions / name).rename(trash)
            shutil.rmtree(trash)
        return removed

    def _check_place(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError("is not a folder", path=self.path)
        strange = self.path.is_dir() and any(self.path.iterdir()) and not self.versions.is_dir()
        if strange:
            raise UsageError(
                "holds something else than a deployment", path=self.path, hint="choose an empty or a new folder"
            )
        link = self.path / CURRENT
        if link.exists() and not link.is_symlink():
            raise UsageError("is not a link: roadwork did not make it", path=link, hint="choose another folder")

    def _mend(self) -> None:
        self._settle()
        for folder in (self.path, self.versions):
            for left in folder.iterdir():
                if not _LEFT.fullmatch(left.name):
                    continue
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink()

    def _settle(self) -> None:
        """Brings the history up to the switch that was made, and forgets one that was not."""
        pending = self._pending()
        entries = self._written()
        if pending is not None and self._was_made(pending, entries):
            self._write([*entries, pending])
        (self.path / PENDING).unlink(missing_ok=True)

    def _was_made(self, pending: Mapping[str, Any], entries: list[dict[str, Any]]) -> bool:
        return self.current() == pending["version"] and pending not in entries[-1:]

    def _pending(self) -> dict[str, Any] | None:
        try:
            entry: dict[str, Any] = json.loads((self.path / PENDING).read_bytes())
        except FileNotFoundError:
            return None
        return entry

    def _written(self) -> list[dict[str, Any]]:
        path = self.path / HISTORY
        if not path.exists():
            return []
        entries = []
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                entry = json.loads(line)
                entries.append({**entry, "event": str(entry["event"])})
            except (ValueError, TypeError, LookupError):
                raise RoadworkError(
                    "not a line of a deployment's history", path=path, line=number, hint="take the line out"
                ) from None
        return entries

    def _write(self, entries: list[dict[str, Any]]) -> None:
        write_atomic(self.path / HISTORY, b"".join(canonical_json(entry) + b"\n" for entry in entries))


def _sound(version: Path, bundle_id: str) -> bool:
    found = verify(version, Level.SCHEMA)
    return found.ok and found.bundle is not None and found.bundle.id == bundle_id
