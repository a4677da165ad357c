"""What every store must do with the work on tasks, with live traffic, and with the past."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from stillhouse.core.books import Job, JobKind, JobStatus
from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.learning import AnswerShape, Certificate, Refusal, RefusalReason, Task
from stillhouse.core.money import Paid
from stillhouse.core.serving import Change, Evidence, PolicyEvent
from stillhouse.core.traffic import AttemptKind, Tags
from stillhouse.testing.store_entries import (
    PRICES,
    Opener,
    an_entry,
    count,
    keep,
    numbers,
    refused,
)
from stillhouse.testing.store_serving import CHARTER, consulted, fold

_APPEND_ONLY = {
    "exchanges": "answer",
    "attempts": "ok",
    "prices": "facts",
    "charges": "quantity",
    "jobs": "task",
    "artefacts": "body",
    "students": "recipe",
    "verdicts": "verdict",
    "policy_events": "why",
    "charters": "charter",
    "consultations": "label",
    "evidence": "taught",
}
"""Tables, each with a column that somebody might wish to change."""


def check_workshop(opened: Opener) -> None:
    """Tasks, jobs, students, verdicts and events come back as they went in."""
    task = Task("intents", "sig", AnswerShape.LABELS, "Classify\0: {}", ("a", "b"), tagged=True)
    other = Task("invoices", "two", AnswerShape.FIELDS, "Read: {}", (), ("total", "date"))
    job = Job("j1", "intents", JobKind.TRAIN, JobStatus.FAILED, 5, 0.1, 2.5, Paid(7), {"why": "n"})
    proven = Certificate("digest", 0.7, 0.05, 0.95, 0.03, 1, 200, 150, 4, "e-process", "data")
    refusal = Refusal(RefusalReason.TEACHER_NOISE, "The teacher disagrees.", {"share": 0.26})
    events = [
        PolicyEvent("intents", 1, Change.PROMOTED, "certified", "ana", 1, {"threshold": 0.7}),
        PolicyEvent("intents", 1, Change.ROLLED_BACK, "drift\0", "monitor", 2),
    ]
    weights = bytes(range(256)) * 4000
    with opened() as store:
        keep(store, [an_entry(n, at_us=-n) for n in (1, 2, 3)])
        store.save_tasks([other], [(f"{3:032x}", "invoices", "old")])
        unheard = [(f"{9:032x}", "intents", "")]
        refused(lambda: store.save_tasks([task], unheard), "a row of an exchange that is not here")
        assert store.tasks() == (other,)
        store.save_tasks([task, other], ((f"{n:032x}", "intents", f"\0{n}") for n in (1, 2)))
        retry = replace(job, job_id="j0", status=JobStatus.OK, detail={})
        store.add_job(job)
        store.add_job(retry)
        refused(lambda: store.add_job(job), "a job id that is taken")
        digest = store.put_student("intents", 1, "lexical", weights, 100)
        assert store.put_student("intents", 4, "lexical", weights, 105) == digest
        store.add_verdict("intents", 1, refusal, 110)
        store.add_verdict("intents", 1, proven, 120)
        store.add_verdict("intents", 2, refusal, 130)
        kept = [event._replace(number=store.add_policy_event(event)) for event in events]
        refused(lambda: store.get_artefact("beef"), "an artefact that is not here")
    with opened() as store:
        assert store.tasks() == (task, other)
        rows = list(store.task_rows("intents"))
        assert [(row.text, row.at_us, row.billed_pico) for row in rows] == [
            ("\0002", -2, 5),
            ("\0001", -1, 5),
        ]
        assert (rows[0].model, rows[0].input_tokens, rows[0].output_tokens) == ("m", 10, 2)
        assert numbers(store.exchanges(task="intents")) == [2, 1]
        assert {group.key for group in store.spend("task")} == {"intents", ""}
        assert store.jobs("intents") == (job, retry)
        assert store.get_student(digest) == weights
        versions = store.versions("intents")
        assert [(v.version, v.recipe, v.student, v.created_us) for v in versions] == [
            (1, "lexical", digest, 100),
            (2, "", "", 130),
            (4, "lexical", digest, 105),
        ]
        assert [v.verdict for v in versions] == [proven, refusal, None]
        assert store.verdict("intents", 1) == proven
        assert (store.verdict("intents", 2), store.verdict("intents", 3)) == (refusal, None)
        assert list(store.policy_events("intents")) == list(store.policy_events()) == kept


def check_live(opened: Opener) -> None:
    """A journal is folded once however often it is read; an attempt that comes late is added."""
    exchange, _, charges = an_entry(1, at_us=5)
    first = exchange.attempts[0]
    second = first._replace(attempt_id=f"{first.attempt_id}-2", kind=AttemptKind.RETRY, at_us=6)
    charge = charges[0]._replace(
        attempt_id=second.attempt_id, charge_id=f"{second.attempt_id}:input_tokens"
    )
    pairs = [
        (
            Started(first.attempt_id, attempt, "chat", "up", Tags(), price_id="p1"),
            Ended(first.attempt_id, attempt, (booked,), fate, 200, 1.5, '{"n":1}'),
        )
        for attempt, booked, fate in (
            (first, charges[0], Fate.TRUNCATED),
            (second, charge, Fate.OK),
        )
    ]

    def fold(store: Any, attempts: int, segment: int) -> tuple[int, int, int]:
        entry = replace(exchange, attempts=(first, second)[:attempts]), tuple(pairs[:attempts])
        outcome = store.add_live([entry], PRICES, run="r", place=(segment, 9))
        return outcome.new, outcome.duplicates, outcome.late

    with opened() as store:
        assert store.fold_place("r") is None
        assert fold(store, 1, 1) == (1, 0, 0)
        assert fold(store, 1, 2) == (0, 1, 0)
        assert fold(store, 2, 3) == (0, 1, 1)
    with opened() as store:
        assert fold(store, 2, 4) == (0, 1, 0)
        assert store.fold_place("r") == (4, 9)
        (found,) = store.exchanges()
        assert found.attempts == (first, second), f"the attempts came back as {found.attempts}"
        booked = list(store.booked())
        assert [row.charges for row in booked] == [charges, (charge,)]
        assert [(row.fate, row.status, row.price_id) for row in booked] == [
            ("truncated", 200, "p1"),
            ("ok", 200, "p1"),
        ]
        assert (store.n_attempts(), list(store.strays())) == (2, [])


def check_append_only(opened: Opener) -> None:
    """What was booked or done can be neither changed nor deleted."""
    with opened() as store:
        keep(store, [an_entry(1)])
        store.add_job(Job("j", "t", JobKind.TRAIN, JobStatus.OK, 1, 1.0, 1.0, Paid(1)))
        store.put_student("t", 1, "lexical", b"weights", 1)
        store.add_verdict("t", 1, Refusal(RefusalReason.ONE_LABEL, "One label."), 1)
        store.add_policy_event(PolicyEvent("t", 1, Change.PROMOTED, "why", "who", 1))
        store.put_charter(CHARTER)
        row = Evidence(f"{1:032x}", 1, 0.5, "a", "b", served=False)
        store.keep_watch("w", 1, {("t", 1): [row]})
        fold(store, consulted(2))
        for table, column in _APPEND_ONLY.items():
            rows = count(store, table)
            for change in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = {column}"):  # noqa: S608
                sentence = refused(partial(_run, store, change), change)
                assert f"{table} is append-only" in sentence, sentence
            assert count(store, table) == rows > 0


def _run(store: Any, sql: str) -> None:
    with store.database.transaction() as connection:
        connection.execute(sql)
