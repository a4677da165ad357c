"""Writing traffic: exchanges with their attempts and charges, each batch whole or not at all."""

# ruff: noqa: S608 (SQL is put together from this room's own words; values are always bound)

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import orjson

from stillhouse.core.books import Charge
from stillhouse.core.traffic import LEAVES, Attempt, Exchange
from stillhouse.store.connection import Connection, Database
from stillhouse.store.interning import HOLES, Interner, chunks

Entry = tuple[Exchange, bytes, tuple[Charge, ...]]
"""An exchange, the digest of its content, the charges of its attempts."""

_leaves = attrgetter(*LEAVES)
_NOTHING_COUNTED = (None,) * len(LEAVES)


def _insert(table: str, width: int) -> str:
    return f"INSERT INTO {table} VALUES ({', '.join('?' * width)})"


@dataclass(frozen=True, slots=True)
class ImportState:
    """How far a log was imported; `position` is the bytes and lines before the place to go on."""

    position: tuple[int, int]
    new: int
    duplicates: int
    finished: bool


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What became of a batch; `conflicts` are places in it whose id is taken by other content."""

    new: int
    duplicates: int
    conflicts: tuple[int, ...]


class Recording:
    """The writing side of the traffic and its books."""

    _database: Database
    _interner: Interner

    def add_batch(
        self,
        entries: Sequence[Entry],
        prices: Mapping[str, str],
        *,
        fingerprint: str,
        position: tuple[int, int],
        occurrences: Mapping[bytes, int] | None = None,
        finished: bool = False,
    ) -> BatchOutcome:
        """Keep a batch and the place in the log after it in one transaction.

        Exchange ids are 32 hexadecimal digits. An exchange that is here already changes nothing;
        one whose id is here with another content digest is not kept and its place is returned.
        `prices` are the facts, as JSON, of every price id among the charges. `occurrences` are
        counts of rows without id and time, kept until the import has `finished`.
        """
        try:
            with self._database.transaction() as connection:
                fresh, duplicates, conflicts = _sift(connection, entries)
                connection.executemany(
                    "INSERT INTO prices VALUES (?, ?) ON CONFLICT (price_id) DO NOTHING",
                    prices.items(),
                )
                self._write(connection, fresh)
                state = (fingerprint, *position, len(fresh), duplicates, finished)
                _check_in(connection, state, occurrences or {})
        except BaseException:
            self._interner.forget()
            raise
        return BatchOutcome(len(fresh), duplicates, tuple(conflicts))

    def import_state(self, fingerprint: str) -> ImportState | None:
        """How far the log with this fingerprint was imported; None if never begun."""
        for offset, line, new, duplicates, finished in self._database.rows(
            "SELECT byte_offset, line, new, duplicates, finished FROM imports "
            "WHERE fingerprint = ?",
            fingerprint,
        ):
            return ImportState((offset, line), new, duplicates, bool(finished))
        return None

    def occurrences(self, fingerprint: str, digests: Iterable[bytes]) -> dict[bytes, int]:
        """How often each digest was counted so far in an unfinished import; absent if never."""
        sql = (
            "SELECT digest, times FROM occurrences JOIN imports ON imports.id = import "
            "WHERE fingerprint = ? AND digest IN "
        )
        return {
            digest: times
            for some in chunks(list(digests))
            for digest, times in self._database.rows(sql + HOLES, fingerprint, *some)
        }

    def _write(
        self,
        connection: Connection,
        fresh: Iterable[tuple[bytes, Entry]],
        late: Iterable[tuple[int, Entry]] = (),
    ) -> dict[str, int]:
        """Turn nouns into rows; row numbers are ours to give, for the write lock is held.

        `late` are attempts of exchanges that have a row already. Returns the rows of the attempts.
        """
        exchange_row, attempt_row = (
            connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
            for table in ("exchanges", "attempts")
        )
        self._interner.learn(
            message.text
            for _, (exchange, _, _) in fresh
            for message in exchange.request.messages[:-1]
        )
        exchanges: list[tuple[Any, ...]] = []
        attempts: list[tuple[Any, ...]] = []
        charges: list[tuple[Any, ...]] = []
        placed: list[tuple[int, Entry]] = []
        for key, entry in fresh:
            exchange_row += 1
            exchanges.append(self._exchange(exchange_row, key, entry[1], entry[0]))
            placed.append((exchange_row, entry))
        places: dict[str, int] = {}
        for row, (exchange, _, charged) in (*placed, *late):
            for attempt in exchange.attempts:
                attempt_row += 1
                places[attempt.attempt_id] = attempt_row
                attempts.append(self._attempt(attempt_row, row, exchange, attempt))
            charges += [
                self._charge(places[charge.attempt_id], place, charge)
                for place, charge in enumerate(charged)
            ]
        for table, rows in (
            ("exchanges", exchanges),
            ("attempts", attempts),
            ("charges", charges),
        ):
            if rows:
                connection.executemany(_insert(table, len(rows[0])), rows)
        return places

    def _exchange(
        self, row: int, key: bytes, content: bytes, exchange: Exchange
    ) -> tuple[Any, ...]:
        request, completion = exchange.request, exchange.completion
        text = self._interner.text
        return (
            row,
            key,
            content,
            exchange.at_us,
            self._interner.tags(exchange.tags),
            self._interner.conversation(request.messages),
            text(orjson.dumps(request.tools).decode()) if request.tools else None,
            text(request.response_format),
            completion.text,
            completion.tool,
            completion.tool_arguments,
            completion.finish,
            orjson.dumps(exchange.extra).decode() if exchange.extra else None,
        )

    def _attempt(
        self, row: int, exchange_row: int, exchange: Exchange, attempt: Attempt
    ) -> tuple[Any, ...]:
        cost = attempt.reported_cost
        return (
            row,
            exchange_row,
            attempt.attempt_id if attempt.attempt_id != exchange.exchange_id else None,
            self._interner.route(attempt),
            attempt.at_us,
            attempt.ok,
            attempt.latency_ms,
            cost.pico if cost is not None else None,
            cost.currency if cost is not None else None,
            *(_leaves(attempt.usage) if attempt.usage is not None else _NOTHING_COUNTED),
        )

    def _charge(self, attempt_row: int, place: int, charge: Charge) -> tuple[Any, ...]:
        usual = charge.charge_id == f"{charge.attempt_id}:{charge.leaf}"
        return (
            attempt_row,
            place,
            self._interner.account(charge),
            charge.quantity,
            charge.billed.pico if charge.billed is not None else None,
            None if usual else charge.charge_id,
            charge.reverses or None,
        )


def contents(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """The content digests of those exchanges that are here already."""
    known: dict[bytes, bytes] = {}
    for some in chunks(list(keys)):
        known.update(
            connection.execute(
                f"SELECT exchange_id, content FROM exchanges WHERE exchange_id IN {HOLES}", some
            )
        )
    return known


def _sift(
    connection: Connection, entries: Sequence[Entry]
) -> tuple[list[tuple[bytes, Entry]], int, list[int]]:
    """Part a batch into what is new, how many are here already, places with a taken id."""
    keys = [bytes.fromhex(entry[0].exchange_id) for entry in entries]
    known = contents(connection, keys)
    fresh: list[tuple[bytes, Entry]] = []
    conflicts: list[int] = []
    duplicates = 0
    for place, (key, entry) in enumerate(zip(keys, entries, strict=True)):
        content = known.get(key)
        if content is None:
            known[key] = entry[1]
            fresh.append((key, entry))
        elif content == entry[1]:
            duplicates += 1
        else:
            conflicts.append(place)
    return fresh, duplicates, conflicts


def _check_in(
    connection: Connection,
    state: tuple[str, int, int, int, int, bool],
    occurrences: Mapping[bytes, int],
) -> None:
    """Keep the place in the log; a finished log that is read again starts its counts anew."""
    row, finished = connection.execute(
        """
        INSERT INTO imports (fingerprint, byte_offset, line, new, duplicates, finished)
        VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (fingerprint) DO UPDATE SET
            byte_offset = excluded.byte_offset,
            line = excluded.line,
            new = iif(imports.finished = 1, 0, imports.new) + excluded.new,
            duplicates = iif(imports.finished = 1, 0, imports.duplicates) + excluded.duplicates,
            finished = excluded.finished
        RETURNING id, finished
        """,
        state,
    ).fetchone()
    if finished:
        connection.execute("DELETE FROM occurrences WHERE import = ?", (row,))
        return
    connection.executemany(
        "INSERT INTO occurrences VALUES (?, ?, ?) "
        "ON CONFLICT (import, digest) DO UPDATE SET times = excluded.times",
        ((row, digest, times) for digest, times in occurrences.items()),
    )
