"""A connection to PostgreSQL that takes SQLite's statements, made anew where it was lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from stillhouse.core.errors import StoreError
from stillhouse.store.connection import Cursor
from stillhouse.store.postgres_address import Address
from stillhouse.store.postgres_failures import lost, translated, unreachable
from stillhouse.store.postgres_values import adapt
from stillhouse.store.postgres_words import ROW_NUMBER, in_postgres

LOCK_SECONDS = 10
"""How long a step waits for another writer's before it says so, unless the server has a limit."""

OLDEST_SERVER = 13
"""The first whose functions take types that merely agree, as `iif` does."""

WRITTEN_AT_ONCE = 5_000
"""Rows gathered before they are sent, because their source may itself ask the database."""

_PLAIN_INSERT = re.compile(r"\s*INSERT INTO (\w+)(?: \(([\w, ]+)\))? VALUES \([?, ]+\)\s*\Z")

Link = psycopg.Connection[tuple[Any, ...]]
"""A connection of the driver."""


def connect(address: Address) -> Link:
    """Make a connection that speaks as the store does; StoreError with the remedy where none is."""
    try:
        link: Link = psycopg.connect(
            address.conninfo,
            autocommit=True,
            cursor_factory=psycopg.RawCursor,
            client_encoding="utf8",
        )
    except psycopg.Error as error:
        raise StoreError(unreachable(error, address.place)) from error
    try:
        with translated(address.place):
            _set_up(link, address)
    except BaseException:
        link.close()
        raise
    return link


def _set_up(link: Link, address: Address) -> None:
    if link.info.server_version < OLDEST_SERVER * 10_000:
        version = link.info.parameter_status("server_version")
        raise StoreError(
            f"{address.place} is PostgreSQL {version}; version {OLDEST_SERVER} or newer is needed"
        )
    adapt(link)
    link.execute(
        "SELECT set_config('lock_timeout', $1, false) WHERE current_setting('lock_timeout') = '0'",
        (f"{LOCK_SECONDS}s",),
    )
    if address.schema:
        path = '"' + address.schema.replace('"', '""') + '"'
        link.execute("SELECT set_config('search_path', $1, false)", (path,))


class Writer:
    """The connection on which steps are made: a `connection.Connection`.

    `made` is told of every connection, the first and those that replace a lost one.
    """

    def __init__(self, address: Address, made: Callable[[Link], None]) -> None:
        self._address = address
        self._made = made
        self._link: Link | None = None
        self._columns: dict[str, str] = {}
        self.inside = False

    def link(self) -> Link:
        """The live connection; outside of a step, a lost one is replaced."""
        if self._link is None or self._link.closed:
            if self.inside:
                raise psycopg.OperationalError("the connection was lost")
            self._link = connect(self._address)
            self._made(self._link)
        return self._link

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Cursor:
        """Run a statement."""
        with translated(self._address.place):
            return self.link().execute(in_postgres(sql).encode(), values)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> None:
        """Run a statement for each row; what only inserts is copied in, which is far quicker."""
        plain = _PLAIN_INSERT.match(sql)
        source = iter(rows)
        with translated(self._address.place):
            while some := list(islice(source, WRITTEN_AT_ONCE)):
                if plain:
                    self._copy(plain[1], plain[2] or self._columns_of(plain[1]), some)
                else:
                    with self.link().cursor() as cursor:
                        cursor.executemany(in_postgres(sql).encode(), some)

    def _copy(self, table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
        with (
            self.link().cursor() as cursor,
            cursor.copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def _columns_of(self, table: str) -> str:
        """Names of a table's columns in order, without the number that SQLite does not show."""
        if table not in self._columns:
            found = self.link().execute(
                "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
                "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped "
                "AND attname <> $2",
                (table, ROW_NUMBER),
            )
            ((names,),) = found.fetchall()
            self._columns[table] = names or ROW_NUMBER
        return self._columns[table]

    def begin(self, lock: int) -> None:
        """Begin a step and take the lock of the writers; a connection found lost is replaced."""
        opening = (
            f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock({lock})"
        ).encode()
        try:
            self.link().execute(opening, prepare=False)
        except psycopg.Error as error:
            self.roll_back()
            if not lost(error):
                raise
            self.link().execute(opening, prepare=False)
        self.inside = True

    def commit(self) -> None:
        """Keep the step."""
        self.link().execute(b"COMMIT")
        self.inside = False

    def roll_back(self) -> None:
        """Undo the step where one is under way; a broken connection has undone it already."""
        self.inside = False
        link = self._link
        if link is None:
            return
        with suppress(psycopg.Error):
            if link.info.transaction_status not in (
                TransactionStatus.IDLE,
                TransactionStatus.UNKNOWN,
            ):
                link.execute(b"ROLLBACK")
        if link.broken or link.info.transaction_status != TransactionStatus.IDLE:
            link.close()

    def close(self) -> None:
        """Let the connection go."""
        if self._link is not None:
            self._link.close()
