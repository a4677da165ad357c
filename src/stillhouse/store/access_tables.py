"""Where the tables of access stand: a small SQLite file of their own, opened when it is needed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from stillhouse.store.schema_access import SQLITE_SCRIPTS
from stillhouse.store.sqlite_file import keep_private, translated

BUSY_SECONDS = 1.0
"""How long a step waits for another process; quotas are refused rather than waited for longer."""

APPLICATION_ID = 0x53744163  # "StAc"


class Step(Protocol):
    """The statements of one transaction; `?` stands for a value."""

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """The rows that a statement answers with, or none."""
        ...

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each row of values."""
        ...

    @property
    def for_update(self) -> str:
        """What a question ends with that locks the rows it reads until the step ends."""
        ...


class SqliteStep:
    """A step in SQLite, where one writer is alone in the file and need not lock rows."""

    for_update = ""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """The rows that a statement answers with."""
        return self._connection.execute(sql, values).fetchall()

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each row of values."""
        self._connection.executemany(sql, rows)


class SqliteTables:
    """A file beside the database, so that a lock on the books stops no call; safe among threads.

    The file is opened at the first step, and anew after one that failed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def step(self, *, writes: bool = True) -> Iterator[Step]:
        """Everything inside is kept, or nothing is; StoreError where that cannot be done."""
        with self._lock, translated(self.path):
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                yield SqliteStep(connection)
                connection.execute("COMMIT")
            except sqlite3.Error:
                self._connection = None
                connection.close()
                raise
            finally:
                if self._connection is not None and connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            keep_private(self.path)
            connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def _keep_a_log(connection: sqlite3.Connection) -> None:
    """Turn to a write-ahead log; SQLite does not wait for others here, so this does."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _prepare(connection: sqlite3.Connection) -> None:
    """Bring a file up to the last schema; another program's file is left alone."""
    connection.execute("BEGIN")  # one view of all three: another process may be making the file
    try:
        filled = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.execute("ROLLBACK")
    if (found != APPLICATION_ID and (found or filled)) or version > len(SQLITE_SCRIPTS):
        raise sqlite3.DatabaseError("it is of another program, or of a newer version of this one")
    _keep_a_log(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    if version == len(SQLITE_SCRIPTS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for script in SQLITE_SCRIPTS[version:]:
            for statement in script.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(SQLITE_SCRIPTS)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
