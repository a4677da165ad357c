from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stillhouse.core.books import Job, JobKind, JobStatus
from stillhouse.core.errors import StoreError
from stillhouse.core.learning import AnswerShape, Certificate, Refusal, RefusalReason, Task
from stillhouse.core.money import Paid
from stillhouse.core.serving import PolicyEvent
from stillhouse.core.traffic import Attempt, Completion, Exchange, Message, Request, Usage
from stillhouse.store.sqlite import SqliteStore

LABELS = Task("intents", "sig", AnswerShape.LABELS, "Classify: {}", ("a", "b"), (), tagged=True)
FIELDS = Task("invoices", "other", AnswerShape.FIELDS, "Read: {}", (), ("total", "date"))
JOB = Job("j1", "intents", JobKind.TRAIN, JobStatus.FAILED, 5, 1.5, 2.5, Paid(7), {"why": "nan"})
CERTIFICATE = Certificate(
    "digest", 0.7, 0.05, 0.95, 0.03, 1, 2000, 1500, 40, "e-process", "dataset"
)
REFUSAL = Refusal(RefusalReason.TEACHER_NOISE, "The teacher disagrees.", {"disagreement": 0.26})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "some.db") as opened:
        for n, at_us in ((1, 20), (2, 10), (3, 30)):
            name = f"{n:032x}"
            attempt = Attempt(name, "m", at_us=at_us, usage=Usage(4, output_tokens=2))
            exchange = Exchange(
                name, Request((Message("user", "q"),)), Completion(f"answer {n}"), (attempt,)
            )
            opened.add_batch([(exchange, b"c", ())], {}, fingerprint="log", position=(0, 0))
        yield opened


def test_tasks_and_their_rows_come_back_in_time_order(store: SqliteStore) -> None:
    store.save_tasks([LABELS, FIELDS], [(f"{n:032x}", "intents", f"slot {n}") for n in (1, 2)])
    assert store.tasks() == (LABELS, FIELDS)
    rows = list(store.task_rows("intents"))
    assert [(row.text, row.answer, row.at_us) for row in rows] == [
        ("slot 2", "answer 2", 10),
        ("slot 1", "answer 1", 20),
    ]
    assert (rows[0].model, rows[0].input_tokens, rows[0].output_tokens) == ("m", 4, 2)
    assert [int(e.exchange_id, 16) for e in store.exchanges(task="intents")] == [2, 1]
    assert list(store.task_rows("invoices")) == list(store.task_rows("nowhere")) == []


def test_saving_tasks_replaces_those_that_were_found_before(store: SqliteStore) -> None:
    store.save_tasks([LABELS], [(f"{1:032x}", "intents", "old")])
    store.save_tasks([FIELDS], [(f"{1:032x}", "invoices", "new")])
    assert store.tasks() == (FIELDS,)
    assert [row.text for row in store.task_rows("invoices")] == ["new"]


@pytest.mark.parametrize(
    "row", [(f"{9:032x}", "intents", ""), (f"{1:032x}", "unheard of", "")], ids=["row", "task"]
)
def test_rows_of_nothing_known_replace_nothing(
    store: SqliteStore, row: tuple[str, str, str]
) -> None:
    store.save_tasks([FIELDS], [(f"{1:032x}", "invoices", "kept")])
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        store.save_tasks([LABELS], [row])
    assert [kept.text for kept in store.task_rows("invoices")] == ["kept"]


def test_every_job_is_kept_failed_ones_too(store: SqliteStore) -> None:
    retry = replace(JOB, job_id="j0", status=JobStatus.OK, detail={})
    store.add_job(JOB)
    store.add_job(retry)
    assert store.jobs("intents") == (JOB, retry)
    assert store.jobs("invoices") == ()
    with pytest.raises(StoreError, match="UNIQUE"):
        store.add_job(JOB)


def test_an_artefact_is_found_by_its_content(store: SqliteStore) -> None:
    digest = store.put_student("intents", 1, "lexical", b"weights", 100)
    assert store.put_student("intents", 2, "lexical", b"weights", 200) == digest
    assert store.get_student(digest) == b"weights"
    with pytest.raises(StoreError, match="there is no artefact beef"):
        store.get_artefact("beef")


def test_an_artefact_that_was_tampered_with_is_not_served(store: SqliteStore) -> None:
    digest = store.put_artefact(b"weights")
    with sqlite3.connect(store.path) as other:
        other.execute("DROP TRIGGER artefacts_no_update")
        other.execute("UPDATE artefacts SET body = x'00'")
    other.close()
    with pytest.raises(StoreError, match="does not match its hash"):
        store.get_artefact(digest)


def test_versions_carry_their_student_and_their_last_verdict(store: SqliteStore) -> None:
    digest = store.put_student("intents", 1, "lexical", b"weights", 100)
    store.add_verdict("intents", 1, REFUSAL, 110)
    store.add_verdict("intents", 1, CERTIFICATE, 120)
    store.add_verdict("intents", 2, REFUSAL, 130)
    store.put_student("intents", 3, "constant", b"other", 140)
    found = store.versions("intents")
    assert [(v.version, v.recipe, v.created_us) for v in found] == [
        (1, "lexical", 100),
        (2, "", 130),
        (3, "constant", 140),
    ]
    assert [v.student for v in found][:2] == [digest, ""]
    assert [v.verdict for v in found] == [CERTIFICATE, REFUSAL, None]
    assert store.versions("invoices") == ()


def test_policy_events_are_told_oldest_first(store: SqliteStore) -> None:
    events = [
        PolicyEvent("intents", 1, "promoted", "certified", "ana", 1),
        PolicyEvent("intents", 1, "rolled_back", "drift", "monitor", 2),
    ]
    assert store.policy_number() == 0
    for event in (*events, PolicyEvent("invoices", 1, "retired", "unused", "ana", 3)):
        store.add_policy_event(event)
    told = list(store.policy_events("intents"))
    assert [event._replace(number=0) for event in told] == events
    assert [event.number for event in store.policy_events()] == [1, 2, 3]
    assert store.policy_number() == 3


@pytest.mark.parametrize("table", ["jobs", "artefacts", "students", "verdicts", "policy_events"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid"])
def test_what_was_done_cannot_be_edited(store: SqliteStore, table: str, change: str) -> None:
    store.add_job(JOB)
    store.put_student("intents", 1, "lexical", b"weights", 100)
    store.add_verdict("intents", 1, REFUSAL, 110)
    store.add_policy_event(PolicyEvent("intents", 1, "promoted", "certified", "ana", 1))
    with (
        pytest.raises(StoreError, match=f"{table} is append-only"),
        store._database.transaction() as connection,
    ):
        connection.execute(change.format(table))
