"""The tables of access in PostgreSQL, over a connection of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from stillhouse.core.errors import ConfigError, StoreError
from stillhouse.store.access_tables import Step
from stillhouse.store.schema_access import POSTGRES_SCRIPTS

if TYPE_CHECKING:
    from psycopg import Connection

CONNECT_SECONDS = 2
STATEMENT_MS = 2000
"""How long a step may take before it counts as failed: a call waits for it."""

_MIGRATING = 0x53744163
"""Advisory lock, so that workers which start together migrate one after the other."""


class PostgresStep:
    """A step in PostgreSQL; rows that are read to be changed are locked."""

    for_update = " FOR UPDATE"

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """The rows that a statement answers with, or none."""
        cursor = self._connection.execute(_placed(sql), values)
        return cursor.fetchall() if cursor.description else []

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each row of values."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_placed(sql), rows)


class PostgresTables:
    """Connected at the first step, and anew after one that failed; safe among threads."""

    def __init__(self, dsn: str) -> None:
        try:
            import psycopg

            from stillhouse.store.postgres_address import read_address
        except ImportError as missing:
            raise ConfigError(
                "a PostgreSQL database needs the extra `postgres`; install stillhouse[postgres]"
            ) from missing
        self._psycopg = psycopg
        self._address = read_address(dsn)
        self._lock = Lock()
        self._connection: Connection[Any] | None = None

    @contextmanager
    def step(self, *, writes: bool = True) -> Iterator[Step]:
        """Everything inside is kept, or nothing is; StoreError where that cannot be done."""
        with self._lock:
            try:
                connection = self._opened()
                with connection.transaction():
                    yield PostgresStep(connection)
            except self._psycopg.Error as error:
                self._drop()
                state = error.sqlstate or type(error).__name__
                raise StoreError(
                    f"keys and quotas at {self._address.place} cannot be reached or used "
                    f"({state}); see that PostgreSQL is up and the address right"
                ) from error

    def close(self) -> None:
        """Let the connection go."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> Connection[Any]:
        if self._connection is None:
            connection = self._psycopg.connect(
                self._address.conninfo,
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                tcp_user_timeout=STATEMENT_MS,
            )
            try:
                connection.execute(f"SET statement_timeout = {STATEMENT_MS}")
                _prepare(connection, self._address.schema)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def _placed(sql: str) -> str:
    return sql.replace("?", "%s")


def _prepare(connection: Connection[Any], schema: str) -> None:
    """Bring the tables up to the last schema; one process at a time."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
        if schema:
            quoted = '"' + schema.replace('"', '""') + '"'
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}".encode())
            connection.execute(f"SET search_path = {quoted}".encode())
        known = connection.execute("SELECT to_regclass('access_schema') IS NOT NULL").fetchone()
        if not (known and known[0]):
            connection.execute("CREATE TABLE access_schema (version BIGINT NOT NULL)")
            connection.execute("INSERT INTO access_schema VALUES (0)")
        row = connection.execute("SELECT version FROM access_schema").fetchone()
        version = row[0] if row else 0
        if version > len(POSTGRES_SCRIPTS):
            raise StoreError(
                f"the tables of keys and quotas were written by a newer version (their schema is "
                f"{version}, this program knows {len(POSTGRES_SCRIPTS)}); update stillhouse"
            )
        for script in POSTGRES_SCRIPTS[version:]:
            connection.execute(script)
        connection.execute("UPDATE access_schema SET version = %s", (len(POSTGRES_SCRIPTS),))
