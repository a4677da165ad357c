"""Audits: the teacher is asked again, unheard, once each, and within its budget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.catalogue import Deployment, Route
from stillhouse.core.quotas import Denied
from stillhouse.core.serving import SHADOW_KEY
from stillhouse.core.traffic import AttemptKind
from stillhouse.flows.shadowing import LEASE_US, WAITS_US, Audited, audit
from stillhouse.store.sqlite import SqliteStore
from stillhouse.testing.student_traffic import LiveEntry, a_note, ask, fold, name, served

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi you"}]}


@pytest.fixture
def books(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "books.db") as store:
        yield store


@pytest.fixture
def stage(stage: Any) -> Any:
    stage.add_route(Route("m", (Deployment("a", "m"),), max_attempts=1, fallbacks=("other",)))
    stage.add_route(Route("other", (Deployment("b", "m"),)))
    return stage


def waiting(n: int, body: dict[str, Any] | None = None, tag: str = "desk") -> LiveEntry:
    """An answer of a student that the coin has picked."""
    one = ask(n, 0.9, wrong=False)
    exchange, ((started, ended),) = served(one, a_note(one, "student"), tag=tag)
    asked = json.dumps(body or CHAT)
    return exchange, ((started._replace(asked=asked, asked_bytes=len(asked)), ended),)


def run(stage: Any, books: SqliteStore, limit: int = 16, at_once: int = 1) -> Audited:
    return asyncio.run(audit(stage.house, books, limit, at_once))


def begun(stage: Any) -> list[Started]:
    return [entry for entry in stage.journal.entries if isinstance(entry, Started)]


def tries(books: SqliteStore) -> list[int]:
    return [call.tries for call in books.waiting_shadows(10, 2**62)]


def test_the_teacher_is_asked_once_as_the_caller_asked_and_the_audit_names_its_exchange(
    stage: Any, books: SqliteStore
) -> None:
    fold(books, [waiting(1), waiting(2, tag="")])
    assert run(stage, books) == Audited(2, held_up=False)
    assert run(stage, books) == Audited(0, held_up=False)
    assert [json.loads(call.body) for call in stage.a.calls] == [CHAT, CHAT]
    first, second = begun(stage)
    assert first.consultation is not None
    assert (first.consultation.about, first.consultation.coin) == (name(1), True)
    assert (first.attempt.kind, first.key_id) == (AttemptKind.SHADOW, SHADOW_KEY)
    assert (first.tags.task, second.tags.task) == ("desk", ""), "as the caller tagged it"
    assert first.exchange_id != second.exchange_id
    assert books.shadows_waiting() == (0, 0)
    stage.check_books()


def test_an_audit_takes_no_fallback_and_no_answer_that_is_remembered(
    stage: Any, books: SqliteStore
) -> None:
    route = stage.house.catalogue.routes["m"]
    stage.add_route(Route("m", route.deployments, cache_seconds=60, hedge_after_seconds=0.0))
    fold(books, [waiting(1), waiting(2)])
    assert run(stage, books).asked == 2
    assert len(stage.a.calls) == 2, "the same body twice, and both were sent"
    stage.add_route(route)
    stage.a.script = [stage.failure(Fate.CONNECT_TIMEOUT)]
    fold(books, [waiting(3)])
    assert run(stage, books) == Audited(0, held_up=True)
    assert stage.b.calls == []


def test_a_stream_is_asked_again_as_a_stream(stage: Any, books: SqliteStore) -> None:
    stage.a.script = [stage.stream_of(*stage.events_of("Yes"))]
    fold(books, [waiting(1, {**CHAT, "stream": True})])
    assert run(stage, books).asked == 1
    (ended,) = [entry for entry in stage.journal.entries if isinstance(entry, Ended)]
    assert (ended.streamed, ended.fate) == (True, Fate.OK)
    assert "Yes" in ended.answer
    assert ended.answer.startswith("data: ")


def test_failures_wait_longer_each_time_and_an_audit_is_given_up_in_the_end(
    stage: Any, books: SqliteStore
) -> None:
    stage.a.script = [stage.refusal(500)]
    fold(books, [waiting(1)])
    waits, now_us = [], stage.house.now_us
    while books.shadows_waiting()[0]:
        before = now_us()
        found = run(stage, books)
        if not found.held_up:
            break
        stage.house.health = type(stage.house.health)()
        while not books.waiting_shadows(1, now_us()):
            stage.now += 1
        waits.append(round((now_us() - before) / 1e6))
    seconds = [wait // 10**6 for wait in WAITS_US]
    assert waits == [*seconds, *seconds[-1:] * (8 - len(seconds))]
    assert books.shadows_waiting() == (0, 0)
    assert len({started.exchange_id for started in begun(stage)}) == 8, "each try has its own id"


def test_a_teacher_that_asks_for_patience_gets_it(stage: Any, books: SqliteStore) -> None:
    stage.a.script = [stage.refusal(429, (b"retry-after", b"90"))]
    fold(books, [waiting(1), waiting(2)])
    began = stage.house.now_us()
    assert run(stage, books) == Audited(0, held_up=True)
    assert len(stage.a.calls) == 1, "the next one was not even tried"
    assert tries(books) == [1, 0]
    (second,) = books.waiting_shadows(10, began + 89 * 10**6)
    assert second.exchange_id == name(2)
    assert len(books.waiting_shadows(10, began + 91 * 10**6)) == 2


def test_a_budget_that_is_used_up_holds_audits_up_and_uses_up_no_tries(
    stage: Any, books: SqliteStore
) -> None:
    denied = Denied(None, "the budget of students is used up", 3600.0)
    stage.desk.denies = dict.fromkeys(range(20), denied)
    fold(books, [waiting(1)])
    for _ in range(20):
        began = stage.house.now_us()
        assert run(stage, books) == Audited(0, held_up=True)
        assert not books.waiting_shadows(1, began + 3599 * 10**6)
        stage.now += 3700
    assert tries(books) == [0]
    assert begun(stage) == []
    assert run(stage, books) == Audited(1, held_up=False)


def test_a_call_whose_process_died_is_made_again_after_its_lease(
    stage: Any, books: SqliteStore
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    stage.a.script = [stage.answer_of()._replace(waiting=[die]), stage.answer_of()]
    fold(books, [waiting(1)])
    with pytest.raises(KeyboardInterrupt):
        run(stage, books)
    assert run(stage, books) == Audited(0, held_up=False), "it is leased"
    stage.now += LEASE_US / 1e6 + 1
    assert run(stage, books) == Audited(1, held_up=False)
    first, second = begun(stage)
    assert first.exchange_id != second.exchange_id
    assert books.shadows_waiting() == (0, 0)


def test_what_cannot_be_put_any_more_counts_as_done(stage: Any, books: SqliteStore) -> None:
    fold(books, [waiting(1, {"model": "gone", "messages": CHAT["messages"]})])
    assert run(stage, books) == Audited(1, held_up=False)
    assert books.shadows_waiting() == (0, 0)
    assert stage.a.calls == []


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_the_teacher_would_never_answer_holds_up_no_other(
    stage: Any, books: SqliteStore, status: int
) -> None:
    stage.a.script = [stage.refusal(status), stage.answer_of()]
    fold(books, [waiting(1), waiting(2)])
    assert run(stage, books) == Audited(2, held_up=False)
    assert len(stage.a.calls) == 2
    assert books.shadows_waiting() == (0, 0)
    (figures,) = books.serving_figures("desk")
    assert (figures.shadows_done, figures.shadows_given_up) == (1, 1)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_may_be_our_own_fault_is_tried_again(
    stage: Any, books: SqliteStore, status: int
) -> None:
    stage.a.script = [stage.refusal(status)]
    fold(books, [waiting(1)])
    assert run(stage, books) == Audited(0, held_up=True)
    assert books.shadows_waiting()[0] == 1


def test_only_so_many_are_under_way_at_a_time(stage: Any, books: SqliteStore) -> None:
    under_way: list[int] = []
    now = [0]

    def begin() -> None:
        now[0] += 1
        under_way.append(now[0])

    async def linger() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        now[0] -= 1

    stage.a.script = [stage.answer_of()._replace(waiting=[begin, linger])]
    fold(books, map(waiting, range(1, 12)))
    assert run(stage, books, limit=10, at_once=3) == Audited(10, held_up=False)
    assert max(under_way) == 3
    assert books.shadows_waiting()[0] == 1
