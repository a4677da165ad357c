"""The store in a PostgreSQL database."""

from __future__ import annotations

from typing import Self

from stillhouse.store.face import Store
from stillhouse.store.postgres_address import read_address
from stillhouse.store.postgres_server import PostgresDatabase
from stillhouse.store.schema import MIGRATIONS


class PostgresStore(Store):
    """Everything that is kept, in one schema of a PostgreSQL database; use as a context manager.

    Opening makes the tables where there are none and brings older ones up to date. The schema is
    the first of the search path, or `schema=NAME` among the parameters of the DSN. Every failure is
    a StoreError of one sentence, and a step that fails leaves nothing behind.
    """

    def __init__(self, dsn: str, *, make: bool = True) -> None:
        super().__init__(PostgresDatabase(read_address(dsn), MIGRATIONS, make=make))

    @classmethod
    def existing(cls, dsn: str) -> Self:
        """Open a database that must have the tables already."""
        return cls(dsn, make=False)
