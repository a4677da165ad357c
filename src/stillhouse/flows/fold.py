"""The story of folding: journals become books, every attempt once, whatever dies on the way.

A run is one life of one worker, with a journal of its own. Exchanges are booked once their last
entry is read, together with the place up to which the run is folded. What is read again after a
crash is known by its id and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

from stillhouse.core.calls import Ended, Entry, Started
from stillhouse.core.errors import CallerError, StoreError
from stillhouse.flows.fold_making import LiveEntry, Making
from stillhouse.flows.fold_ports import Books, Journals, Place, Reader

A_BATCH = 1_000
"""Exchanges kept in one transaction."""

A_ROUND = 20_000
"""Entries read of one run before the others have their turn."""

PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(slots=True)
class Totals:
    """What was done since the folding began: exchanges, but for `interrupted` attempts."""

    new: int = 0
    duplicates: int = 0
    interrupted: int = 0
    unreadable: int = 0
    set_aside: int = 0
    torn_bytes: int = 0


class Status(NamedTuple):
    """How far the folding is.

    `lag_seconds` is the age of the oldest exchange that is ended and not in the books, 0 for none;
    `lag_bytes` is what the journals hold beyond the books, calls under way included. `open` counts
    exchanges under way.
    """

    at_us: int
    lag_seconds: float
    lag_bytes: int
    open: int
    totals: Totals
    damaged: tuple[str, ...]
    error: str = ""


@dataclass(slots=True)
class _Held:
    """An exchange under way: its attempts' entries, in the order of their beginnings."""

    place: Place
    calls: dict[str, tuple[Started | None, Ended | None]] = field(default_factory=dict)
    closed: bool = False

    @property
    def whole(self) -> bool:
        return self.closed and all(ended is not None for _, ended in self.calls.values())

    @property
    def told_again(self) -> bool:
        """Whether it is a line of a batch's results, cut off between two words of the journal.

        Nothing went upstream with it, and whoever fetches the results again tells it whole.
        """
        return all(begun is not None and begun.attempt.batch for begun, _ in self.calls.values())


@dataclass(slots=True)
class _Tail:
    """How far a run is read: `ready` exchanges are not in the books yet."""

    run: str
    reader: Reader
    saved: Place | None
    open: dict[str, _Held] = field(default_factory=dict)
    ready: list[LiveEntry] = field(default_factory=list)
    exhausted: bool = True
    reached_us: int = 0
    cleared: int = 0

    @property
    def place(self) -> Place:
        """Where reading has to begin again: at the oldest exchange under way."""
        oldest = next(iter(self.open.values()), None)
        return oldest.place if oldest is not None else self.reader.place

    @property
    def booked(self) -> Place:
        """Everything before this place is in the books."""
        return (self.saved or (0, 0)) if self.ready else self.place

    def take(self, place: Place, entry: Entry) -> _Held | None:
        """Put an entry with the others of its exchange; the exchange, once it is whole."""
        held = self.open.get(entry.exchange_id)
        if held is None:
            held = self.open[entry.exchange_id] = _Held(place)
        attempt_id = entry.attempt.attempt_id
        started, ended = held.calls.get(attempt_id, (None, None))
        if isinstance(entry, Started):
            held.calls[attempt_id] = (started or entry, ended)
            self.reached_us = entry.attempt.at_us or self.reached_us
        else:
            held.calls[attempt_id] = (started, ended or entry)
            held.closed |= entry.last
        if not held.whole:
            return None
        del self.open[entry.exchange_id]
        return held


class Folder:
    """Folds the journals of all workers; what a failed step has read is kept for the next one.

    `settle` is told of every run that is dead and folded; where it says False it is told again.
    """

    def __init__(
        self,
        journals: Journals,
        books: Books,
        making: Making,
        *,
        keep_segments: bool = False,
        settle: Callable[[str], bool] = lambda run: True,
    ) -> None:
        self._journals, self._books, self._making = journals, books, making
        self._keep, self._settle = keep_segments, settle
        self._tails: dict[str, _Tail] = {}
        self._damaged: list[str] = []
        self._failing_since_us: int | None = None
        self.totals = Totals()

    def fold_once(self, now_us: int) -> Status:
        """Bring into the books what the journals hold now, and say so in their folder.

        Raises StoreError where the books or the journals cannot be used; then calling again goes
        on, and nothing is lost or doubled.
        """
        for run in self._journals.runs():
            tail = self._tails.get(run)
            if tail is None:
                saved = self._books.fold_place(run)
                reader = self._journals.read(run, saved or (0, 0))
                tail = self._tails[run] = _Tail(run, reader, saved)
            self._fold(tail)
        self._failing_since_us = None
        status = self.status(now_us)
        self._note(status)
        return status

    def failed(self, now_us: int, error: str) -> Status:
        """Say that a step failed, as far as the folder can be written."""
        if self._failing_since_us is None:
            self._failing_since_us = now_us
        status = self.status(now_us, error)
        with suppress(StoreError):
            self._note(status)
        return status

    def status(self, now_us: int, error: str = "") -> Status:
        """How far the folding is."""
        lags = [0.0]
        n_bytes = 0
        with suppress(StoreError):
            for run in self._journals.runs():
                tail = self._tails.get(run)
                after = tail.booked if tail is not None else (0, 0)
                n_bytes += self._journals.unread_bytes(run, after)
        for tail in self._tails.values():
            if tail.ready:
                lags.append((now_us - (tail.ready[0][0].at_us or now_us)) / 1e6)
            elif not tail.exhausted:
                lags.append((now_us - (tail.reached_us or now_us)) / 1e6)
        if n_bytes and self._failing_since_us is not None:
            lags.append((now_us - self._failing_since_us) / 1e6)
        n_open = sum(len(tail.open) for tail in self._tails.values())
        return Status(
            now_us, max(lags), n_bytes, n_open, replace(self.totals), tuple(self._damaged), error
        )

    def _note(self, status: Status) -> None:
        self._journals.note({**status._asdict(), "totals": asdict(status.totals)})

    def _fold(self, tail: _Tail) -> None:
        """Read a run as far as it goes, or as far as its turn goes."""
        self._commit(tail)
        ended = not self._journals.alive(tail.run)  # asked first: then what is read next is all
        tail.exhausted = False
        n_damaged = len(tail.reader.damaged)
        for n_read, (place, entry) in enumerate(tail.reader, 1):
            held = tail.take(place, entry)
            if held is not None:
                tail.ready.append(self._made(tail, held))
                if len(tail.ready) >= A_BATCH:
                    self._commit(tail)
            if n_read == A_ROUND:
                break
        else:
            tail.exhausted = True
        self._damaged += tail.reader.damaged[n_damaged:]
        if tail.exhausted and ended:
            self._end(tail)
            return
        self._commit(tail)
        if tail.place[0] > tail.cleared:
            self._put_away(tail, tail.place[0])
            tail.cleared = tail.place[0]

    def _end(self, tail: _Tail) -> None:
        """Close a run whose writer is dead: what is under way will never be heard of again."""
        for held in tail.open.values():
            if not held.told_again:
                tail.ready.append(self._made(tail, held))
        tail.open.clear()
        self._commit(tail)
        if not self._settle(tail.run):
            return
        self.totals.torn_bytes += tail.reader.torn_bytes
        self._put_away(tail, None)
        del self._tails[tail.run]

    def _put_away(self, tail: _Tail, before: int | None) -> None:
        self._journals.put_away(tail.run, before, keep=self._keep, hurt=tail.reader.hurt)

    def _commit(self, tail: _Tail) -> None:
        place = tail.place
        turned_over = tail.saved is None or place[0] != tail.saved[0]
        if tail.ready or (turned_over and place[0]):
            self._book(tail, tail.ready, place)
            tail.ready, tail.saved = [], place

    def _book(self, tail: _Tail, entries: Sequence[LiveEntry], place: Place | None) -> None:
        """Keep a batch; one exchange that can never be kept must not hold up the others."""
        prices = self._prices(tail, entries)
        try:
            outcome = self._books.add_live(entries, prices, run=tail.run, place=place)
        except CallerError as fault:
            if not entries:
                raise StoreError(str(fault)) from fault
            if len(entries) == 1:
                ((_, pairs),) = entries
                self._journals.set_aside(tail.run, str(fault), [e for pair in pairs for e in pair])
                self.totals.set_aside += 1
                self._book(tail, (), place)
                return
            half = len(entries) // 2
            self._book(tail, entries[:half], None)
            self._book(tail, entries[half:], place)
            return
        self.totals.new += outcome.new
        self.totals.duplicates += outcome.duplicates

    def _prices(self, tail: _Tail, entries: Sequence[LiveEntry]) -> dict[str, str]:
        """The facts of every price that a batch names."""
        ids = {
            price_id
            for _, pairs in entries
            for started, ended in pairs
            for price_id in (started.price_id, *(c.price_id for c in ended.charges))
            if price_id
        }
        known = tail.reader.prices
        return {price_id: self._making.facts(price_id, known) for price_id in ids}

    def _made(self, tail: _Tail, held: _Held) -> LiveEntry:
        made = self._making.exchange(list(held.calls.values()), tail.reader.prices)
        self.totals.interrupted += made.interrupted
        self.totals.unreadable += made.unreadable
        return made.entry


def fold_forever(
    folder: Folder,
    journals: Journals,
    *,
    now_us: Callable[[], int],
    wait: Callable[[float], bool],
    pause_seconds: float = PAUSE_SECONDS,
) -> None:
    """Fold again and again until `wait`, which is given seconds, says to stop; then once more.

    While the books or the journals cannot be used, or another process folds, it asks again at ever
    longer intervals, up to half a minute.
    """
    again = pause_seconds
    stop = False
    while not stop:
        try:
            with journals.folding():
                while not stop:
                    folder.fold_once(now_us())
                    again = pause_seconds
                    stop = wait(pause_seconds)
                folder.fold_once(now_us())
        except StoreError as fault:
            folder.failed(now_us(), str(fault))
            stop = stop or wait(again)
            again = min(2 * max(again, 1.0), LONGEST_PAUSE_SECONDS)
