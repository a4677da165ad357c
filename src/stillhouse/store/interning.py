"""What repeats is stored once: long texts, tags, ways of calling a model, accounts of the books."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from collections.abc import Hashable, Iterable
from hashlib import blake2b
from typing import Any

import orjson

from stillhouse.core.books import Charge
from stillhouse.core.calls import Ended, Started
from stillhouse.core.traffic import Attempt, Message, Tags
from stillhouse.store.connection import Connection

REMEMBERED = 32_768
"""Rows that are remembered between batches, so that memory stays flat."""

REMEMBERED_CHARACTERS = 2**22
"""Length of the texts among them, all together."""

ASKED_AT_ONCE = 500
"""Keys per question: under the limit of every SQLite, and always the same prepared statement."""

HOLES = f"({', '.join('?' * ASKED_AT_ONCE)})"


_COLUMNS = {
    "tag_sets": ("task", "team", "customer", "feature", "region"),
    "routes": ("model", "host", "kind", "service_tier", "region", "batch", "evidence"),
    "accounts": ("leaf", "unit", "currency", "cost_source", "evidence", "price_id"),
    "outcomes": ("key_id", "upstream", "wire", "fate", "status"),
    "student_versions": ("task", "version"),
}


class Interner:
    """Row numbers of repeated things, inserted at first sight; use inside a transaction.

    Row numbers of an undone transaction no longer exist: `forget` after every failure. Enums are
    read by `_value_`: this runs five times a row, and the property costs more than the look-up.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ids: dict[Hashable, int] = {}
        self._characters = 0

    def forget(self) -> None:
        """Ask the file again from now on."""
        self._ids.clear()
        self._characters = 0

    def text(self, body: str) -> int | None:
        """Row of a text by its content; None for an empty one."""
        return (self._ids.get(body) or self._text(body)) if body else None

    def learn(self, bodies: Iterable[str]) -> None:
        """Number many texts together: a far database takes a journey for every question."""
        new = {_digest(body): body for body in bodies if body and body not in self._ids}
        rows = self._rows_of(list(new))
        missing = [digest for digest in new if digest not in rows]
        if missing:
            self._connection.executemany(
                "INSERT INTO texts (digest, body) VALUES (?, ?)",
                ((digest, new[digest]) for digest in missing),
            )
            rows |= self._rows_of(missing)
        for digest, row in rows.items():
            self._remember_text(new[digest], row)

    def _rows_of(self, digests: list[bytes]) -> dict[bytes, int]:
        rows: dict[bytes, int] = {}
        for some in chunks(digests):
            rows.update(
                self._connection.execute(
                    f"SELECT digest, id FROM texts WHERE digest IN {HOLES}", some
                )
            )
        return rows

    def tags(self, tags: Tags) -> int:
        """Row of a set of tags."""
        key = (tags.task, tags.team, tags.customer, tags.feature, tags.region)
        return self._ids.get(key) or self._row("tag_sets", key)

    def route(self, attempt: Attempt) -> int:
        """Row of the way in which a model was called."""
        key = (
            attempt.model,
            attempt.host,
            attempt.kind._value_,
            attempt.service_tier,
            attempt.region,
            attempt.batch,
            attempt.evidence._value_,
        )
        return self._ids.get(key) or self._row("routes", key)

    def account(self, charge: Charge) -> int:
        """Row of what a charge counts, by which price."""
        key = (
            charge.leaf,
            charge.unit,
            charge.billed.currency if charge.billed is not None else None,
            charge.cost_source._value_,
            charge.evidence._value_,
            charge.price_id or None,
        )
        return self._ids.get(key) or self._row("accounts", key)

    def outcome(self, started: Started, ended: Ended) -> int:
        """Row of how a live call went: whose key, which upstream in which wire format, what fate.

        The wire format is the one that the upstream was spoken to in.
        """
        key = (
            started.key_id,
            ended.upstream or started.upstream,
            started.spoken or started.wire,
            ended.fate._value_,
            ended.status,
        )
        return self._ids.get(key) or self._row("outcomes", key)

    def student_version(self, task: str, version: int) -> int:
        """Row of a version of a task."""
        key = (task, version)
        return self._ids.get(key) or self._row("student_versions", key)

    def conversation(self, messages: tuple[Message, ...]) -> str:
        """JSON of the messages: all but the last repeat from call to call and are stored once."""
        turns: list[tuple[str, str | int]] = [
            (message.role, self.text(message.text) or "") for message in messages[:-1]
        ]
        turns += [(message.role, message.text) for message in messages[-1:]]
        return orjson.dumps(turns).decode()

    def _text(self, body: str) -> int:
        ((number,),) = self._connection.execute(
            "INSERT INTO texts (digest, body) VALUES (?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest RETURNING id",
            (_digest(body), body),
        )
        return self._remember_text(body, number)

    def _remember_text(self, body: str, number: int) -> int:
        self._characters += len(body)
        if self._characters > REMEMBERED_CHARACTERS:
            self.forget()
        return self._remember(body, number)

    def _row(self, table: str, values: tuple[Any, ...]) -> int:
        """Find the row that holds these values, or insert it."""
        names = _COLUMNS[table]
        same = " AND ".join(
            f"{name} {'IS NULL' if value is None else '= ?'}"
            for name, value in zip(names, values, strict=True)
        )
        given = [value for value in values if value is not None]
        found = self._connection.execute(f"SELECT id FROM {table} WHERE {same}", given).fetchone()
        if found is not None:
            return self._remember(values, found[0])
        return self._insert(
            values,
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
            "RETURNING id",
            values,
        )

    def _insert(self, key: Hashable, sql: str, values: tuple[Any, ...]) -> int:
        return self._remember(key, self._connection.execute(sql, values).fetchone()[0])

    def _remember(self, key: Hashable, number: int) -> int:
        if len(self._ids) >= REMEMBERED:
            self.forget()
        self._ids[key] = number
        return number


def chunks(keys: list[Any]) -> Iterable[tuple[Any, ...]]:
    """Groups of exactly ASKED_AT_ONCE, the last one filled up with NULLs, which match nothing."""
    for start in range(0, len(keys), ASKED_AT_ONCE):
        some = keys[start : start + ASKED_AT_ONCE]
        yield (*some, *(None,) * (ASKED_AT_ONCE - len(some)))


def _digest(body: str) -> bytes:
    return blake2b(body.encode(), digest_size=16).digest()
