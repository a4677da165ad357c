"""The books and the counters of quotas behind the endpoint, by the place of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stillhouse.flows.books import spend_by
from stillhouse.store.access import Access, beside
from stillhouse.store.face import Store
from stillhouse.store.opening import existing_store, is_dsn


def access_of(database: str) -> Access:
    """Keys and counters: in a file of their own beside a SQLite database, in PostgreSQL with it."""
    return Access(beside(database))


@contextmanager
def student_books(database: str) -> Iterator[Store | None]:
    """The books for those who steer students; None where nothing has been folded yet."""
    if not is_dsn(database) and not Path(database).exists():
        yield None
        return
    with existing_store(database) as store:
        yield store


def spend_rows(database: str, by: str) -> Iterator[dict[str, Any]]:
    """What was spent, grouped; amounts are exact decimal text, None where a part is unpriced."""
    if not is_dsn(database) and not Path(database).exists():
        return  # nothing has been folded yet
    with existing_store(database) as store:
        for row in spend_by(store, by, None).rows:
            yield {
                by: row.key,
                "attempts": row.n_requests,
                "computed_usd": None if row.computed is None else format(row.computed.decimal, "f"),
                "reported_usd": None if row.reported is None else format(row.reported.decimal, "f"),
                "unpriced_share": row.unpriced_request_share,
                "tokens": dict(row.tokens),
                "evidence": row.evidence.value,
            }
