"""What repeats is stored once: long texts, tags, ways of calling a model, accounts of the books."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

import sqlite3
from collections.abc import Hashable
from hashlib import blake2b
from typing import Any

import orjson

from stillhouse.core.books import Charge
from stillhouse.core.traffic import Attempt, Message, Tags

REMEMBERED = 32_768
"""Rows that are remembered between batches, so that memory stays flat."""

REMEMBERED_CHARACTERS = 2**22
"""Length of the texts among them, all together."""


_COLUMNS = {
    "tag_sets": ("task", "team", "customer", "feature", "region"),
    "routes": ("model", "host", "kind", "service_tier", "region", "batch", "evidence"),
    "accounts": ("leaf", "unit", "currency", "cost_source", "evidence", "price_id"),
}


class Interner:
    """Row numbers of repeated things, inserted at first sight; use inside a transaction.

    Row numbers of an undone transaction no longer exist: `forget` after every failure. Enums are
    read by `_value_`: this runs five times a row, and the property costs more than the look-up.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
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

    def conversation(self, messages: tuple[Message, ...]) -> str:
        """JSON of the messages: all but the last repeat from call to call and are stored once."""
        turns: list[tuple[str, str | int]] = [
            (message.role, self.text(message.text) or "") for message in messages[:-1]
        ]
        turns += [(message.role, message.text) for message in messages[-1:]]
        return orjson.dumps(turns).decode()

    def _text(self, body: str) -> int:
        self._characters += len(body)
        if self._characters > REMEMBERED_CHARACTERS:
            self.forget()
        return self._insert(
            body,
            "INSERT INTO texts (digest, body) VALUES (?, ?) "
            "ON CONFLICT (digest) DO UPDATE SET digest = digest RETURNING id",
            (blake2b(body.encode(), digest_size=16).digest(), body),
        )

    def _row(self, table: str, values: tuple[Any, ...]) -> int:
        """Find the row that holds these values, or insert it."""
        names = _COLUMNS[table]
        same = " AND ".join(f"{name} IS ?" for name in names)
        found = self._connection.execute(f"SELECT id FROM {table} WHERE {same}", values).fetchone()
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
