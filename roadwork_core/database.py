"""A file of ours in SQLite: WAL, several writers, whole after a kill, never mistaken for another program's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from .errors import RoadworkError, UsageError

#: Seconds that a writer waits for another one.
PATIENCE = 30.0


class Database:
    """The file at `path`. What a call has written is on the disk when it returns, all of it or nothing.

    The file must lie on a local disk (WAL needs shared memory). Open one per thread. Raises UsageError for a file of
    another kind or a newer version, or a missing one unless `create`; RoadworkError where it cannot be read or
    written. A subclass says what it is:
    """

    #: What the file is called in messages: "feedback store".
    what: ClassVar[str]
    #: SQLite's application_id of the file, and the version of its tables (user_version).
    application: ClassVar[int]
    version: ClassVar[int] = 1
    #: Statements that make the tables of an empty file, each ended by a semicolon.
    tables: ClassVar[str]

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        if not create and not path.is_file():
            raise UsageError(f"there is no such {self.what}", path=path)
        if path.is_dir():
            raise UsageError(f"is a folder, not a {self.what}", path=path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._told():
            self._connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other writer comes between: what is read in it still holds when it is written."""
        with self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            message = str(error)
            if "not a database" in message:
                raise UsageError(f"is not a {self.what}", path=self.path) from None
            hint = "another process has been writing for long" if "locked" in message else None
            raise RoadworkError(f"the {self.what} cannot be used: {message}", path=self.path, hint=hint) from None

    def _prepare(self) -> None:
        with self._told():
            application, version = (self._pragma(name) for name in ("application_id", "user_version"))
            if application == 0 and version == 0:
                if not self._count_tables():
                    self._create()
                # Tables that are there now are perhaps another process's, made since the two numbers were read.
                application, version = (self._pragma(name) for name in ("application_id", "user_version"))
            if application != self.application:
                raise UsageError(f"is not a {self.what}", path=self.path)
            if version > self.version:
                raise UsageError(
                    f"is a {self.what} of version {version}, which this roadwork does not know",
                    path=self.path,
                    hint="use a newer roadwork",
                )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")

    def _create(self) -> None:
        self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        with self._writing() as connection:
            # Another process may have been quicker.
            if not self._count_tables():
                for statement in self.tables.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {self.application}")
                connection.execute(f"PRAGMA user_version = {self.version}")

    def _pragma(self, name: str) -> int:
        return int(self._fetch_one(f"PRAGMA {name}"))

    def _count_tables(self) -> int:
        return int(self._fetch_one("SELECT COUNT(*) FROM sqlite_master"))

    def _fetch_one(self, statement: str) -> Any:
        return self._connection.execute(statement).fetchone()[0]
