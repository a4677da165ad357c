from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stillhouse.store.connection import Database
from stillhouse.store.postgres_address import read_address
from stillhouse.store.postgres_server import PostgresDatabase
from stillhouse.store.schema import APPLICATION_ID, MIGRATIONS
from stillhouse.store.sqlite_file import SqliteDatabase
from stillhouse.store.tallies import Tallies, add_tallies


class Books(Tallies):
    def __init__(self, database: Database) -> None:
        self._database = database


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_runs_tallies_add_up_until_they_are_dropped(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database: Database
    if kind == "sqlite":
        database = SqliteDatabase(tmp_path / "s.db", APPLICATION_ID, MIGRATIONS)
    else:
        new_schema: Callable[[], str] = request.getfixturevalue("new_schema")
        database = PostgresDatabase(read_address(new_schema()), MIGRATIONS)
    books = Books(database)
    for run, used in (("r1", {"a": 3, "b": 1}), ("r2", {"a": 9}), ("r1", {"a": 4}), ("r1", {})):
        with database.transaction() as connection:
            add_tallies(connection, run, used)
    assert books.tallies("r1") == {"a": 7, "b": 1}
    books.drop_tallies("r1")
    assert (books.tallies("r1"), books.tallies("r2")) == ({}, {"a": 9})
    database.close()
