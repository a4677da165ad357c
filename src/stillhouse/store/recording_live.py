"""Writing live traffic: what journals say, each attempt once however often it is read."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from stillhouse.core.calls import Ended, Started
from stillhouse.core.errors import CallerError, StoreError
from stillhouse.core.traffic import Exchange
from stillhouse.store.connection import Connection
from stillhouse.store.recording import Entry, Recording, contents
from stillhouse.store.serving_live import add_consultations
from stillhouse.store.tallies import add_tallies

Pair = tuple[Started, Ended]
LiveEntry = tuple[Exchange, tuple[Pair, ...]]
"""An exchange, and the journal's two entries for each of its attempts, in the same order."""

UsedBy = Callable[[Started, Ended], Mapping[str, int]]
"""How much a call used up of each quota counter."""

LIVE_CONTENT = b"live"
"""Stands for the digest of a live exchange: its id alone tells it apart, for we gave it."""

_DATA_FAULTS = ("IntegrityError", "DataError", "ProgramLimitExceeded")
"""What database drivers call a row that they can never take; the last is PostgreSQL's, for an index
that holds no text so long."""


class LiveOutcome(NamedTuple):
    """What became of a batch: new exchanges, those that were here, attempts added to the latter."""

    new: int
    duplicates: int
    late: int


class RecordingLive(Recording):
    """The writing side of live traffic."""

    _durable = False

    def add_live(
        self,
        entries: Sequence[LiveEntry],
        prices: Mapping[str, str],
        *,
        run: str,
        place: tuple[int, int] | None,
        used_by: UsedBy | None = None,
    ) -> LiveOutcome:
        """Keep exchanges, and how far the journal of a run is folded, in one transaction.

        An attempt that is here already changes nothing; one that is not joins its exchange.
        `prices` are the facts, as JSON, of every price id that is named. Without a `place` the old
        one stays. `used_by` says what a call used up of quota counters: what new calls did is added
        to the tallies of the run. What a student was asked is kept with its exchange, and so is
        what the teacher has still to be asked. Once this returns it survives a power cut. Raises
        StoreError where the database cannot be used now, CallerError where an entry can never be
        kept.
        """
        self._make_durable()
        try:
            with _faults_of_the_data(), self._database.transaction() as connection:
                connection.executemany(
                    "INSERT INTO prices VALUES (?, ?) ON CONFLICT (price_id) DO NOTHING",
                    prices.items(),
                )
                outcome, new = self._write_live(connection, entries)
                if used_by is not None:
                    add_tallies(connection, run, _sums(used_by, new))
                if place is not None:
                    connection.execute(_FOLDED, (run, *place, outcome.new))
        except BaseException:
            self._interner.forget()
            raise
        return outcome

    def fold_place(self, run: str) -> tuple[int, int] | None:
        """How far the journal of a run is folded: its segment and the bytes before."""
        for segment, offset in self._database.rows(
            "SELECT segment, byte_offset FROM folds WHERE run = ?", run
        ):
            return segment, offset
        return None

    def _make_durable(self) -> None:
        """A journal is removed after the commit, so the commit must be on the disk.

        SQLite's write-ahead log forgets the last transactions in a power cut unless told so.
        """
        connection = self._database.connection
        if not self._durable and isinstance(connection, sqlite3.Connection):
            list(self._database.rows("PRAGMA synchronous = FULL"))
        self._durable = True

    def _write_live(
        self, connection: Connection, entries: Sequence[LiveEntry]
    ) -> tuple[LiveOutcome, list[Pair]]:
        """Write what is new of some exchanges, and say what that is."""
        keys = [bytes.fromhex(exchange.exchange_id) for exchange, _ in entries]
        here = contents(connection, keys)
        fresh: list[tuple[bytes, Entry]] = []
        again: list[tuple[bytes, LiveEntry]] = []
        pairs: list[Pair] = []
        for key, entry in zip(keys, entries, strict=True):
            if key in here:
                again.append((key, entry))
            else:
                here[key] = LIVE_CONTENT
                fresh.append((key, _entry(entry)))
                pairs += entry[1]
        rows = self._write(connection, fresh)
        for key, entry in again:
            late, of_late = self._add_late(connection, key, entry)
            rows |= late
            pairs += of_late
        self._write_facts(connection, pairs, rows)
        add_consultations(connection, self._interner, pairs, rows)
        return LiveOutcome(len(fresh), len(again), len(rows) - _attempts(fresh)), pairs

    def _add_late(
        self, connection: Connection, key: bytes, entry: LiveEntry
    ) -> tuple[dict[str, int], list[Pair]]:
        """Add to an exchange the attempts that it lacks."""
        exchange, pairs = entry
        (row,) = connection.execute(
            "SELECT id FROM exchanges WHERE exchange_id = ?", (key,)
        ).fetchone()
        known = {
            attempt_id or exchange.exchange_id
            for (attempt_id,) in connection.execute(
                "SELECT attempt_id FROM attempts WHERE exchange = ?", (row,)
            )
        }
        lacking = [pair for pair in pairs if pair[1].attempt.attempt_id not in known]
        if not lacking:
            return {}, []
        attempts = tuple(ended.attempt for _, ended in lacking)
        rest = _entry((replace(exchange, attempts=attempts), tuple(lacking)))
        return self._write(connection, (), [(row, rest)]), lacking

    def _write_facts(
        self, connection: Connection, pairs: Sequence[Pair], rows: Mapping[str, int]
    ) -> None:
        facts: list[tuple[Any, ...]] = []
        savings: list[tuple[Any, ...]] = []
        for started, ended in pairs:
            row = rows[ended.attempt.attempt_id]
            facts.append(
                (
                    row,
                    self._interner.outcome(started, ended),
                    charged_by(started, ended) or None,
                    ended.first_byte_ms,
                    ended.usage_body or None,
                    ended.error or None,
                )
            )
            if ended.basis or ended.avoided_pico:
                savings.append((row, ended.avoided_pico, ended.basis))
        if facts:
            connection.executemany("INSERT INTO attempt_facts VALUES (?, ?, ?, ?, ?, ?)", facts)
        if savings:
            connection.executemany("INSERT INTO savings VALUES (?, ?, ?)", savings)


def _sums(used_by: UsedBy, pairs: Sequence[Pair]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for started, ended in pairs:
        if started.claims:
            sums.update(used_by(started, ended))
    return sums


def charged_by(started: Started, ended: Ended) -> str:
    """The id of the price that a call was charged by, else of the one it was expected to be."""
    return next((c.price_id for c in ended.charges if c.price_id), started.price_id)


def _entry(entry: LiveEntry) -> Entry:
    exchange, pairs = entry
    return exchange, LIVE_CONTENT, tuple(c for _, ended in pairs for c in ended.charges)


def _attempts(fresh: Sequence[tuple[bytes, Entry]]) -> int:
    return sum(len(exchange.attempts) for _, (exchange, _, _) in fresh)


@contextmanager
def _faults_of_the_data() -> Iterator[None]:
    """Tell a row that can never be kept from a database that cannot be used now."""
    try:
        yield
    except (UnicodeError, OverflowError, TypeError, ValueError, KeyError) as error:
        raise CallerError(f"an exchange of the journal cannot be kept: {error}") from error
    except StoreError as error:
        kinds = {kind.__name__ for kind in type(error.__cause__).__mro__}
        if kinds.isdisjoint((*_DATA_FAULTS, "OverflowError")):
            raise
        raise CallerError(f"an exchange of the journal cannot be kept: {error}") from error


_FOLDED = """
INSERT INTO folds (run, segment, byte_offset, exchanges) VALUES (?, ?, ?, ?)
ON CONFLICT (run) DO UPDATE SET
    segment = excluded.segment,
    byte_offset = excluded.byte_offset,
    exchanges = folds.exchanges + excluded.exchanges
"""
