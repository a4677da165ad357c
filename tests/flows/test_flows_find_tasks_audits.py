"""With students at work the books hold their answers too; nobody takes these for a teacher's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stillhouse.cli.workroom import answered_rows, traffic_facts
from stillhouse.core.traffic import AttemptKind, Completion, Message, Request
from stillhouse.distillation.recognition import Recogniser
from stillhouse.flows.find_tasks import find_tasks
from stillhouse.store.sqlite import SqliteStore
from stillhouse.testing.store_entries import an_entry, keep

SORT = "Sort the customer's mail for the shop. Answer with one word: refund, repair or track."
THINGS = ("lamp", "kettle", "iron", "oven", "fan", "hob", "mixer", "dryer")


def entry(n: int, kind: AttemptKind, about: int = -1) -> Any:
    """A request; an audit asks again what another one asked."""
    exchange, content, charges = an_entry(n, at_us=n)
    asked = about if about >= 0 else n
    text = f"The {THINGS[asked % 8]} and the {THINGS[asked // 8 % 8]} came {'late ' * (asked % 5)}"
    request = Request((Message("system", SORT), Message("user", text)))
    said = "wrong" if kind is AttemptKind.STUDENT else ("refund", "repair", "track")[asked % 3]
    attempts = (exchange.attempts[0]._replace(kind=kind, model=kind.value),)
    made = replace(exchange, request=request, completion=Completion(said), attempts=attempts)
    return made, content, charges


@pytest.fixture
def books(tmp_path: Path) -> Iterator[SqliteStore]:
    """Sixty requests, the last twenty answered by a student, five of these audited."""
    with SqliteStore(tmp_path / "books.db") as store:
        keep(store, [entry(n, AttemptKind.TEACHER) for n in range(40)])
        keep(store, [entry(n, AttemptKind.STUDENT) for n in range(40, 60)], line=1)
        audits = [entry(n + 20, AttemptKind.SHADOW, about=n) for n in range(40, 45)]
        keep(store, audits, line=2)
        yield store


def test_rows_are_what_teachers_said_audits_included_and_requests_count_once(
    books: SqliteStore,
) -> None:
    (found,) = find_tasks(books, [], lambda share, what: None).tasks
    name = found.profile.task.name
    assert (found.profile.volume, found.profile.teachers) == (60, {"shadow": 5, "teacher": 40})
    rows = answered_rows(books, name)
    assert [int(row.row_id, 16) for row in rows] == [*range(40), *range(60, 65)]
    assert {row.answer for row in rows} == {"refund", "repair", "track"}


def test_the_recogniser_is_kept_and_a_charter_speaks_of_teachers_alone(books: SqliteStore) -> None:
    (found,) = find_tasks(books, [], lambda share, what: None).tasks
    name = found.profile.task.name
    digest = books.recogniser()
    recogniser = Recogniser.read(books.get_artefact(digest))
    facts = traffic_facts(books, name)
    hits = [recogniser.find(one.request) for one in books.exchanges()]
    assert {hit and (hit.task, hit.prompt) for hit in hits} == {(name, facts.prompts[0])}
    assert (facts.recogniser, facts.teachers) == (digest, ("teacher", "shadow"))
