"""The tables in PostgreSQL: the same numbered scripts, run once each, by one process at a time."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from stillhouse.core.errors import StoreError
from stillhouse.store.postgres_link import Link
from stillhouse.store.postgres_words import PRELUDE, in_postgres
from stillhouse.store.sqlite_file import statements

_OURS = "stillhouse_migrations"


def lock_number(schema: str, what: str) -> int:
    """The number of a lock of a schema: 64 bits of a hash, for the server's locks have no names."""
    name = f"stillhouse {schema} {what}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big", signed=True)


def bring_up_to_date(
    link: Link, place: str, migrations: Sequence[str], wanted: str, make: bool
) -> str:
    """Run the scripts that the schema has not seen, all or none; returns the schema's name.

    The first schema of the search path holds the tables; it is made where there is none. StoreError
    where it holds another program's tables of these names, a newer version's, or (unless `make`)
    none.
    """
    schema = _schema(link)
    if schema is None or _version(link, schema) != len(migrations):
        with link.transaction():
            link.execute(b"SELECT pg_advisory_xact_lock($1)", (lock_number("", "migrations"),))
            schema = _schema(link) or _made(link, place, wanted, make)
            _migrate(link, place, schema, migrations, make)
    return schema


def _schema(link: Link) -> str | None:
    ((name,),) = link.execute(b"SELECT current_schema()::text")
    return None if name is None else str(name)


def _version(link: Link, schema: str) -> int | None:
    """How many scripts the schema has seen; None where it is not ours."""
    found = link.execute(
        b"SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = $2", (schema, _OURS)
    ).fetchone()
    if found is None:
        return None
    ((number,),) = link.execute(f"SELECT count(*) FROM {_OURS}".encode())
    return int(number)


def _made(link: Link, place: str, wanted: str, make: bool) -> str:
    """Make the schema that the search path begins with."""
    if not make:
        raise _nothing(place)
    name = wanted
    if not name:
        ((path,),) = link.execute(b"SELECT current_setting('search_path')")
        name = str(path).partition(",")[0].strip().strip('"')
    if not name or name == "$user":
        raise StoreError(
            f"{place} has no schema for the tables; name one, as in postgresql://...?schema=NAME"
        )
    link.execute(('CREATE SCHEMA "' + name.replace('"', '""') + '"').encode())
    return _schema(link) or name


def _nothing(place: str) -> StoreError:
    return StoreError(
        f"there are no books at {place}; run `stillhouse import` first, or give their place with "
        "--db"
    )


def _migrate(link: Link, place: str, schema: str, migrations: Sequence[str], make: bool) -> None:
    version = _version(link, schema)
    if version is None:
        if not make:
            raise _nothing(place)
        link.execute(
            f"CREATE TABLE {_OURS} (number BIGINT PRIMARY KEY, "
            "applied_at TIMESTAMPTZ NOT NULL DEFAULT now())".encode()
        )
        version = 0
    if version > len(migrations):
        raise StoreError(
            f"{place} was written by a newer version (its schema is {version}, this program knows "
            f"{len(migrations)}); update stillhouse, or give another place with --db"
        )
    link.execute(PRELUDE.encode())
    for number, script in enumerate(migrations[version:], version + 1):
        for statement in statements(script):
            link.execute(in_postgres(statement).encode())
        link.execute(f"INSERT INTO {_OURS} (number) VALUES ($1)".encode(), (number,))
