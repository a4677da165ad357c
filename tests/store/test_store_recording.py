from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.books import Charge, CostSource
from stillhouse.core.errors import StoreError
from stillhouse.core.money import Paid
from stillhouse.core.traffic import (
    Attempt,
    AttemptKind,
    Completion,
    Evidence,
    Exchange,
    Message,
    Request,
    Tags,
    Usage,
)
from stillhouse.store.recording import BatchOutcome, Entry
from stillhouse.store.sqlite import SqliteStore

PRICES = {"p1": '{"model": "m"}'}
SYSTEM = "Answer with one label. " * 20


def entry(
    n: int,
    *,
    content: bytes = b"",
    at_us: int | None = 0,
    asked: str = "hello",
    model: str = "m",
    tags: Tags | None = None,
    billed: int | None = 5,
    reported: int | None = None,
) -> Entry:
    name = f"{n:032x}"
    attempt = Attempt(
        name,
        model,
        at_us=at_us,
        usage=Usage(input_tokens=10, output_tokens=2),
        reported_cost=None if reported is None else Paid(reported),
    )
    charge = Charge(
        charge_id=f"{name}:input_tokens",
        attempt_id=name,
        leaf="input_tokens",
        quantity=10,
        unit="tokens",
        billed=None if billed is None else Paid(billed),
        cost_source=CostSource.UNPRICED if billed is None else CostSource.COMPUTED,
        evidence=Evidence.REPORTED if billed is None else Evidence.DERIVED,
        price_id="" if billed is None else "p1",
    )
    request = Request((Message("system", SYSTEM), Message("user", asked)))
    exchange = Exchange(name, request, Completion("label"), (attempt,), tags or Tags())
    return exchange, content or n.to_bytes(4, "big"), (charge,)


def keep(store: SqliteStore, entries: Sequence[Entry], line: int = 0) -> BatchOutcome:
    return store.add_batch(entries, PRICES, fingerprint="log", position=(10 * line, line))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "some.db") as opened:
        yield opened


def priced_at(given_entry: Entry, price_id: str) -> Entry:
    exchange, content, (charge,) = given_entry
    return exchange, content, (charge._replace(price_id=price_id),)


def count(store: SqliteStore, table: str) -> int:
    ((rows,),) = store._database.rows(f"SELECT count(*) FROM {table}")
    return int(rows)


def test_an_exchange_comes_back_as_it_went_in(store: SqliteStore) -> None:
    name = f"{77:032x}"
    rich = Exchange(
        name,
        Request(
            (Message("system", SYSTEM), Message("user", "a\0b"), Message("assistant", "")),
            tools=("refund", "ask"),
            response_format='{"type": "json_object"}',
        ),
        Completion("é漢", "refund", '{"n": 1}', "tool_calls"),
        (
            Attempt(name, "m", at_us=5, usage=None, ok=False),
            Attempt(
                f"{name}-2",
                "n",
                at_us=6,
                host="azure",
                kind=AttemptKind.RETRY,
                usage=Usage(*range(1, 13)),
                latency_ms=1.5,
                reported_cost=Paid(7, "EUR"),
                service_tier="flex",
                batch=True,
                region="eu",
                evidence=Evidence.ESTIMATED,
            ),
        ),
        Tags("t", "team", "c", "f", "eu"),
        {"note": "kept"},
    )
    keep(store, [(rich, b"c", ())])
    assert list(store.exchanges()) == [rich]


def test_a_long_text_that_repeats_is_stored_once(store: SqliteStore) -> None:
    keep(store, [entry(n, asked=f"question {n}") for n in range(50)])
    assert count(store, "texts") == 1
    texts = [e.request.messages[0].text for e in store.exchanges()]
    assert texts == [SYSTEM] * 50
    assert len(set(map(id, texts))) == 1


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=6))
def test_the_books_hold_each_exchange_once_however_often_it_comes(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]
) -> None:
    with SqliteStore(tmp_path_factory.mktemp("store") / "some.db") as fresh:
        outcomes = [keep(fresh, [entry(n) for n in batch]) for batch in batches]
        wanted = {n for batch in batches for n in batch}
        assert sum(outcome.new for outcome in outcomes) == len(wanted)
        assert sum(outcome.duplicates for outcome in outcomes) == (
            sum(map(len, batches)) - len(wanted)
        )
        assert {int(e.exchange_id, 16) for e in fresh.exchanges()} == wanted
        assert count(fresh, "charges") == count(fresh, "attempts") == len(wanted)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two batches"])
def test_the_same_id_with_other_content_is_reported_and_not_kept(
    store: SqliteStore, together: bool
) -> None:
    first, other = entry(1, content=b"one", asked="one"), entry(1, content=b"two", asked="two")
    if together:
        assert keep(store, [first, first, other]) == BatchOutcome(1, 1, (2,))
    else:
        keep(store, [first])
        assert keep(store, [entry(2), other]) == BatchOutcome(1, 0, (1,))
    asked = {e.request.messages[-1].text for e in store.exchanges()}
    assert "one" in asked
    assert "two" not in asked


def test_a_batch_that_fails_leaves_neither_rows_nor_place(store: SqliteStore) -> None:
    keep(store, [entry(1)], line=1)
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        keep(store, [entry(2), priced_at(entry(3), "unknown")], line=3)
    assert [int(e.exchange_id, 16) for e in store.exchanges()] == [1]
    state = store.import_state("log")
    assert state is not None
    assert (state.position, state.new) == ((10, 1), 1)


def test_a_full_disk_undoes_the_batch_and_says_so(store: SqliteStore) -> None:
    keep(store, [entry(1)], line=1)
    ((pages,),) = store._database.rows("PRAGMA page_count")
    list(store._database.rows(f"PRAGMA max_page_count = {pages + 2}"))
    many = [entry(n, asked="long " * 200, model=f"model {n}") for n in range(2, 200)]
    with pytest.raises(StoreError, match=r"no room left .* free some disk space") as failure:
        keep(store, many, line=199)
    assert "\n" not in str(failure.value)
    assert count(store, "exchanges") == count(store, "charges") == count(store, "routes") == 1
    list(store._database.rows("PRAGMA max_page_count = 1000000"))
    assert keep(store, many, line=199).new == 198
    assert {e.attempts[0].model for e in store.exchanges()} == {
        "m",
        *(f"model {n}" for n in range(2, 200)),
    }


@pytest.mark.parametrize("table", ["charges", "exchanges", "attempts", "prices"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid"])
def test_the_past_cannot_be_edited(store: SqliteStore, table: str, change: str) -> None:
    keep(store, [entry(1)])
    if table == "charges":
        change = change.replace("rowid", "quantity")
    with (
        pytest.raises(StoreError, match=f"{table} is append-only; a correction is a new row"),
        store._database.transaction() as connection,
    ):
        connection.execute(change.format(table))


def test_rows_without_id_and_time_are_counted_until_the_import_ends(store: SqliteStore) -> None:
    def after(counts: dict[bytes, int], finished: bool = False) -> dict[bytes, int]:
        store.add_batch(
            [], {}, fingerprint="log", position=(0, 0), occurrences=counts, finished=finished
        )
        return store.occurrences("log", [b"a", b"b", *(bytes([n]) for n in range(200))])

    assert after({b"a": 1}) == {b"a": 1}
    assert after({b"a": 3, b"b": 1}) == {b"a": 3, b"b": 1}
    assert store.occurrences("another log", [b"a"]) == {}
    assert after({}, finished=True) == {}


def test_a_finished_log_that_is_read_again_counts_anew(store: SqliteStore) -> None:
    for _ in range(2):
        keep(store, [entry(1)], line=1)
        store.add_batch([], {}, fingerprint="log", position=(10, 1), finished=True)
    state = store.import_state("log")
    assert state is not None
    assert (state.new, state.duplicates, state.finished) == (0, 1, True)


def test_exchanges_come_in_time_order_and_through_filters(store: SqliteStore) -> None:
    times = {1: 30, 2: 10, 3: None, 4: 20, 5: 10}
    keep(store, [entry(n, at_us=at, model=f"m{n % 2}") for n, at in times.items()])

    def found(**wanted: object) -> list[int]:
        return [int(e.exchange_id, 16) for e in store.exchanges(**wanted)]  # type: ignore[arg-type]

    assert found() == [3, 2, 5, 4, 1]
    assert found(model="m1") == [3, 5, 1]
    assert found(since_us=20) == [4, 1]
    assert found(until_us=20) == [2, 5]
    assert found(since_us=10, until_us=30, model="m0") == [2, 4]


def test_exchanges_can_be_read_more_than_once(store: SqliteStore) -> None:
    found = store.exchanges()
    assert list(found) == []
    keep(store, [entry(1), entry(2)])
    assert list(found) == list(found)
    assert len(list(found)) == 2


def test_a_price_id_can_always_be_explained(store: SqliteStore) -> None:
    keep(store, [entry(1)])
    assert list(store._database.rows("SELECT * FROM prices")) == [("p1", PRICES["p1"])]
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        keep(store, [priced_at(entry(2), "unknown")])


def test_the_view_of_the_books_reads_as_people_do(store: SqliteStore) -> None:
    keep(store, [entry(1, at_us=1_750_000_000_000_000, billed=2 * 10**12)])
    assert list(
        store._database.rows("SELECT at_utc, model, leaf, billed, currency, price_id FROM books")
    ) == [("2025-06-15 15:06:40", "m", "input_tokens", 2.0, "USD", "p1")]
