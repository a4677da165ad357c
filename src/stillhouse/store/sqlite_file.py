"""One SQLite file: opened, checked, migrated; every failure becomes one sentence with a remedy."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from stillhouse.core.errors import StoreError

BUSY_SECONDS = 2.0
"""How long a step waits for another process's step before it says so."""

CACHE_KIB = 64 * 1024
"""Page cache: holds the upper levels and most leaves of the identity index of a million rows."""

CHECKPOINT_PAGES = 16 * 1024
"""Pages that the write-ahead log holds before it is folded into the file (64 MiB)."""

_SENTENCES = {
    sqlite3.SQLITE_FULL: "there is no room left to write {path}: this step was undone whole; "
    "free some disk space and run it again",
    sqlite3.SQLITE_BUSY: "{path} is being written by another process; wait until it ends and run "
    "this again",
    sqlite3.SQLITE_LOCKED: "{path} is being written by another process; wait until it ends and "
    "run this again",
    sqlite3.SQLITE_READONLY: "{path} is read-only here; make the file and its directory writable, "
    "or give another place with --db",
    sqlite3.SQLITE_CANTOPEN: "{path} cannot be opened; give a file in a directory that exists and "
    "can be written, with --db",
    sqlite3.SQLITE_IOERR: "the disk failed while {path} was read or written, or is full: this step "
    "was undone whole; check the disk and run it again",
    sqlite3.SQLITE_NOTADB: "{path} is not a database; give another file with --db",
    sqlite3.SQLITE_CORRUPT: "{path} is damaged; restore it from a copy, or import the logs into a "
    "new file",
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn every failure of SQLite into a StoreError that names the file and the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None) or 0
        known = _SENTENCES.get(code & 0xFF)
        sentence = known.format(path=path) if known else f"{path} refused this step: {error}"
        raise StoreError(sentence) from error
    except OverflowError as error:
        raise StoreError(
            f"{path} cannot keep a number beyond 64 bits: this step was undone whole; split the "
            "amount over several rows"
        ) from error


class SqliteDatabase:
    """A SQLite file of one kind, told by its application id and brought up to its last schema.

    `migrations` are scripts, append-only: the file's `user_version` says how many it has seen.
    """

    def __init__(self, path: Path, application_id: int, migrations: Sequence[str]) -> None:
        self.path = path
        with translated(path):
            keep_private(path)
            self.connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            with translated(path):
                self._check(application_id, len(migrations))
                self._tune()
                if self._pragma("user_version") < len(migrations):
                    self._migrate(application_id, migrations)
        except BaseException:
            self.close()
            raise

    @property
    def place(self) -> str:
        """The file, as people are told of it."""
        return str(self.path)

    def _pragma(self, name: str) -> int:
        value: int = self.connection.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    def _check(self, application_id: int, known: int) -> None:
        """Refuse a file of another program, or of a newer version, before touching it."""
        self.connection.execute("BEGIN")  # one view: another process may be making the file
        try:
            empty = not self.connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            found, version = self._pragma("application_id"), self._pragma("user_version")
        finally:
            self.connection.execute("ROLLBACK")
        if found != application_id and not (empty and found == 0 and version == 0):
            raise StoreError(
                f"{self.path} is a database of another program; give another file with --db"
            )
        if version > known:
            raise StoreError(
                f"{self.path} was written by a newer version (its schema is {version}, this "
                f"program knows {known}); update stillhouse, or give another file with --db"
            )

    def _tune(self) -> None:
        for setting in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "foreign_keys = ON",
            f"cache_size = -{CACHE_KIB}",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        ):
            self.connection.execute(f"PRAGMA {setting}").fetchall()

    def _migrate(self, application_id: int, migrations: Sequence[str]) -> None:
        """Run the scripts that the file has not seen, all or none."""
        with self.transaction() as connection:
            for script in migrations[self._pragma("user_version") :]:
                for statement in statements(script):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {application_id}")
            connection.execute(f"PRAGMA user_version = {len(migrations)}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside is kept, or nothing is; takes the write lock at once."""
        with translated(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def rows(self, sql: str, *values: Any) -> Iterator[Any]:
        """Stream the rows of a question."""
        with translated(self.path):
            yield from self.connection.execute(sql, values)

    def importing(self) -> AbstractContextManager[None]:
        """Hold the right to import; StoreError where another process holds it."""
        return sole_importer(self.path)

    def survey(self) -> None:
        """Nothing: SQLite plans the store's questions well without figures."""

    def close(self) -> None:
        """Let go of the file."""
        with translated(self.path):
            self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def keep_private(path: Path) -> None:
    """Make a new database's file so that its owner alone may read it; SQLite itself says why not.

    Its neighbours (`-wal`, `-shm`) get the mode of the file.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def statements(script: str) -> Iterator[str]:
    """Split a script where a statement is complete; a trigger's inner semicolons do not count."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def sole_importer(path: Path) -> Iterator[None]:
    """Hold the right to import into `path`: one process at a time, let go when the process ends.

    The right is an exclusive lock on an empty file beside the database, because an import is many
    transactions and two of them must not count the same file at once.
    """
    beside = path.with_name(path.name + ".lock")
    with translated(beside):
        lock = sqlite3.connect(beside, timeout=0, isolation_level=None)
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                with translated(beside):
                    raise
            raise StoreError(
                f"another process is importing into {path}; wait until it ends and run the import "
                "again"
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):
                beside.unlink()
    finally:
        lock.close()
