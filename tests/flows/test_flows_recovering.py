from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.errors import StoreError
from stillhouse.core.quotas import Draw
from stillhouse.core.traffic import Attempt, Exchange, Tags, Usage
from stillhouse.core.traffic import Completion as Answer
from stillhouse.core.traffic import Request as Question
from stillhouse.flows.fold import Folder
from stillhouse.flows.fold_making import LiveEntry, Making
from stillhouse.flows.price_facts import facts_of
from stillhouse.flows.recovering import settle, used_by
from stillhouse.ledger.charging import charge
from stillhouse.ledger.prices import Price
from stillhouse.ledger.quotas import drawn
from stillhouse.store.access import Access
from stillhouse.store.journal import JournalWriter
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.store.recording_live import LiveOutcome
from stillhouse.store.sqlite import SqliteStore

PRICE = Price("acme", "m", {"input_tokens": 3 * 10**12, "output_tokens": 5 * 10**12})
MONEY, TOKENS = "team:red:cost:total:hard@0", "team:red:tokens:total:hard@0"
CALLS, AT_ONCE = "team:red:requests:total:hard@0", "team:red:concurrent:now:hard@0"
CLAIMS = (MONEY, TOKENS, CALLS, AT_ONCE)
LIMIT = 10**12


def call(number: int) -> tuple[Started, Ended]:
    """A call of 100 tokens in and 10 out: 350 millionths of a dollar."""
    exchange_id = f"{number:032x}"
    attempt = Attempt(exchange_id, "m", number, usage=Usage(input_tokens=100, output_tokens=10))
    begun = attempt._replace(usage=None)
    started = Started(exchange_id, begun, "chat", "acme", Tags(team="red"), claims=CLAIMS)
    return started, Ended(exchange_id, attempt, charge(attempt, PRICE), Fate.OK, 200)


def booked(number: int) -> LiveEntry:
    started, ended = call(number)
    exchange = Exchange(started.exchange_id, Question(()), Answer(), (ended.attempt,))
    return exchange, ((started, ended),)


COST = 350 * 10**6


def test_a_call_uses_up_of_each_counter_what_the_desk_settles_it_with() -> None:
    assert used_by(*call(1)) == {MONEY: COST, TOKENS: 110, CALLS: 1, AT_ONCE: 0}
    started, ended = call(1)
    unpriced = ended._replace(charges=charge(ended.attempt, None))
    assert used_by(started, unpriced) == {MONEY: 0, TOKENS: 110, CALLS: 1, AT_ONCE: 0}
    assert used_by(started._replace(claims=()), ended) == {}


def test_a_call_that_is_folded_again_is_tallied_once(tmp_path: Path) -> None:
    prices = {PRICE.price_id: facts_of(PRICE)}
    with SqliteStore(tmp_path / "s.db") as store:
        for numbers in ([1, 2], [2, 3], [1, 2, 3]):
            entries = [booked(number) for number in numbers]
            store.add_live(entries, prices, run="r", place=(0, 9), used_by=used_by)
        assert store.tallies("r") == {MONEY: 3 * COST, TOKENS: 330, CALLS: 3, AT_ONCE: 0}
        assert store.tallies("another") == {}


class Dying(Access):
    """Counters whose database is away for a while."""

    away = False

    def recover(self, worker: str, used: Mapping[str, int]) -> bool:
        if self.away:
            raise StoreError("the counters are away")
        return super().recover(worker, used)


@pytest.mark.parametrize("said", [0, 1, 2])
def test_the_leases_of_a_dead_worker_are_settled_by_its_journal(said: int, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal", "w", started_us=1)
    run, journals = writer.run, JournalFolder(tmp_path / "journal")
    for number in (1, 2):
        for entry in call(number):
            writer.append(entry)
    with SqliteStore(tmp_path / "s.db") as store, Dying(tmp_path / "s.db.access") as access:
        lease = Draw(MONEY, LIMIT, asked=10**9, least=1, usual=10**9)
        access.draw(run, 1, 1, [lease], drawn)
        access.draw(run, 2, 2, [Draw(MONEY, LIMIT, used=said * COST)], drawn)
        making = Making(lambda started: Usage(), lambda price_id: PRICE, lambda s, e: _nothing())
        folder = Folder(
            journals, Tallying(store), making, settle=lambda dead: settle(dead, store, access)
        )
        folder.fold_once(3)
        before = access.counters()[MONEY]
        assert (before.spent, before.leased > 0) == (said * COST, True), "it lives"
        writer.close()

        access.away = True
        folder.fold_once(4)
        assert journals.runs() == [run], "what is not settled stays"
        access.away = False
        folder.fold_once(5)
        counters = access.counters()
        assert (counters[MONEY].spent, counters[MONEY].leased) == (2 * COST, 0)
        assert {name: counters[name].spent for name in (TOKENS, CALLS)} == {TOKENS: 220, CALLS: 2}
        assert (access.workers(), store.tallies(run), journals.runs()) == ({}, {}, [])

        assert settle(run, store, access), "again, where it was cut off before its end"
        assert access.counters() == counters


class Tallying:
    """Books that count what calls used up, as the wiring has it."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.fold_place = store.fold_place

    def add_live(
        self,
        entries: Sequence[LiveEntry],
        prices: Mapping[str, str],
        *,
        run: str,
        place: tuple[int, int] | None,
    ) -> LiveOutcome:
        return self._store.add_live(entries, prices, run=run, place=place, used_by=used_by)


def _nothing() -> tuple[Question, Answer]:
    return Question(()), Answer()
