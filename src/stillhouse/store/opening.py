"""Opens the store at a place: a SQLite file by its path, PostgreSQL by its DSN."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.core.errors import StoreError
from stillhouse.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from stillhouse.store.postgres import PostgresStore

_SCHEMES = ("postgresql://", "postgres://")


def is_dsn(place: str) -> bool:
    """Whether a place is the address of a PostgreSQL database and not a path.

    >>> is_dsn("postgresql://db.local/books"), is_dsn("stillhouse.db")
    (True, False)
    """
    return place.startswith(_SCHEMES)


def open_store(place: str) -> SqliteStore | PostgresStore:
    """The store at a place, made where there is none.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, open_store(f"{folder}/books.db") as store:
    ...     store.tasks()
    ()
    """
    return _postgres()(place) if is_dsn(place) else SqliteStore(Path(place))


def existing_store(place: str) -> SqliteStore | PostgresStore:
    """The store at a place; StoreError where there is none."""
    return _postgres().existing(place) if is_dsn(place) else SqliteStore.existing(Path(place))


def beside(place: str) -> Path:
    """Where disposable files of a store lie: beside its file, else in the working directory.

    >>> str(beside("postgresql://ana:secret@db.local/books?schema=spend"))
    'stillhouse-db.local-books-spend'
    """
    if not is_dsn(place):
        return Path(place)
    _postgres()
    from stillhouse.store.postgres_address import read_address

    return Path(read_address(place).file_name)


def _postgres() -> type[PostgresStore]:
    """The driver is an extra, and takes a while to load."""
    try:
        from stillhouse.store.postgres import PostgresStore
    except ImportError as error:
        raise StoreError(
            "a database at a postgresql:// address needs a driver that is not installed here; "
            "run: pip install 'stillhouse[postgres]'"
        ) from error
    return PostgresStore
