from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from stillhouse.core.calls import Done, Fate
from stillhouse.core.catalogue import Recorded, Wire
from stillhouse.core.traffic import AttemptKind, Evidence, Tags, Usage

if TYPE_CHECKING:
    from tests.flows.conftest import Stage

COST = 600_000_000
PLAIN: Mapping[str, object] = {"temperature": 0}
HIT = (b"x-stillhouse-cache", b"hit")


async def ask(
    stage: Stage,
    number: int,
    body: Mapping[str, object] | None = None,
    *,
    own_team: str = "",
    seconds: int = 60,
    **terms: Any,
) -> Done:
    stage.new_reader()
    terms.setdefault("cache_seconds", seconds)
    asked = stage.asked(number=number, body={**PLAIN, **(body or {})}, **terms)
    return await stage.answer(asked._replace(own_team=own_team))


def test_a_hit_costs_nothing_and_what_it_avoided_is_kept_apart(stage: Stage) -> None:
    async def story() -> None:
        await ask(stage, 1)
        bought = stage.reader.body
        done = await ask(stage, 2)
        assert stage.a.tried == 1
        assert stage.reader.body == bought
        assert HIT in stage.reader.headers
        assert (b"content-length", b"%d" % len(bought)) in stage.reader.headers
        assert (done.cached, done.cost_pico, done.status) == (True, 0, 200)

    asyncio.run(story())
    hit = stage.journal.ended[1]
    assert (hit.charges, hit.avoided_pico, hit.fate, hit.last) == ((), COST, Fate.OK, True)
    assert hit.basis == "what m at acme charged for the answer when it was bought"
    assert (hit.attempt.kind, hit.attempt.usage) == (AttemptKind.CACHE, Usage())
    assert hit.attempt.evidence is Evidence.DERIVED
    assert stage.journal.started[1].asked
    assert stage.desk.settled == [("hold 0", COST, 120)]
    stage.check_books()


def test_a_hit_is_in_the_journal_before_it_is_given(stage: Stage) -> None:
    async def story() -> None:
        stage.journal.slow = True
        await ask(stage, 1)
        stage.notes.clear()
        await ask(stage, 2)

    asyncio.run(story())
    assert [note.partition(" ")[0] for note in stage.notes] == ["started", "ended", "whole"]


def test_a_saving_of_what_had_no_price_is_none(stage: Stage) -> None:
    async def story() -> None:
        stage.a.script = [stage.answer_of(model="unheard-of")]
        body = {"model": "unheard-of"}
        await ask(stage, 1, body, allow_unpriced=True)
        await ask(stage, 2, body, allow_unpriced=True)

    asyncio.run(story())
    hit = stage.journal.ended[1]
    assert (hit.avoided_pico, hit.basis) == (0, "the answer was unpriced when it was bought")


@pytest.mark.parametrize(
    ("body", "seconds"),
    [({"temperature": 0.1}, 60), ({"temperature": None}, 60), ({}, 0)],
    ids=["warm", "unsaid", "not opted in"],
)
def test_only_what_would_be_the_same_again_is_remembered_and_only_where_it_is_wanted(
    stage: Stage, body: Mapping[str, object], seconds: int
) -> None:
    async def story() -> None:
        await ask(stage, 1, body, seconds=seconds)
        done = await ask(stage, 2, body, seconds=seconds)
        assert (stage.a.tried, done.cached) == (2, False)

    asyncio.run(story())


def test_embeddings_are_always_the_same(stage: Stage) -> None:
    async def story() -> None:
        lists = stage.upstreams["lists"]
        for number in (1, 2):
            stage.new_reader()
            body = {"input": "hi"}
            asked = stage.asked(
                "lists", wire=Wire.EMBEDDINGS, body=body, number=number, cache_seconds=60
            )
            await stage.answer(asked)
        assert lists.tried == 1

    asyncio.run(story())


def test_a_question_differs_by_what_is_asked_and_not_by_how_it_is_written(stage: Stage) -> None:
    async def story() -> None:
        await ask(stage, 1, {"seed": 1, "user": "rosa"})
        assert (await ask(stage, 2, {"user": "max", "seed": 1})).cached
        assert not (await ask(stage, 3, {"seed": 2})).cached
        assert not (await ask(stage, 4, {"model": "m-large", "seed": 1})).cached

    asyncio.run(story())


def test_tenants_do_not_see_each_others_answers(stage: Stage) -> None:
    async def story() -> None:
        await ask(stage, 1, key_id="k1", own_team="red")
        assert not (await ask(stage, 2, key_id="k2")).cached
        assert not (await ask(stage, 3, key_id="k3", own_team="blue")).cached
        assert not (await ask(stage, 4, key_id="k2", caller_key="sk-rosa")).cached
        assert not (await ask(stage, 5, key_id="k2", caller_key="sk-max")).cached
        assert (await ask(stage, 6, key_id="k4", own_team="red")).cached
        assert (await ask(stage, 7, key_id="k2", caller_key="sk-rosa")).cached

    asyncio.run(story())


def test_a_team_that_is_only_named_opens_nothing(stage: Stage) -> None:
    async def story() -> None:
        red = Tags(team="red")
        await ask(stage, 1, key_id="k1", own_team="red", tags=red)
        done = await ask(stage, 2, key_id="k2", tags=red)
        assert not done.cached
        assert done.tags == red, "though its calls are booked there"

    asyncio.run(story())


def test_an_answer_is_forgotten_after_its_time(stage: Stage) -> None:
    async def story() -> None:
        await ask(stage, 1, seconds=60)
        stage.now += 59.9
        assert (await ask(stage, 2, seconds=60)).cached
        stage.now += 0.1
        assert not (await ask(stage, 3, seconds=60)).cached

    asyncio.run(story())


def test_a_stream_is_given_again_piece_by_piece(stage: Stage) -> None:
    async def story() -> None:
        stage.a.script = [stage.stream_of(*stage.events_of())]
        await ask(stage, 1, {"stream": True})
        bought = stage.reader.body
        assert b"usage" not in bought
        stage.notes.clear()
        done = await ask(stage, 2, {"stream": True})
        assert (done.cached, stage.reader.body) == (True, bought)
        assert dict(stage.reader.headers)[b"content-type"] == b"text/event-stream"
        assert b"content-length" not in dict(stage.reader.headers)
        assert stage.notes.count("begin") == stage.notes.count("end") == 1
        assert stage.notes.count("piece") > 1

    asyncio.run(story())
    hit = stage.journal.ended[1]
    assert (hit.streamed, hit.avoided_pico) == (True, COST)


def test_a_stream_and_a_whole_answer_are_remembered_apart(stage: Stage) -> None:
    async def story() -> None:
        counted = {"stream": True, "stream_options": {"include_usage": True}}
        stream = stage.stream_of(*stage.events_of())
        stage.a.script = [stage.answer_of(), stream, stream]
        await ask(stage, 1)
        assert not (await ask(stage, 2, {"stream": True})).cached
        assert not (await ask(stage, 3, counted)).cached
        assert b'"usage":{' in stage.reader.body

    asyncio.run(story())


@pytest.mark.parametrize("stream", [False, True])
def test_failures_are_not_remembered(stage: Stage, *, stream: bool) -> None:
    async def story() -> None:
        failed = b'data: {"error": {"message": "it broke"}}\n\ndata: [DONE]\n\n'
        broken = stage.stream_of(failed) if stream else stage.refusal(400)
        good = stage.stream_of(*stage.events_of()) if stream else stage.answer_of()
        stage.a.script = [broken, good]
        await ask(stage, 1, {"stream": stream})
        done = await ask(stage, 2, {"stream": stream})
        assert (done.cached, stage.a.tried, done.status) == (False, 2, 200)

    asyncio.run(story())
    stage.check_books()


def test_an_answer_that_says_of_itself_that_it_failed_is_not_remembered(stage: Stage) -> None:
    async def story() -> None:
        stage.change_upstream("a", wires=(Wire.RESPONSES,))
        said = stage.answer_of(error={"message": "it broke"}, status="failed", wire=Wire.RESPONSES)
        stage.a.script = [said]
        for number in (1, 2):
            done = await ask(stage, number, {"input": "hi"}, wire=Wire.RESPONSES)
            assert not done.cached

    asyncio.run(story())
    assert stage.a.tried == 2


def test_an_answer_whose_caller_left_half_way_is_not_remembered(stage: Stage) -> None:
    async def story() -> None:
        half = stage.events_of()[:2]
        whole = stage.stream_of(*stage.events_of())
        stage.a.script = [stage.stream_of(*half, stage.leave, asyncio.Event().wait), whole]
        await ask(stage, 1, {"stream": True})
        assert not (await ask(stage, 2, {"stream": True})).cached

    asyncio.run(story())
    stage.check_books()


def test_a_hit_keeps_no_more_of_the_bodies_than_its_route_lets(stage: Stage) -> None:
    async def story() -> None:
        stage.house.keep_body = lambda route, body: "" if route.recorded is Recorded.NONE else "!"
        for number in (1, 2):
            await ask(stage, number, recorded=Recorded.NONE)

    asyncio.run(story())
    assert [entry.answer for entry in stage.journal.ended] == ["", ""]
    assert [entry.asked for entry in stage.journal.started] == ["", ""]


def test_a_hit_loses_nothing_when_the_disk_is_full(stage: Stage) -> None:
    async def story() -> None:
        await ask(stage, 1)
        stage.journal.refuses = {2, 3, 4}
        done = await ask(stage, 2)
        assert (done.cached, stage.reader.status) == (True, 200)
        assert (await ask(stage, 3)).status == 503

    asyncio.run(story())
    stage.check_books()
    assert len(stage.journal.ended) == 2
