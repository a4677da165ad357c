from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import Wire
from stillhouse.core.quotas import Denied, Quota, Scope, Unit, Window
from stillhouse.core.traffic import Evidence, Tags, Usage

if TYPE_CHECKING:
    from tests.flows.conftest import Stage

COST = 600_000_000
SPENT = Denied(
    Quota(Scope.KEY, "k1", Unit.COST, Window.DAY, 100), "the budget of key k1 is spent", 7.2
)


def run(stage: Stage, *upstreams: str, **terms: Any) -> None:
    asyncio.run(_story(stage, *upstreams, **terms))


async def _story(stage: Stage, *upstreams: str, **terms: Any) -> None:
    await stage.answer(stage.asked(*upstreams, **terms))


def test_a_call_is_on_disk_before_it_is_sent_and_priced_before_it_is_answered(stage: Stage) -> None:
    run(stage)
    assert stage.notes == ["started", "sent a", "ended", f"settled {COST}", "whole"]
    (started,), (ended,) = stage.journal.started, stage.journal.ended
    assert ended.attempt.usage == Usage(input_tokens=100, output_tokens=20)
    assert ended.attempt.evidence is Evidence.REPORTED
    assert started.price_id == ended.charges[0].price_id
    assert json.loads(started.asked)["messages"][0]["content"] == "hi you"
    assert ended.answer == stage.reader.body.decode()
    assert (ended.fate, ended.status, ended.last) == (Fate.OK, 200, True)
    assert stage.desk.settled == [("hold 0", COST, 120)]
    stage.check_books()


def test_an_order_that_the_disk_confirms_late_is_kept_as_well(stage: Stage) -> None:
    stage.journal.slow = True
    run(stage)
    assert stage.notes == ["started", "sent a", "ended", f"settled {COST}", "whole"]


def test_the_bytes_of_an_answer_pass_untouched_with_the_fields_that_are_the_callers(
    stage: Stage,
) -> None:
    (said,) = stage.a.script
    body = b'{ "model":"m",\n"choices": [],  "usage": {"prompt_tokens": 1, "odd": [1e400]} }'
    fields = [
        (b"content-type", b"application/json"),
        (b"x-request-id", b"r1"),
        (b"set-cookie", b"a=b"),
        (b"server", b"other"),
        (b"content-length", b"999"),
        (b"openai-version", b"2020"),
    ]
    stage.a.script = [said._replace(parts=[body], headers=fields)]
    run(stage)
    assert stage.reader.body == body
    assert stage.reader.headers == [
        (b"content-type", b"application/json"),
        (b"x-request-id", b"r1"),
        (b"openai-version", b"2020"),
        (b"content-length", b"%d" % len(body)),
        (b"x-stillhouse-exchange", stage.journal.started[0].exchange_id.encode()),
    ]


def test_what_goes_upstream_is_the_callers_body_and_the_number_of_the_attempt(stage: Stage) -> None:
    async def story() -> None:
        asked = stage.asked()._replace(headers=((b"openai-beta", b"x"),))
        await stage.answer(asked)
        (call,) = stage.a.calls
        assert call.body == asked.body
        assert call.headers == ((b"openai-beta", b"x"),)
        assert call.attempt_id == asked.exchange_id
        assert (call.path, call.caller_key, call.stream) == ("/chat/completions", "", False)

    asyncio.run(story())


@pytest.mark.parametrize("passes", [True, False])
def test_a_callers_own_key_goes_only_where_the_upstream_lets_it(
    stage: Stage, *, passes: bool
) -> None:
    stage.change_upstream("a", pass_caller_key=passes)
    run(stage, caller_key="sk-mine")
    assert stage.a.calls[0].caller_key == ("sk-mine" if passes else "")
    assert "sk-mine" not in repr(stage.journal.entries)


def test_a_denial_buys_nothing_and_says_which_quota_and_when(stage: Stage) -> None:
    stage.desk.denies = {0: SPENT}
    run(stage)
    assert stage.reader.status == 429
    assert stage.reader.told["error"]["message"] == SPENT.sentence
    assert (b"retry-after", b"8") in stage.reader.headers
    assert stage.a.tried == 0
    assert stage.journal.entries == []
    assert SPENT.quota is not None
    assert stage.watch.seen[-1].refused_by == SPENT.quota.quota_id
    assert stage.house.health.standings(stage.now)[0].in_flight == 0


def test_a_denial_is_said_in_the_callers_own_wire_format(stage: Stage) -> None:
    stage.desk.denies = {0: SPENT._replace(retry_after_seconds=None)}
    run(stage, "claude", wire=Wire.MESSAGES)
    assert stage.reader.told["type"] == "error"
    assert stage.reader.told["error"]["type"] == "rate_limit_error"
    assert b"retry-after" not in dict(stage.reader.headers)


def test_a_hold_that_has_to_be_waited_for_is_waited_for(stage: Stage) -> None:
    stage.desk.waits = True
    run(stage)
    assert stage.reader.status == 200
    stage.check_books()


def test_a_call_reserves_the_most_that_it_can_use(stage: Stage) -> None:
    run(stage, body={"max_tokens": 40})
    (need,) = stage.desk.needs
    assert need.cost_pico is not None
    assert need.cost_pico > COST
    assert need.tokens >= 40
    assert not need.allow_unpriced


@pytest.mark.parametrize("allowed", [True, False])
def test_the_desk_is_told_whether_an_unpriced_model_may_pass(
    stage: Stage, *, allowed: bool
) -> None:
    run(stage, body={"model": "unheard-of"}, allow_unpriced=allowed)
    (need,) = stage.desk.needs
    assert (need.cost_pico, need.allow_unpriced) == (None, allowed)


def test_an_unpriced_call_is_booked_as_unpriced_and_never_as_nothing(stage: Stage) -> None:
    stage.a.script = [stage.answer_of(model="unheard-of")]
    run(stage, body={"model": "unheard-of"}, allow_unpriced=True)
    (ended,) = stage.journal.ended
    assert [charge.billed for charge in ended.charges] == [None, None]
    assert stage.watch.seen[-1].cost_pico is None
    stage.check_books()


def test_a_call_that_no_waiting_helps_is_told_not_to_ask_again(stage: Stage) -> None:
    stage.desk.denies = {0: SPENT._replace(sentence="it never fits", retry_after_seconds=None)}
    run(stage)
    assert stage.reader.status == 429
    assert (b"x-should-retry", b"false") in stage.reader.headers
    assert b"retry-after" not in dict(stage.reader.headers)


def test_nothing_is_sent_when_the_journal_cannot_be_written(stage: Stage) -> None:
    stage.journal.refuses = {0}
    run(stage)
    assert stage.reader.status == 503
    assert "disk is full" in stage.reader.told["error"]["message"]
    assert stage.a.calls == []
    assert (stage.notes, stage.desk.settled) == (["released", "whole"], [])
    stage.check_books()


def test_what_the_disk_does_not_confirm_is_not_sent(stage: Stage) -> None:
    stage.journal.slow = True
    stage.journal.doubtful = {0}
    run(stage)
    assert stage.reader.status == 503
    assert stage.a.calls == []
    assert all(entry.fate is Fate.WITHDRAWN for entry in stage.journal.ended)
    assert (stage.desk.open, stage.desk.settled) == ({}, [])


@pytest.mark.parametrize("slow", [False, True])
def test_a_journal_that_fails_at_the_end_loses_nothing_and_stops_further_calls(
    stage: Stage, *, slow: bool
) -> None:
    async def story() -> None:
        stage.journal.slow = slow
        fails = stage.journal.doubtful if slow else stage.journal.refuses
        fails |= {1}
        stage.journal.refuses |= {2}
        await stage.answer(stage.asked(number=1))
        assert stage.reader.status == 200, "what was bought is given"
        assert stage.desk.settled == [("hold 0", COST, 120)]
        assert stage.journal.ended == [] or slow
        stage.reader.body = b""
        await stage.answer(stage.asked(number=2))
        assert (stage.reader.status, stage.a.tried) == (503, 1)
        assert "journal cannot be written" in stage.reader.told["error"]["message"]
        await stage.answer(stage.asked(number=3))  # the disk has room again
        await asyncio.sleep(0)
        assert stage.reader.status == 200
        ended = [entry.exchange_id[-1] for entry in stage.journal.ended]
        assert ended == (["1", "1", "3"] if slow else ["1", "3"])

    asyncio.run(story())
    stage.check_books()


def test_entries_wait_in_their_order_while_the_disk_is_full(stage: Stage) -> None:
    async def story() -> None:
        stage.journal.refuses = {1, 2, 3}
        await stage.answer(stage.asked(number=1))
        assert stage.house.keeper.blocked
        await stage.house.keeper.close(stage.journal.started[0])  # behind what waits already
        assert stage.house.keeper.blocked
        assert not stage.house.keeper.blocked
        assert [type(entry).__name__ for entry in stage.journal.entries] == [
            "Started",
            "Ended",
            "Started",
        ]

    asyncio.run(story())


def test_only_the_first_attempt_keeps_the_callers_body(stage: Stage) -> None:
    stage.a.script = [stage.refusal(503)]
    run(stage, "a", "b")
    assert [bool(started.asked) for started in stage.journal.started] == [True, False]


def test_done_says_what_happened_without_bodies(stage: Stage) -> None:
    async def story() -> None:
        stage.a.script = [stage.a.script[0]._replace(waiting=[stage.pass_time(1.5)])]
        tags = Tags(team="red")
        done = await stage.answer(stage.asked(tags=tags)._replace(traceparent="00-1"))
        assert (done.status, done.cost_pico, done.tags, done.traceparent) == (
            200,
            COST,
            tags,
            "00-1",
        )
        assert (done.seconds, done.overhead_seconds, done.first_byte_seconds) == (1.5, 0.0, 1.5)
        assert [entry.attempt.latency_ms for entry in done.attempts] == [1500.0]
        assert (done.cached, done.refused_by, done.stream) == (False, "", False)

    asyncio.run(story())


def test_a_request_that_no_upstream_of_its_route_can_be_asked_is_refused(stage: Stage) -> None:
    run(stage, "lists")
    assert stage.reader.status == 400
    assert "lists speaks embeddings" in stage.reader.told["error"]["message"]
    assert stage.desk.needs == []
    assert stage.house.health.standings(stage.now)[0].in_flight == 0


def test_a_model_under_another_name_upstream_is_asked_under_that_name(stage: Stage) -> None:
    async def story() -> None:
        asked = stage.asked("a", body={"model": "m"})
        deployment = asked.route.deployments[0]
        renamed = type(deployment)("a", "m-large")
        route = type(asked.route)("m", (renamed,))
        await stage.answer(asked._replace(route=route))

    asyncio.run(story())
    (call,) = stage.a.calls
    assert json.loads(call.body)["model"] == "m-large" == call.model


def test_the_model_that_answered_is_priced_and_not_the_one_that_was_asked(stage: Stage) -> None:
    stage.a.script = [stage.answer_of(model="m-large")]
    run(stage)
    (ended,) = stage.journal.ended
    assert ended.attempt.model == "m-large"
    assert stage.watch.seen[-1].cost_pico == 10 * COST
    assert stage.desk.settled == [("hold 0", 10 * COST, 120)]


def test_a_model_that_answers_under_an_unknown_name_costs_what_was_asked(stage: Stage) -> None:
    stage.a.script = [stage.answer_of(model="m-2026-11-01-beta")]
    run(stage)
    assert stage.watch.seen[-1].cost_pico == COST
    assert stage.journal.ended[0].attempt.model == "m-2026-11-01-beta"


def test_the_service_tier_that_was_served_is_priced(stage: Stage) -> None:
    stage.a.script = [stage.answer_of(service_tier=tier) for tier in ("flex", "default", "fast")]
    run(stage, number=1, body={"service_tier": "auto"})
    run(stage, number=2, body={"service_tier": "flex"})
    run(stage, number=3)
    assert [entry.attempt.service_tier for entry in stage.journal.ended] == ["flex", "", "fast"]
    assert [done.cost_pico for done in stage.watch.seen] == [2 * COST, COST, None]


def test_a_tier_that_nothing_is_said_of_is_the_one_that_was_asked(stage: Stage) -> None:
    run(stage, body={"service_tier": "flex"})
    assert stage.watch.seen[-1].cost_pico == 2 * COST


def test_a_failed_response_is_passed_on_and_booked_as_no_success(stage: Stage) -> None:
    stage.change_upstream("a", wires=(Wire.RESPONSES,))
    body = {
        "id": "r1",
        "object": "response",
        "status": "failed",
        "model": "m",
        "error": {"code": "server_error", "message": "it broke"},
        "output": [],
        "usage": {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120},
    }
    stage.a.script = [stage.a.script[0]._replace(parts=[json.dumps(body).encode()])]
    run(stage, wire=Wire.RESPONSES, body={"input": "hi"})
    (ended,) = stage.journal.ended
    assert stage.reader.told == body
    assert (ended.fate, ended.attempt.ok) == (Fate.OK, False)
    assert stage.watch.seen[-1].cost_pico == COST
    assert stage.a.tried == 1


def test_a_caller_of_another_wire_is_translated_both_ways(stage: Stage) -> None:
    stage.upstreams["claude"].script = [stage.answer_of("sun moon", wire=Wire.MESSAGES)]
    run(stage, "claude")
    (call,), (started,), (ended,) = (
        stage.upstreams["claude"].calls,
        stage.journal.started,
        stage.journal.ended,
    )
    assert (call.wire, call.path) == (Wire.MESSAGES, "/messages")
    assert json.loads(call.body)["max_tokens"] > 0
    assert (started.wire, started.spoken) == ("chat", "messages")
    assert stage.reader.told["choices"][0]["message"]["content"] == "sun moon"
    assert stage.reader.told["usage"]["total_tokens"] == 120
    assert json.loads(ended.answer)["content"][0]["text"] == "sun moon", "kept as it came"
    assert json.loads(ended.usage_body)["input_tokens"] == 100
    assert stage.watch.seen[-1].cost_pico == COST


def test_an_error_from_an_upstream_of_another_wire_is_told_in_the_callers(stage: Stage) -> None:
    body = b'{"type": "error", "error": {"type": "overloaded_error", "message": "too many"}}'
    stage.upstreams["claude"].script = [stage.refusal(529)._replace(parts=[body])]
    run(stage, "claude", max_attempts=1)
    assert stage.reader.status == 529
    assert stage.reader.told["error"]["message"] == "too many"
    assert "type" not in stage.reader.told


def test_an_answer_that_cannot_be_translated_is_a_failure_of_the_upstream(stage: Stage) -> None:
    nothing = stage.a.script[0]._replace(parts=[b'{"model": "m", "content": 7}'])
    stage.upstreams["claude"].script = [nothing]
    run(stage, "claude", max_attempts=1)
    assert stage.reader.status == 502
    assert stage.journal.ended[0].fate is Fate.GARBAGE
    stage.check_books()


def test_a_request_that_cannot_be_translated_is_the_callers_fault(stage: Stage) -> None:
    run(stage, "claude", body={"messages": [{"role": "user", "content": 7}]})
    assert stage.reader.status == 400
    assert stage.upstreams["claude"].calls == []
    assert stage.journal.entries == []
    stage.check_books()
