from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from stillhouse.core.errors import StoreError
from stillhouse.store.schema import APPLICATION_ID, MIGRATIONS
from stillhouse.store.sqlite import SqliteStore
from stillhouse.store.sqlite_file import SqliteDatabase


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()


def newer(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as later:
        later.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    later.close()


def prose(path: Path) -> None:
    path.write_text("Dear diary, today I spent two cents on tokens.\n" * 40)


def short_prose(path: Path) -> None:
    path.write_text("not a database")


def directory(path: Path) -> None:
    path.mkdir()


UNUSABLE: dict[str, tuple[Callable[[Path], None], str]] = {
    "another program's database": (foreign, "database of another program"),
    "a newer version's database": (newer, "newer version .* update stillhouse"),
    "a text file": (prose, "is not a database"),
    "a short text file": (short_prose, "is not a database"),
    "a directory": (directory, "cannot be opened"),
}


@pytest.mark.parametrize(("make", "sentence"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_used_is_said_in_one_sentence_and_left_as_it_was(
    tmp_path: Path, make: Callable[[Path], None], sentence: str
) -> None:
    path = tmp_path / "some.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StoreError, match=sentence) as failure:
        SqliteStore(path)
    assert "\n" not in str(failure.value)
    assert str(path) in str(failure.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_place_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a directory that exists"):
        SqliteStore(tmp_path / "nowhere" / "some.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_directory_that_is_read_only_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match=r"can be written|read-only"):
            SqliteStore(tmp_path / "some.db")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_turned_read_only_is_said_when_a_step_writes(tmp_path: Path) -> None:
    with SqliteDatabase(tmp_path / "some.db", APPLICATION_ID, MIGRATIONS) as database:
        database.connection.execute("PRAGMA query_only = 1")
        with (
            pytest.raises(StoreError, match="read-only here; make"),
            database.transaction() as connection,
        ):
            connection.execute("INSERT INTO prices VALUES ('p', '{}')")


def test_a_report_does_not_make_a_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="stillhouse import"):
        SqliteStore.existing(tmp_path / "some.db")
    assert list(tmp_path.iterdir()) == []


def test_an_older_database_is_brought_up_to_date_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    older = SqliteDatabase(path, APPLICATION_ID, MIGRATIONS[:1])
    with older, older.transaction() as connection:
        connection.execute("INSERT INTO prices VALUES ('p', '{}')")
    with SqliteDatabase(path, APPLICATION_ID, MIGRATIONS) as current:
        assert list(current.rows("SELECT price_id FROM prices")) == [("p",)]
        assert list(current.rows("SELECT count(*) FROM jobs")) == [(0,)]
        assert list(current.rows("PRAGMA user_version")) == [(len(MIGRATIONS),)]


def test_a_migration_that_fails_leaves_the_older_schema(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    SqliteDatabase(path, APPLICATION_ID, MIGRATIONS[:1]).close()
    broken = (MIGRATIONS[0], "CREATE TABLE extra (a TEXT) STRICT;\nCREATE TABLE texts (a TEXT);\n")
    with pytest.raises(StoreError, match="texts already exists"):
        SqliteDatabase(path, APPLICATION_ID, broken)
    with SqliteDatabase(path, APPLICATION_ID, MIGRATIONS[:1]) as older:
        assert list(older.rows("PRAGMA user_version")) == [(1,)]
        assert list(older.rows("SELECT 1 FROM sqlite_master WHERE name = 'extra'")) == []


def test_a_step_while_another_process_writes_is_said(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with SqliteStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        store._database.connection.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(StoreError, match="being written by another process"):
            store.put_artefact(b"anything")
        other.execute("ROLLBACK")
        other.close()
        assert store.get_artefact(store.put_artefact(b"anything")) == b"anything"


def test_one_process_imports_at_a_time(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "some.db") as first, SqliteStore(tmp_path / "some.db") as second:
        with (
            first.importing(),
            pytest.raises(StoreError, match="another process is importing"),
            second.importing(),
        ):
            pytest.fail("both hold the right to import")
        with second.importing():
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["some.db"]


def test_the_right_to_import_is_let_go_when_the_import_fails(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "some.db") as store:
        with pytest.raises(KeyboardInterrupt), store.importing():
            raise KeyboardInterrupt
        with store.importing():
            pass
