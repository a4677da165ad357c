"""One PostgreSQL database behind the face of `connection.Database`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import capabilities

from stillhouse.core.errors import StoreError
from stillhouse.store.connection import Connection
from stillhouse.store.postgres_address import Address
from stillhouse.store.postgres_failures import lost, sentence, translated
from stillhouse.store.postgres_link import Link, Writer, connect
from stillhouse.store.postgres_schema import bring_up_to_date, lock_number
from stillhouse.store.postgres_words import in_postgres

STREAMED_AT_ONCE = 500
"""Rows that are fetched together while a question is streamed."""

_PERHAPS = "whether this step was kept is not known, and what was kept is not kept twice"
_END = object()


class PostgresDatabase:
    """A PostgreSQL schema with the store's tables, brought up to the last of the `migrations`.

    One connection writes, and answers what is asked inside a step. Questions outside of one are
    streamed over further connections, so that a long reading and a step never meet. What is lost is
    made anew by the next step. Two writers wait for each other as on a SQLite file, and one thread
    uses it at a time.
    """

    def __init__(self, address: Address, migrations: Sequence[str], *, make: bool = True) -> None:
        self._address = address
        self._idle: list[Link] = []
        self._importing = False
        self._schema = ""
        self._writer = Writer(address, self._claim_again)
        try:
            with translated(self.place):
                self._schema = bring_up_to_date(
                    self._writer.link(), self.place, migrations, address.schema, make
                )
        except BaseException:
            self.close()
            raise

    @property
    def place(self) -> str:
        """Where the database is, without its password."""
        return self._address.place

    @property
    def connection(self) -> Connection:
        """Where statements are run."""
        return self._writer

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Everything inside is kept, or nothing is; takes the lock of the writers at once."""
        if self._writer.inside:
            raise StoreError(f"{self.place} is inside a step already; end that one first")
        with translated(self.place):
            self._writer.begin(lock_number(self._schema, "write"))
            try:
                yield self._writer
                self._commit()
            finally:
                self._writer.roll_back()

    def _commit(self) -> None:
        try:
            self._writer.commit()
        except psycopg.Error as error:
            if lost(error):
                raise StoreError(sentence(error, self.place, _PERHAPS)) from error
            raise

    def rows(self, sql: str, *values: Any) -> Iterator[Any]:
        """Stream the rows of a question; inside a step, as it stands there."""
        if self._writer.inside:
            yield from self._writer.execute(sql, values)
            return
        with translated(self.place):
            yield from self._streamed(in_postgres(sql).encode(), values)

    def _streamed(self, query: bytes, values: tuple[Any, ...]) -> Iterator[Any]:
        link, rows, first = self._asked(query, values)
        try:
            if first is not _END:
                yield first
                yield from rows
        finally:
            rows.close()
            self._put_back(link)

    def _asked(self, query: bytes, values: tuple[Any, ...]) -> tuple[Link, Any, Any]:
        """Put a question and wait for its first row; a connection found lost is replaced."""
        at_once = STREAMED_AT_ONCE if capabilities.has_stream_chunked() else 1
        while True:
            known = bool(self._idle)
            link = self._idle.pop() if known else connect(self._address)
            rows = link.cursor().stream(query, values, size=at_once)
            try:
                return link, rows, next(rows, _END)
            except BaseException as error:
                self._put_back(link)
                if not (known and isinstance(error, psycopg.Error) and lost(error)):
                    raise

    def _put_back(self, link: Link) -> None:
        if link.closed or link.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            link.close()
        else:
            self._idle.append(link)

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Hold the right to import; StoreError where another process holds it.

        What was imported is surveyed in the end.
        """
        with translated(self.place):
            if self._importing:
                raise self._taken()
            self._claim(self._writer.link())
        self._importing = True
        try:
            yield
            self.survey()
        finally:
            self._importing = False
            with suppress(psycopg.Error, StoreError):
                self._writer.execute("SELECT pg_advisory_unlock(?)", (self._right,))

    @property
    def _right(self) -> int:
        return lock_number(self._schema, "import")

    def _claim(self, link: Link) -> None:
        ((claimed,),) = link.execute(b"SELECT pg_try_advisory_lock($1)", (self._right,))
        if not claimed:
            raise self._taken()

    def _claim_again(self, link: Link) -> None:
        """The right to import went with the connection that was lost."""
        if self._importing:
            self._claim(link)

    def _taken(self) -> StoreError:
        return StoreError(
            f"another process is importing into {self.place}; wait until it ends and run the "
            "import again"
        )

    def survey(self) -> None:
        """Renew the figures that questions are planned by, for all tables: `ANALYZE`.

        The server does so by itself, but a minute late, and until then it takes new tables for
        nearly empty: a question about a task of 20,000 rows then takes a hundred times as long. It
        costs a fraction of a second and may fail without harm.
        """
        with suppress(psycopg.Error, StoreError):
            found = self._writer.execute(
                "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables "
                "WHERE schemaname = ?",
                (self._schema,),
            )
            self._writer.execute(f"ANALYZE {found.fetchone()[0]}")

    def close(self) -> None:
        """Let every connection go."""
        self._writer.close()
        while self._idle:
            self._idle.pop().close()
