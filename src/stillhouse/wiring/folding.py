"""What stands behind the folder process: journals into the books, whatever befalls the books."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import StoreError
from stillhouse.core.traffic import Completion, Request, Usage
from stillhouse.dialects.assemble import assemble
from stillhouse.dialects.decision_reading import chosen
from stillhouse.dialects.prompt import text_asked
from stillhouse.flows.fold import Folder, fold_forever
from stillhouse.flows.fold_making import Making
from stillhouse.flows.recovering import settle, used_by
from stillhouse.ledger.estimate import estimated_usage
from stillhouse.providers.tokens import ShapeCounter
from stillhouse.settings.nouns import Settings
from stillhouse.settings.reading import unpack
from stillhouse.settings.starting import database_of
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.store.opening import open_store
from stillhouse.wiring import SystemClock, price_book
from stillhouse.wiring.books import access_of
from stillhouse.wiring.upstreams import (
    DECISIONS,
    DIALECTS,
    free_hosts,
    read_completion,
    read_request,
)


def fold(payload: bytes, ended: Callable[[float], bool]) -> None:
    """Fold until `ended` says so; see flows.fold."""
    settings = unpack(payload)
    folder, journals = folder_of(settings, os.environ)
    clock = SystemClock()
    leases = access_of(database_of(settings, os.environ))
    kept_us = round(settings.journal.keep_days * _DAY_US)
    next_us = 0

    def wait(seconds: float) -> bool:
        """Put away what has had its time, once an hour, and wait."""
        nonlocal next_us
        now_us = clock.now_us()
        if now_us >= next_us:
            next_us = now_us + _HOUR_US
            with suppress(StoreError):  # in an hour, then
                leases.forget(now_us)
                journals.forget_folded(now_us - kept_us)
        return ended(seconds)

    fold_forever(folder, journals, now_us=clock.now_us, wait=wait)


def folder_of(settings: Settings, env: Mapping[str, str]) -> tuple[Folder, JournalFolder]:
    """The folder of an endpoint's journals into its books."""
    journals = JournalFolder(Path(settings.journal.folder))
    own = Path(settings.books.prices) if settings.books.prices else None
    book = price_book(own, SystemClock().now_us(), free_hosts(settings.catalogue))
    making = Making(estimated, book.by_id, bodies)
    database = database_of(settings, env)
    books = LateStore(database)
    keep = settings.journal.keep_days > 0
    leases = access_of(database)
    folder = Folder(
        journals,
        books,
        making,
        keep_segments=keep,
        settle=lambda run: settle(run, books, leases),
    )
    return folder, journals


class LateStore:
    """The store, opened when it is first needed and again after it was away."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._store: Any = None

    def _opened(self) -> Any:
        if self._store is None:
            self._store = open_store(self._place)
        return self._store

    def fold_place(self, run: str) -> Any:
        """How far a worker's journal has been folded."""
        return self._opened().fold_place(run)

    def add_live(self, *args: Any, **named: Any) -> Any:
        """Keep a batch of live exchanges, and what they used up of quotas."""
        return self._opened().add_live(*args, used_by=used_by, **named)

    def tallies(self, run: str) -> dict[str, int]:
        """What a run's folded calls used up of each counter."""
        found: dict[str, int] = self._opened().tallies(run)
        return found

    def drop_tallies(self, run: str) -> None:
        """Forget a run that is settled."""
        self._opened().drop_tallies(run)


def estimated(started: Started) -> Usage:
    """What a call that nobody heard of again is taken to have used."""
    text = text_asked(started.asked.encode(), Wire(started.wire)) if started.asked else None
    return estimated_usage(
        Fate.INTERRUPTED,
        0,
        text,
        started.asked_bytes,
        None,
        started.expected_output_tokens,
        _COUNTER,
    )


def bodies(started: Started, ended: Ended) -> tuple[Request, Completion]:
    """The conversation that was asked and the answer that was given, as far as they were kept."""
    asked, answered = Wire(started.wire), Wire(started.spoken or started.wire)
    request, completion = Request(()), Completion()
    if started.asked.startswith("{") and (asked in DIALECTS or asked in DECISIONS):
        request = read_request(started.asked.encode(), asked)
    if answered in DECISIONS and request.messages and ended.answer.startswith("{"):
        return request, chosen(started.asked.encode(), ended.answer.encode())
    if answered not in DIALECTS:  # no conversation: what was asked and answered stays out
        return request, completion
    if ended.answer.startswith(_BODIES) and ended.attempt.ok:
        body = ended.answer.encode()
        completion = read_completion(assemble(body, answered) if ended.streamed else body, answered)
    return request, completion


_COUNTER = ShapeCounter()
_BODIES = ("{", "data:", "event:", ":")
"""How an answer begins that was kept in full; a hash begins otherwise."""

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
