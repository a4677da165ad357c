"""The store in one SQLite file."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from stillhouse.core.errors import StoreError
from stillhouse.store.face import Store
from stillhouse.store.schema import APPLICATION_ID, MIGRATIONS
from stillhouse.store.sqlite_file import SqliteDatabase


class SqliteStore(Store):
    """Everything that is kept, in one SQLite file; use as a context manager.

    Opening makes the file where there is none and brings an older one up to date. Every failure is
    a StoreError of one sentence, and a step that fails leaves nothing behind.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, SqliteStore(Path(folder) / "stillhouse.db") as store:
    ...     digest = store.put_student("intents", 1, "lexical", b"weights", created_us=0)
    ...     store.get_student(digest), [student.recipe for student in store.versions("intents")]
    (b'weights', ['lexical'])
    """

    def __init__(self, path: Path) -> None:
        super().__init__(SqliteDatabase(path, APPLICATION_ID, MIGRATIONS))
        self._path = path

    @classmethod
    def existing(cls, path: Path) -> Self:
        """Open a database that must be there already."""
        if not path.exists():
            raise StoreError(
                f"there is no database at {path}; run `stillhouse import` first, or give its "
                "place with --db"
            )
        return cls(path)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path
