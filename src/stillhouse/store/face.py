"""The face of the store, whichever database stands behind it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Self

from stillhouse.store.auditing import Auditing
from stillhouse.store.connection import Database
from stillhouse.store.interning import Interner
from stillhouse.store.reading import Reading
from stillhouse.store.recording_live import RecordingLive
from stillhouse.store.serving import ServingRecords
from stillhouse.store.spending import Spending
from stillhouse.store.tallies import Tallies
from stillhouse.store.workshop import Workshop


class Store(RecordingLive, Reading, Spending, Auditing, Tallies, Workshop, ServingRecords):
    """Everything that is kept; use as a context manager.

    Every failure is a StoreError of one sentence, and a step that fails leaves nothing behind.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._interner = Interner(database.connection)

    @property
    def place(self) -> str:
        """Where the database is, as people are told of it; never a password."""
        return self._database.place

    @property
    def database(self) -> Database:
        """The database itself, for statements that this face does not have."""
        return self._database

    def importing(self) -> AbstractContextManager[None]:
        """Hold the right to import; StoreError where another process holds it."""
        return self._database.importing()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
