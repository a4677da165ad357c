"""What the rooms of the store ask of a database: the same of a SQLite file and of PostgreSQL.

Their SQL stands once, in SQLite's words and within what both databases mean alike: conditions are
comparisons (`flag = 1`), a question in FROM has a name, NULLS FIRST is said where times are sorted,
an upsert names the table of every column that it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Cursor(Protocol):
    """The rows that a statement answered with."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    def fetchone(self) -> Any:
        """The next row as a tuple, None after the last."""
        ...

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """Runs statements; `?` stands for a value."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Cursor:
        """Run a statement."""
        ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Run a statement once for each row of values."""
        ...


class Database(Protocol):
    """One opened database, brought up to the last schema."""

    @property
    def place(self) -> str:
        """Where it is, as people are told of it; never a password."""
        ...

    @property
    def connection(self) -> Connection:
        """Where statements are run; inside a transaction, except for what stands alone."""
        ...

    def transaction(self) -> AbstractContextManager[Connection]:
        """Everything inside is kept, or nothing is; one writer at a time."""
        ...

    def rows(self, sql: str, *values: Any) -> Iterator[Any]:
        """Stream the rows of a question; inside a transaction, as it stands there."""
        ...

    def importing(self) -> AbstractContextManager[None]:
        """Hold the right to import; StoreError where another process holds it."""
        ...

    def survey(self) -> None:
        """Let the database see how its tables have grown, where it would go by old figures."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
