from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stillhouse.core.books import Charge, CostSource
from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.errors import CallerError, StoreError
from stillhouse.core.learning import AnswerShape, Task
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
from stillhouse.store.face import Store
from stillhouse.store.opening import open_store
from stillhouse.store.recording_live import LiveEntry, LiveOutcome, Pair
from stillhouse.store.schema import APPLICATION_ID, MIGRATIONS
from stillhouse.store.sqlite import SqliteStore
from stillhouse.store.sqlite_file import SqliteDatabase

PRICES = {"p1": '{"model": "m"}', "p2": "{}"}
TAGS = Tags("t", "cards", "", "chat", "")


def pair(
    n: int,
    nth: int = 1,
    *,
    pico: int | None = 5,
    fate: Fate = Fate.OK,
    key_id: str = "k1",
    kind: AttemptKind = AttemptKind.TEACHER,
    saved: int = 0,
    model: str = "m",
) -> Pair:
    """What the journal says of one call."""
    name = f"{n:032x}"
    attempt_id = name if nth == 1 else f"{name}-{nth}"
    attempt = Attempt(
        attempt_id,
        model,
        at_us=n,
        kind=kind,
        usage=Usage(3, output_tokens=2),
        ok=fate is Fate.OK,
    )
    charge = Charge(
        f"{attempt_id}:input_tokens",
        attempt_id,
        "input_tokens",
        3,
        "tokens",
        None if pico is None else Paid(pico),
        CostSource.UNPRICED if pico is None else CostSource.COMPUTED,
        Evidence.DERIVED,
        "" if pico is None else "p1",
    )
    started = Started(name, attempt, "chat", "acme", TAGS, key_id, "p1")
    return started, Ended(
        name,
        attempt,
        () if kind is AttemptKind.CACHE else (charge,),
        fate,
        200 if fate is Fate.OK else 0,
        1.5,
        '{"prompt_tokens": 3}',
        avoided_pico=saved,
        basis="m at acme" if saved else "",
    )


def entry(*pairs: Pair, text: str = "question") -> LiveEntry:
    attempts = tuple(ended.attempt for _, ended in pairs)
    request = Request((Message("user", text),))
    exchange = Exchange(pairs[0][0].exchange_id, request, Completion("answer"), attempts, TAGS)
    return exchange, pairs


def keep(store: Store, *entries: LiveEntry, place: tuple[int, int] = (0, 8)) -> LiveOutcome:
    return store.add_live(entries, PRICES, run="run", place=place)


def rows(store: SqliteStore, sql: str) -> list[tuple[object, ...]]:
    return list(store._database.rows(sql))


def spent(store: SqliteStore, by: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for group in store.spend(by):
        found[group.key] = found.get(group.key, 0) + group.billed_pico
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "some.db") as opened:
        yield opened


def test_an_exchange_is_kept_with_all_of_its_attempts_and_what_they_met(store: SqliteStore) -> None:
    whole = entry(pair(1, fate=Fate.TRUNCATED), pair(1, 2, pico=7))
    assert keep(store, whole, place=(2, 99)) == LiveOutcome(1, 0, 0)
    assert list(store.exchanges()) == [whole[0]]
    assert store.fold_place("run") == (2, 99)
    assert store.fold_place("another") is None
    assert rows(
        store,
        "SELECT key_id, upstream, wire, fate, status, price_id, first_byte_ms, usage_body "
        "FROM attempt_facts JOIN outcomes ON outcomes.id = outcome ORDER BY attempt",
    ) == [
        ("k1", "acme", "chat", "truncated", 0, "p1", 1.5, '{"prompt_tokens": 3}'),
        ("k1", "acme", "chat", "ok", 200, "p1", 1.5, '{"prompt_tokens": 3}'),
    ]


def test_the_wire_that_is_kept_is_the_one_the_upstream_was_spoken_to_in(store: SqliteStore) -> None:
    started, ended = pair(1)
    keep(store, entry((started._replace(spoken="messages"), ended)))
    assert rows(store, "SELECT wire FROM outcomes") == [("messages",)]


def test_what_comes_again_changes_nothing_and_what_comes_late_joins_its_exchange(
    store: SqliteStore,
) -> None:
    first, second = pair(1, fate=Fate.DROPPED), pair(1, 2, pico=7)
    assert keep(store, entry(first)) == LiveOutcome(1, 0, 0)
    assert keep(store, entry(first), entry(pair(2))) == LiveOutcome(1, 1, 0)
    assert keep(store, entry(first, second)) == LiveOutcome(0, 1, 1)
    assert keep(store, entry(second), entry(first, second)) == LiveOutcome(0, 2, 0)
    assert keep(store, entry(pair(3)), entry(pair(3), pair(3, 2))) == LiveOutcome(1, 1, 1)
    assert [len(e.attempts) for e in store.exchanges()] == [2, 1, 2]
    for table in ("attempts", "attempt_facts", "charges"):
        assert rows(store, f"SELECT count(*) FROM {table}") == [(5,)]
    assert spent(store, "team") == {"cards": 5 + 7 + 5 + 5 + 5}


def test_spend_is_cut_by_key_upstream_and_fate(store: SqliteStore) -> None:
    keep(
        store,
        entry(pair(1, key_id="ana")),
        entry(pair(2, key_id="bo", pico=11), pair(2, 2, key_id="bo", fate=Fate.CALLER_GONE)),
        entry(pair(3, key_id="ana", pico=None)),
    )
    assert spent(store, "key") == {"ana": 5, "bo": 16}
    assert spent(store, "fate") == {"ok": 16, "caller_gone": 5}
    assert spent(store, "upstream") == {"acme": 21}
    assert sum(group.n_unpriced for group in store.spend("key")) == 1


def test_what_the_cache_answered_is_saved_and_costs_nothing(store: SqliteStore) -> None:
    keep(
        store,
        entry(pair(1)),
        entry(pair(2, kind=AttemptKind.CACHE, saved=5)),
    )
    assert rows(store, "SELECT avoided_pico, basis FROM savings") == [(5, "m at acme")]
    for by in ("key", "model", "team", "fate"):
        assert [(g.n_requests, g.billed_pico) for g in store.spend(by)] == [(1, 5)]


def test_a_row_of_a_task_counts_every_call_and_names_the_model_that_answered(
    store: SqliteStore,
) -> None:
    keep(
        store,
        entry(pair(1, fate=Fate.DROPPED, model="zeta"), pair(1, 2, pico=7, model="beta")),
        entry(pair(2, fate=Fate.DROPPED, pico=None), pair(2, 2)),
        entry(pair(3, kind=AttemptKind.CACHE, saved=5)),
    )
    names = [(f"{n:032x}", "found", "q") for n in (1, 2, 3)]
    store.save_tasks([Task("found", "s", AnswerShape.LABELS, "t")], names)
    found = [(row.model, row.input_tokens, row.billed_pico) for row in store.task_rows("found")]
    assert found == [("beta", 6, 12), ("m", 6, None), ("m", 3, 0)]


@pytest.mark.parametrize("table", ["attempt_facts", "savings"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET attempt = attempt"])
def test_the_past_of_live_calls_cannot_be_edited(
    store: SqliteStore, table: str, change: str
) -> None:
    keep(store, entry(pair(1, kind=AttemptKind.CACHE, saved=5)))
    with (
        pytest.raises(StoreError, match=f"{table} is append-only"),
        store._database.transaction() as connection,
    ):
        connection.execute(change.format(table))


ODD = {
    "a price without facts": entry((pair(9)[0]._replace(price_id="x"), pair(9, pico=None)[1])),
    "a number beyond 64 bits": entry(pair(9, pico=2**70)),
    "a text that is no Unicode": entry(pair(9), text="\ud800"),
    "an id that is none": (replace(entry(pair(9))[0], exchange_id="nine"), (pair(9),)),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_can_never_be_kept_is_told_from_a_database_that_is_down(
    store: SqliteStore, odd: LiveEntry
) -> None:
    with pytest.raises(CallerError, match="cannot be kept"):
        keep(store, entry(pair(1)), odd)
    assert list(store.exchanges()) == []
    assert store.fold_place("run") is None
    assert keep(store, entry(pair(1))).new == 1


def test_a_name_that_postgresqls_indexes_cannot_hold_is_told_from_a_server_that_is_down(
    new_schema: Callable[[], str],
) -> None:
    dense = "".join(chr(33 + byte % 90) for byte in random.Random(7).randbytes(20_000))
    with open_store(new_schema()) as store:
        with pytest.raises(CallerError, match="cannot keep something so long"):
            keep(store, entry(pair(1)), entry(pair(2, model=dense)))
        assert list(store.exchanges()) == []
        assert keep(store, entry(pair(1))).new == 1


def test_a_database_that_is_locked_is_said_and_keeps_nothing(
    store: SqliteStore, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "some.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    list(store._database.rows("PRAGMA busy_timeout = 0"))
    with pytest.raises(StoreError, match="being written by another process"):
        keep(store, entry(pair(1)))
    other.execute("ROLLBACK")
    other.close()
    assert keep(store, entry(pair(1))).new == 1


def test_a_database_of_the_first_release_keeps_its_rows_and_takes_live_ones(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with (
        SqliteDatabase(path, APPLICATION_ID, MIGRATIONS[:2]) as older,
        older.transaction() as connection,
    ):
        for statement in (
            "INSERT INTO tag_sets VALUES (1, '', 'old team', '', '', '')",
            "INSERT INTO routes VALUES (1, 'm', '', 'teacher', '', '', 0, 'reported')",
            f"INSERT INTO exchanges VALUES (1, x'{77:032x}', x'00', 5, 1, '[]', NULL, NULL, "
            "'', '', '', '', NULL)",
            f"INSERT INTO attempts VALUES (1, 1, NULL, 1, 5, 1, NULL, NULL, NULL{', 9' * 12})",
            "INSERT INTO accounts VALUES (1, 'input_tokens', 'tokens', 'USD', 'computed', "
            "'derived', NULL)",
            "INSERT INTO charges VALUES (1, 0, 1, 9, 40, NULL, NULL)",
        ):
            connection.execute(statement)
    with SqliteStore(path) as store:
        keep(store, entry(pair(1)))
        assert [e.exchange_id for e in store.exchanges()] == [f"{1:032x}", f"{77:032x}"]
        assert spent(store, "team") == {"old team": 40, "cards": 5}
        assert spent(store, "key") == {"": 40, "k1": 5}
        assert [(b.fate, b.attempt.attempt_id) for b in store.booked()] == [
            ("", f"{77:032x}"),
            ("ok", f"{1:032x}"),
        ]
