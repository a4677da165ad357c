from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.calls import Ended, Started
from stillhouse.core.learning import AnswerShape, Task
from stillhouse.core.serving import Change, Consultation, Evidence, PolicyEvent
from stillhouse.core.traffic import AttemptKind, Message, Request
from stillhouse.store.face import Store
from stillhouse.store.journal import JournalWriter
from stillhouse.store.journal_frames import Frame, Kind, decoded
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.store.opening import open_store
from stillhouse.store.reading import MOST_CHARACTERS
from stillhouse.store.recording_live import LiveEntry
from stillhouse.store.schema import APPLICATION_ID, MIGRATIONS
from stillhouse.store.serving_watch import MOST_TRIES
from stillhouse.store.sqlite import SqliteStore
from stillhouse.store.sqlite_file import SqliteDatabase
from stillhouse.testing.store_entries import an_entry, count, keep
from stillhouse.testing.store_serving import (
    CHARTER,
    CONSULTATION,
    a_body,
    consulted,
    fold,
    name,
)

BEFORE = MIGRATIONS[:4]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "some.db")
    made: str = request.getfixturevalue("new_schema")()
    return made


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with open_store(place) as opened:
        yield opened


def older(place: str) -> Any:
    """A database that has seen the first four scripts."""
    if not place.startswith("postgresql"):
        return SqliteDatabase(Path(place), APPLICATION_ID, BEFORE)
    from stillhouse.store.postgres_address import read_address
    from stillhouse.store.postgres_server import PostgresDatabase

    return PostgresDatabase(read_address(place), BEFORE)


def test_a_database_of_the_fourth_script_keeps_its_rows_and_takes_students(place: str) -> None:
    database = older(place)
    with database.transaction() as connection:
        for statement in (
            "INSERT INTO policy_events (task, version, event, why, who, at_us) "
            "VALUES ('t', 1, 'promoted', 'why', 'ana', 7)",
            "INSERT INTO tasks (name, task) VALUES ('t', '{}')",
            "INSERT INTO artefacts VALUES ('d', 'body')"
            if place.startswith("postgresql")
            else "INSERT INTO artefacts VALUES ('d', x'00')",
            "INSERT INTO students VALUES ('t', 1, 'lexical', 'd', 5)",
        ):
            connection.execute(statement)
    database.close()
    with open_store(place) as store:
        kept = PolicyEvent("t", 1, "promoted", "why", "ana", 7, {}, 1)
        assert list(store.policy_events()) == [kept]
        assert store.recogniser() == ""
        assert store.add_policy_event(kept._replace(event=Change.PAUSED), expected=1) == 2
        assert fold(store, consulted(1)) == (1, 0, 0)
        store.put_charter(CHARTER)
        assert [call.exchange_id for call in store.waiting_shadows(9, 0)] == [name(1)]
        assert [version.student for version in store.versions("t")] == ["d"]


DIES = """
import os, signal, sys
from stillhouse.core.serving import Evidence
from stillhouse.store.opening import open_store
from stillhouse.testing.store_serving import consulted, fold, name

def dying():
    yield name(1), "t", "slot"
    os.kill(os.getpid(), signal.SIGKILL)

with open_store(sys.argv[1]) as store:
    if sys.argv[2] == "watch":
        row = Evidence(name(1), 1, 0.5, "a", "b", True)
        store.keep_watch("w", 1, {("t", 1): [row]}, dying())
    written = store._write_live
    def write(connection, entries):
        written(connection, entries)
        os.kill(os.getpid(), signal.SIGKILL)
    store._write_live = write
    fold(store, consulted(1), consulted(2))
"""


def die(place: str, at: str) -> None:
    dead = subprocess.run([sys.executable, "-c", DIES, place, at], capture_output=True, check=False)
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()


def test_a_folder_killed_before_its_commit_leaves_nothing_and_the_next_books_all_once(
    place: str, store: Store
) -> None:
    die(place, "fold")
    for table in ("exchanges", "consultations", "shadow_calls", "student_versions", "folds"):
        assert count(store, table) == 0
    for _ in range(2):
        fold(store, consulted(1), consulted(2))
    assert count(store, "consultations") == count(store, "shadow_calls") == 2


def test_a_watch_killed_before_its_commit_leaves_neither_evidence_nor_place(
    place: str, store: Store
) -> None:
    fold(store, consulted(1))
    store.save_tasks([Task("t", "sig", AnswerShape.LABELS, "t")], [])
    die(place, "watch")
    assert (list(store.evidence("t", 1)), store.watch_place("w")) == ([], 0)
    row = Evidence(name(1), 1, 0.5, "a", "b", served=True)
    store.keep_watch("w", 1, {("t", 1): [row]}, [(name(1), "t", "slot")])
    assert [kept._replace(number=0) for kept in store.evidence("t", 1)] == [row]
    assert (store.watch_place("w"), count(store, "task_rows")) == (1, 1)


CASES: tuple[LiveEntry, ...] = (
    consulted(0),
    consulted(1, CONSULTATION._replace(coin=False)),
    consulted(2, CONSULTATION._replace(answerer="teacher"), kind=AttemptKind.TEACHER),
    consulted(3, None, kind=AttemptKind.TEACHER),
    consulted(4, CONSULTATION._replace(task="u", version=3)),
    consulted(5, kept=""),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, len(CASES) - 1), max_size=8), max_size=8))
def test_any_folding_of_the_same_exchanges_gives_the_same_consultations(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]
) -> None:
    folded = {n for batch in batches for n in batch}
    with SqliteStore(tmp_path_factory.mktemp("fold") / "some.db") as store:
        for batch in batches:
            fold(store, *(CASES[n] for n in batch))
        found = {
            int(watched.exchange.exchange_id, 16): watched.consultation
            for watched in store.watched(0, 99)
        }
        assert found == {n: CASES[n][1][0][0].consultation for n in folded}
        waiting = [int(call.exchange_id, 16) for call in store.waiting_shadows(99, 0)]
        assert sorted(waiting) == sorted(folded & {0, 4})


def test_a_watch_that_tails_the_books_misses_nothing_that_several_processes_write(
    place: str, store: Store
) -> None:
    def import_them(first: int) -> None:
        with open_store(place) as other:
            for n in range(first, first + 200, 10):
                keep(other, [an_entry(m) for m in range(n, n + 10)])

    def fold_them(first: int) -> None:
        with open_store(place) as other:
            for n in range(first, first + 200, 5):
                fold(other, *(consulted(m) for m in range(n, n + 5)))

    seen: list[int] = []
    after = 0
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(import_them, 1000), pool.submit(import_them, 2000)]
        writers.append(pool.submit(fold_them, 3000))
        while True:
            ended = all(writer.done() for writer in writers)
            found = store.watched(after, 37)
            if found:
                after = found[-1].number
                seen += [int(watched.exchange.exchange_id, 16) for watched in found]
            elif ended:
                break
        for writer in writers:
            writer.result()
    assert sorted(seen) == [*range(1000, 1200), *range(2000, 2200), *range(3000, 3200)]


def test_a_place_may_lie_behind_more_than_one_reading_ahead(store: Store) -> None:
    fold(store, *(consulted(n) for n in range(1, 1300)))
    assert count(store, "consultations") == count(store, "shadow_calls") == 1299
    found = store.watched(600, 700)
    assert [watched.consultation for watched in found] == [CONSULTATION] * 699
    assert [watched.exchange.request.messages[-1].text for watched in found][:2] == [
        "text 601",
        "text 602",
    ]


@pytest.mark.parametrize("place_of_text", [0, -1], ids=["stored once", "in its row"])
def test_however_long_texts_are_few_of_them_are_held_at_a_time(
    tmp_path: Path, place_of_text: int
) -> None:
    size = MOST_CHARACTERS // 3

    def long(n: int) -> LiveEntry:
        exchange, attempts = consulted(n, kept="")
        turns = [Message("system", "short"), Message("user", "short")]
        turns[place_of_text] = Message("user", f"{n}".ljust(size, "x"))
        return replace(exchange, request=Request(tuple(turns))), attempts

    with SqliteStore(tmp_path / "long.db") as store:
        for n in range(1, 6):
            fold(store, long(n))
        place, seen = 0, []
        while found := store.watched(place, 500):
            place = found[-1].number
            seen.append([len(one.exchange.request.messages[place_of_text].text) for one in found])
        assert [row for part in seen for row in part] == [size] * 5
        assert max(map(len, seen)) <= 3
        texts = [one.request.messages[place_of_text].text[0] for one in store.exchanges()]
        assert texts == list("12345")


def test_an_audit_that_is_refused_is_given_up_once(store: Store) -> None:
    fold(store, consulted(1))
    store.shadow_refused(name(1))
    store.shadow_refused(name(1))
    assert count(store, "shadow_calls") == 0
    assert [figures.shadows_given_up for figures in store.serving_figures("t")] == [1]


def test_an_audit_is_tried_so_often_and_given_up_with_its_body(store: Store) -> None:
    fold(store, consulted(1))
    assert [store.shadow_failed(name(1), 0) for _ in range(MOST_TRIES + 1)] == [
        *[True] * MOST_TRIES,
        False,
    ]
    assert count(store, "shadow_calls") == 0
    assert [figures.shadows_given_up for figures in store.serving_figures("t")] == [1]


def test_an_audit_of_an_exchange_that_is_not_here_is_nothing(store: Store) -> None:
    store.shadow_done(name(7))
    store.shadow_later(name(7), 1)
    assert not store.shadow_failed(name(7), 0)
    assert count(store, "shadow_tallies") == 0


def test_scores_that_are_no_numbers_or_endless_do_not_hold_up_the_books(store: Store) -> None:
    endless = CONSULTATION._replace(score=float("-inf"), threshold=float("inf"))
    fold(store, consulted(1, endless), consulted(2, endless._replace(score=float("nan"))))
    first, second = (watched.consultation for watched in store.watched(0, 9))
    assert first == endless
    assert second is not None
    assert not second.score >= second.threshold


def test_a_body_that_was_changed_to_the_same_length_names_no_model(store: Store) -> None:
    hashed = "x" * len(a_body(1))
    fold(store, consulted(1, kept=hashed))
    assert store.waiting_shadows(9, 0) == []
    assert count(store, "consultations") == 1


TEXTS = st.text(max_size=20)
CONSULTATIONS = st.builds(
    Consultation,
    TEXTS,
    st.integers(0, 2**31),
    TEXTS,
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
    st.sampled_from(["student", "teacher"]),
    st.booleans(),
    TEXTS,
    st.sampled_from(["", name(9)]),
    TEXTS,
    TEXTS,
)


@given(CONSULTATIONS)
def test_a_journal_gives_back_what_a_student_was_asked(consultation: Consultation) -> None:
    started = consulted(1, consultation)[1][0][0]
    payload = msgspec.msgpack.encode(started)
    assert decoded(Frame(0, 0, Kind.STARTED, payload)) == started


def test_a_journal_from_before_there_were_students_is_read() -> None:
    started = consulted(1)[1][0][0]
    payload = msgspec.msgpack.encode(msgspec.structs.astuple(started)[:-1])
    assert decoded(Frame(0, 0, Kind.STARTED, payload)) == started._replace(consultation=None)


def test_what_the_journal_says_of_a_consultation_comes_through_a_segment(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path, "w0", started_us=1, durability="process")
    written: list[Started | Ended] = [*consulted(1)[1][0], *consulted(2, None)[1][0]]
    for entry in written:
        journal.append(entry)
    journal.close()
    folder = JournalFolder(tmp_path)
    read = [entry for run in folder.runs() for _, entry in folder.read(run, (0, 0))]
    assert read == written


def test_a_charter_with_figures_of_an_array_is_kept(store: Store) -> None:
    np = pytest.importorskip("numpy")
    scores = tuple(np.array([0.25, 1 / 3]))
    store.put_charter(replace(CHARTER, scores=scores))
    assert store.charter("t", 1) == CHARTER
