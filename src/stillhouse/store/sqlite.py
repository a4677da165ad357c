"""The store: one SQLite file behind one face."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from stillhouse.core.errors import StoreError
from stillhouse.store.connection import Database, sole_importer
from stillhouse.store.interning import Interner
from stillhouse.store.reading import Reading
from stillhouse.store.recording import Recording
from stillhouse.store.schema import APPLICATION_ID, MIGRATIONS
from stillhouse.store.spending import Spending
from stillhouse.store.workshop import Workshop


class SqliteStore(Recording, Reading, Spending, Workshop):
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
        self._database = Database(path, APPLICATION_ID, MIGRATIONS)
        self._interner = Interner(self._database.connection)

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
        return self._database.path

    def importing(self) -> AbstractContextManager[None]:
        """Hold the right to import; StoreError where another process holds it."""
        return sole_importer(self.path)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
