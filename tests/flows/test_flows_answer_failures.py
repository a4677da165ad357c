from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import Deployment, Route, Wire
from stillhouse.core.quotas import Denied
from stillhouse.core.traffic import AttemptKind, Evidence, Usage

if TYPE_CHECKING:
    from tests.flows.conftest import Stage

COST = 600_000_000
GUESSED = 2 * 3_000_000 + 256 * 15_000_000
"""What a call without an answer is taken to have cost: two words, and the usual length."""

NEVER_SENT = [Fate.REFUSED, Fate.DNS, Fate.TLS, Fate.CONNECT_TIMEOUT]
COSTLY = [Fate.FIRST_BYTE_TIMEOUT, Fate.TOTAL_TIMEOUT, Fate.TRUNCATED]


def run(stage: Stage, *upstreams: str, **terms: Any) -> None:
    asyncio.run(_story(stage, *upstreams, **terms))


async def _story(stage: Stage, *upstreams: str, **terms: Any) -> None:
    await stage.answer(stage.asked(*upstreams, **terms))


def fates(stage: Stage) -> list[Fate]:
    return [entry.fate for entry in stage.journal.ended]


def test_another_upstream_answers_for_one_that_is_busy_and_both_are_booked(stage: Stage) -> None:
    stage.a.script = [stage.refusal(503)]
    run(stage, "a", "b")
    assert stage.notes == [
        "started", "sent a", "ended", f"settled {GUESSED}",
        "started -2", "sent b", "ended -2", f"settled {COST}", "whole",
    ]  # fmt: skip
    first, second = stage.journal.ended
    assert (first.last, second.last) == (False, True)
    assert (first.status, first.error, second.fate) == (503, "no", Fate.OK)
    assert second.attempt.kind is AttemptKind.RETRY
    assert stage.watch.seen[-1].attempts == (first, second)
    stage.check_books()


def test_a_fallback_route_is_asked_for_its_own_model(stage: Stage) -> None:
    stage.add_route(Route("spare", (Deployment("b", "m-large"),)))
    stage.a.script = [stage.refusal(500)]
    stage.b.script = [stage.answer_of(model="m-large")]
    run(stage, "a", fallbacks=("spare",))
    assert json.loads(stage.b.calls[0].body)["model"] == "m-large"
    assert stage.journal.ended[1].attempt.kind is AttemptKind.FALLBACK
    assert stage.watch.seen[-1].cost_pico == GUESSED + 10 * COST
    stage.check_books()


def test_a_wait_is_as_long_as_the_upstream_asks_and_is_no_overhead(stage: Stage) -> None:
    stage.a.script = [stage.refusal(429, (b"retry-after", b"3")), stage.answer_of()]
    run(stage)
    assert stage.slept == [3.0]
    assert stage.reader.status == 200
    assert stage.watch.seen[-1].seconds == 3.0
    assert stage.watch.seen[-1].overhead_seconds == 0.0
    assert [entry.attempt.at_us for entry in stage.journal.ended] == [
        stage.house.now_us() - 3_000_000,
        stage.house.now_us(),
    ]
    stage.check_books()


def test_one_that_asks_for_more_patience_than_there_is_is_told_to_the_caller(stage: Stage) -> None:
    stage.a.script = [stage.refusal(429, (b"retry-after", b"3600"), message="slow down")]
    run(stage)
    assert (stage.reader.status, stage.slept) == (429, [])
    assert stage.reader.told["error"]["message"] == "slow down"
    assert (b"retry-after", b"3600") in stage.reader.headers
    stage.check_books()


@pytest.mark.parametrize("status", [400, 402, 403, 404, 413, 422])
def test_what_is_wrong_with_a_request_is_not_tried_again_and_buys_nothing(
    stage: Stage, status: int
) -> None:
    stage.a.script = [stage.refusal(status, (b"x-request-id", b"r"), (b"set-cookie", b"c"))]
    run(stage, "a", "b")
    (ended,) = stage.journal.ended
    assert stage.b.tried == 0
    assert [(charge.leaf, charge.billed) for charge in ended.charges] == [
        ("requests", stage.nothing)
    ]
    assert (ended.attempt.usage, ended.attempt.evidence) == (Usage(), Evidence.DERIVED)
    assert (ended.status, ended.attempt.ok) == (status, False)
    assert stage.desk.settled == [("hold 0", 0, 0)]
    names = [name for name, _ in stage.reader.headers]
    assert b"x-request-id" in names
    assert b"set-cookie" not in names
    stage.check_books()


@pytest.mark.parametrize("passes", [True, False])
def test_our_own_key_being_refused_is_not_the_callers_fault(stage: Stage, *, passes: bool) -> None:
    stage.change_upstream("a", pass_caller_key=passes)
    stage.a.script = [stage.refusal(401, message="bad key sk-ours")]
    run(stage, caller_key="sk-mine")
    assert stage.reader.status == (401 if passes else 502)
    assert ("own key" in stage.reader.told["error"]["message"]) is not passes
    assert ("sk-ours" in stage.reader.body.decode()) is passes


def test_a_server_error_may_have_cost_something_and_is_estimated(stage: Stage) -> None:
    stage.a.script = [stage.refusal(500)]
    run(stage, max_attempts=1)
    (ended,) = stage.journal.ended
    assert stage.reader.status == 500
    assert ended.attempt.evidence is Evidence.ESTIMATED
    assert ended.attempt.usage is not None
    assert ended.attempt.usage.leaves() == {"input_tokens": 2, "output_tokens": 256}
    assert stage.desk.settled == [("hold 0", GUESSED, 258)]
    stage.check_books()


def test_an_unheard_answer_is_taken_to_be_as_long_as_the_routes_others(stage: Stage) -> None:
    async def story() -> None:
        await stage.answer(stage.asked(number=1))
        stage.a.script = [stage.failure(Fate.FIRST_BYTE_TIMEOUT)]
        await stage.answer(stage.asked(number=2))
        await stage.answer(stage.asked(number=3, body={"max_tokens": 7}))

    asyncio.run(story())
    counted = [entry.attempt.usage for entry in stage.journal.ended]
    assert [usage.output_tokens for usage in counted if usage is not None] == [20, 20, 7]
    assert stage.journal.started[1].expected_output_tokens == 20


@pytest.mark.parametrize("fate", NEVER_SENT)
def test_a_call_that_never_left_is_in_the_journal_and_costs_nothing(
    stage: Stage, fate: Fate
) -> None:
    stage.a.script = [stage.failure(fate)]
    run(stage, max_attempts=1)
    (started,), (ended,) = stage.journal.started, stage.journal.ended
    assert json.loads(started.asked)["model"] == "m", "the request is kept all the same"
    assert (ended.fate, ended.attempt.usage, ended.attempt.latency_ms) == (fate, Usage(), 0.0)
    assert stage.desk.settled == [("hold 0", 0, 0)]
    assert stage.reader.status == (504 if fate is Fate.CONNECT_TIMEOUT else 502)
    assert "upstream a fails" in stage.reader.told["error"]["message"]
    stage.check_books()


@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("fate", COSTLY)
def test_what_may_be_billed_twice_is_made_again_only_where_somebody_wants_it(
    stage: Stage, fate: Fate, *, pays: bool
) -> None:
    stage.a.script = [stage.failure(fate)]
    run(stage, "a", "b", pay_twice=pays)
    assert stage.b.tried == pays
    assert stage.journal.ended[0].attempt.evidence is Evidence.ESTIMATED
    assert stage.reader.status == (200 if pays else 502 if fate is Fate.TRUNCATED else 504)
    stage.check_books()


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"model": "m", "usage": {', b"[]"])
def test_what_is_no_json_is_not_given_and_another_upstream_is_asked(
    stage: Stage, body: bytes
) -> None:
    stage.a.script = [stage.answer_of()._replace(parts=[body])]
    run(stage, "a", "b")
    assert fates(stage) == [Fate.GARBAGE, Fate.OK]
    assert stage.journal.ended[0].attempt.evidence is Evidence.ESTIMATED
    assert stage.reader.status == 200
    stage.check_books()


def test_an_error_body_that_breaks_off_costs_nothing_where_its_status_says_so(
    stage: Stage,
) -> None:
    (broken,) = stage.failure(Fate.TRUNCATED).waiting
    stage.a.script = [stage.refusal(400)._replace(parts=[b'{"err', broken])]
    run(stage)
    (ended,) = stage.journal.ended
    assert (ended.fate, ended.status, ended.attempt.usage) == (Fate.TRUNCATED, 400, Usage())
    assert stage.reader.status == 502
    stage.check_books()


def test_a_redirect_is_no_answer(stage: Stage) -> None:
    stage.a.script = [stage.refusal(302, (b"location", b"http://elsewhere/"))]
    run(stage)
    assert stage.reader.status == 502
    assert b"location" not in dict(stage.reader.headers)
    stage.check_books()


def test_the_number_of_calls_is_limited(stage: Stage) -> None:
    stage.a.script = [stage.refusal(503)]
    run(stage, max_attempts=4)
    assert stage.a.tried == 4
    assert [entry.last for entry in stage.journal.ended] == [False, False, False, True]
    assert [entry.attempt.attempt_id[32:] for entry in stage.journal.ended] == [
        "",
        "-2",
        "-3",
        "-4",
    ]
    stage.check_books()


def test_a_quota_that_refuses_a_second_call_ends_the_exchange(stage: Stage) -> None:
    stage.a.script = [stage.refusal(503)]
    stage.desk.denies = {1: Denied(None, "the budget is spent", 9.0)}
    run(stage, "a", "b")
    assert stage.reader.status == 429
    assert stage.b.tried == 0
    stage.check_books()


@pytest.mark.parametrize(
    ("fate", "status", "sentence"),
    [
        (Fate.STATUS, 503, "no"),
        (Fate.REFUSED, 502, "upstream a fails: refused"),
        (Fate.CONNECT_TIMEOUT, 504, "upstream a fails: connect_timeout"),
    ],
)
def test_a_fallback_that_cannot_be_asked_leaves_the_failure_before_it_as_what_is_told(
    stage: Stage, fate: Fate, status: int, sentence: str
) -> None:
    stage.add_route(Route("spare", (Deployment("lists", "m"),)))
    stage.a.script = [stage.refusal(503) if fate is Fate.STATUS else stage.failure(fate)]
    run(stage, "a", fallbacks=("spare",), max_attempts=2)
    assert stage.reader.status == status
    assert stage.reader.told["error"]["message"] == sentence
    assert [entry.last for entry in stage.journal.ended] == [False, True]
    assert [entry.last for entry in stage.watch.seen[-1].attempts] == [True]
    stage.check_books()


def test_a_first_upstream_that_cannot_be_asked_is_the_callers_to_change(stage: Stage) -> None:
    run(stage, "lists")
    assert stage.reader.status == 400
    assert "call a model whose upstream speaks it" in stage.reader.told["error"]["message"]
    assert stage.journal.entries == []


def test_an_upstream_that_cannot_be_asked_is_passed_over_for_one_that_can(stage: Stage) -> None:
    run(stage, "lists", "b")
    assert stage.reader.status == 200
    assert [call.model for call in stage.b.calls] == ["m"]
    assert [entry.attempt.kind for entry in stage.journal.ended] == [AttemptKind.TEACHER]
    assert all(one.in_flight == 0 for one in stage.house.health.standings(stage.now))
    assert stage.house.health.calm
    stage.check_books()


def test_after_a_failure_too_one_that_cannot_be_asked_is_passed_over(stage: Stage) -> None:
    stage.add_route(Route("spare", (Deployment("lists", "m"),)))
    stage.add_route(Route("last", (Deployment("b", "m"),)))
    stage.a.script = [stage.refusal(503)]
    run(stage, "a", fallbacks=("spare", "last"))
    assert stage.reader.status == 200
    assert [entry.last for entry in stage.journal.ended] == [False, True]
    stage.check_books()


def test_a_journal_that_fails_before_a_second_call_ends_the_exchange(stage: Stage) -> None:
    stage.a.script = [stage.refusal(503)]
    stage.journal.refuses = {2}
    run(stage, "a", "b")
    assert stage.reader.status == 503
    assert stage.b.calls == []
    stage.check_books()


def test_a_sick_upstream_is_left_alone_while_another_is_well(stage: Stage) -> None:
    async def story() -> None:
        stage.a.script = [stage.failure(Fate.REFUSED)]
        for number in range(1, 9):
            await stage.answer(stage.asked("a", "b", number=number))

    asyncio.run(story())
    assert stage.a.tried == 5
    assert stage.b.tried == 8
    assert {standing.in_flight for standing in stage.house.health.standings(stage.now)} == {0}
    stage.check_books()


def test_a_caller_that_left_during_a_failed_call_is_not_called_for_again(stage: Stage) -> None:
    stage.a.script = [stage.refusal(503)._replace(parts=[b"{}", stage.reader_leaves_unseen])]
    run(stage, "a", "b")
    assert stage.b.tried == 0
    assert [entry.last for entry in stage.journal.ended] == [True]
    stage.check_books()


def test_a_caller_that_left_while_it_had_to_wait_is_not_called_for_again(stage: Stage) -> None:
    stage.a.script = [stage.refusal(503)]

    async def leave(seconds: float) -> None:
        stage.reader.leave()

    stage.house.sleep = leave
    run(stage)
    assert stage.a.tried == 1
    stage.check_books()


@pytest.mark.parametrize(
    "counts", [{"prompt_tokens": 3, "total_tokens": 99}, {"prompt_tokens": -1}]
)
def test_counts_that_contradict_themselves_are_no_counts_and_the_books_say_why(
    stage: Stage, counts: dict[str, object]
) -> None:
    stage.a.script = [stage.answer_of("one two three", counts=counts)]
    run(stage)
    (ended,) = stage.journal.ended
    assert stage.reader.told["usage"] == counts, "what the caller gets is untouched"
    assert json.loads(ended.usage_body) == counts, "and so is what is kept"
    assert ended.attempt.evidence is Evidence.ESTIMATED
    assert "usage" in ended.error
    assert ended.attempt.usage is not None
    assert ended.attempt.usage.leaves() == {"input_tokens": 2, "output_tokens": 3}


def test_missing_counts_are_estimated_from_what_was_asked_and_answered(stage: Stage) -> None:
    stage.a.script = [stage.answer_of("one two three", None)]
    run(stage)
    (ended,) = stage.journal.ended
    assert ended.attempt.evidence is Evidence.ESTIMATED
    assert ended.attempt.usage is not None
    assert ended.attempt.usage.leaves() == {"input_tokens": 2, "output_tokens": 3}
    assert ended.fate is Fate.OK
    stage.check_books()


def test_an_upstreams_own_text_never_reaches_the_caller_of_another_wire_raw(stage: Stage) -> None:
    stage.upstreams["claude"].script = [stage.refusal(400, message="no such tool")]
    run(stage, "claude", wire=Wire.CHAT)
    assert stage.reader.status == 400
    assert stage.reader.told["error"]["message"] == "no such tool"
