from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from stillhouse.core.calls import Done, Fate
from stillhouse.core.catalogue import Deployment, OnDisconnect, Wire
from stillhouse.core.quotas import Denied
from stillhouse.core.traffic import AttemptKind, Evidence, Usage

if TYPE_CHECKING:
    from tests.flows.conftest import Says, Stage

COST = 600_000_000
BODIES = pytest.mark.parametrize("body", [{}, {"stream": True}], ids=["whole", "stream"])


def good(stage: Stage, body: dict[str, object], text: str = "sun moon", **when: Any) -> Says:
    if body:
        return stage.stream_of(*stage.events_of(text))._replace(**when)
    return stage.answer_of(text)._replace(**when)


def hang() -> Awaitable[object]:
    return asyncio.Event().wait()


def turns(count: int) -> list[Callable[[], Awaitable[None]]]:
    return [lambda: asyncio.sleep(0)] * count


def run(stage: Stage, *upstreams: str, **terms: Any) -> Done:
    """Answer a request of a hedged route; nothing may be left behind."""

    async def story() -> Done:
        terms.setdefault("hedge_after_seconds", 2.0)
        done = await stage.answer(stage.asked(*upstreams or ("a", "b"), **terms))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return done

    done = asyncio.run(story())
    stage.check_books()
    assert {row.in_flight for row in stage.house.health.standings(stage.now)} == {0}
    return done


def fates(stage: Stage) -> dict[str, Fate]:
    return {entry.upstream: entry.fate for entry in stage.journal.ended}


def test_hedging_is_off_unless_a_route_asks_for_it(stage: Stage) -> None:
    run(stage, hedge_after_seconds=None)
    assert (stage.slept, stage.b.tried) == ([], 0)


@BODIES
def test_a_call_that_answers_in_time_has_no_second(stage: Stage, body: dict[str, object]) -> None:
    async def long(seconds: float) -> None:
        stage.slept.append(seconds)
        await hang()

    stage.house.sleep = long
    stage.a.script = [good(stage, body, waiting=turns(3))]
    done = run(stage, body=body)
    assert (stage.slept, stage.b.tried, done.status) == ([2.0], 0, 200)
    assert fates(stage) == {"a": Fate.OK}


@BODIES
def test_the_second_answers_where_the_first_is_slow_and_both_are_booked(
    stage: Stage, body: dict[str, object]
) -> None:
    stage.a.script = [good(stage, body, "from a", waiting=[hang])]
    stage.b.script = [good(stage, body, "from b", waiting=[stage.pass_time(0.5)])]
    done = run(stage, body=body)
    assert b"from b" in stage.reader.body.replace(b'"}', b"")
    assert b"from a" not in stage.reader.body
    assert fates(stage) == {"a": Fate.OUTRUN, "b": Fate.OK}
    lost, won = sorted(stage.journal.ended, key=lambda entry: entry.fate is Fate.OK)
    assert (lost.attempt.kind, won.attempt.kind) == (AttemptKind.TEACHER, AttemptKind.HEDGE)
    assert lost.attempt.attempt_id + "-2" == won.attempt.attempt_id
    assert (lost.attempt.evidence, lost.attempt.ok) == (Evidence.ESTIMATED, False)
    assert lost.attempt.usage == Usage(input_tokens=2, output_tokens=256)
    assert "answered first" in lost.error
    assert len(stage.desk.settled) == 2
    assert set(done.attempts) == {lost, won}
    assert (done.status, done.seconds, done.first_byte_seconds) == (200, 2.5, 2.5)
    assert done.overhead_seconds == 0.0
    latencies = {row.upstream: row.latency_seconds for row in stage.house.health.standings(60)}
    assert latencies == {"a": None, "b": 0.5}


@BODIES
def test_the_first_may_still_win(stage: Stage, body: dict[str, object]) -> None:
    stage.a.script = [good(stage, body, "from a", waiting=turns(9))]
    stage.b.script = [good(stage, body, "from b", waiting=[hang])]
    done = run(stage, body=body)
    assert stage.b.tried == 1
    assert fates(stage) == {"a": Fate.OK, "b": Fate.OUTRUN}
    assert b"from b" not in stage.reader.body
    assert done.status == 200


@BODIES
@pytest.mark.parametrize("slow", [False, True])
def test_of_two_that_answer_at_once_one_is_given(
    stage: Stage, body: dict[str, object], *, slow: bool
) -> None:
    gate = asyncio.Event()

    def open_gate() -> object:
        asyncio.get_running_loop().call_later(0, gate.set)
        return gate.wait()

    stage.journal.slow = slow
    stage.a.script = [good(stage, body, "from a", waiting=[gate.wait])]
    stage.b.script = [good(stage, body, "from b", waiting=[open_gate])]
    run(stage, body=body)
    assert sorted(fates(stage).values()) == [Fate.OK, Fate.OUTRUN]
    assert stage.notes.count("whole") + stage.notes.count("end") == 1
    assert (b"from a" in stage.reader.body) != (b"from b" in stage.reader.body)


def test_a_stream_that_has_begun_has_no_second(stage: Stage) -> None:
    begun, rung = asyncio.Event(), asyncio.Event()

    async def until_begun(seconds: float) -> None:
        await begun.wait()
        rung.set()

    stage.house.sleep = until_begun
    first, *rest = stage.events_of()
    stage.a.script = [stage.stream_of(first, begun.set, *turns(5), *rest)]
    run(stage, body={"stream": True})
    assert stage.b.tried == 0
    assert not rung.is_set()


def test_a_stream_that_dies_is_not_taken_over_by_the_second(stage: Stage) -> None:
    (broken,) = stage.failure(Fate.TRUNCATED).waiting
    stage.a.script = [stage.stream_of(*turns(9), *stage.events_of()[:2], broken)]
    stage.b.script = [stage.stream_of(hang)]
    run(stage, body={"stream": True})
    assert fates(stage) == {"a": Fate.TRUNCATED, "b": Fate.OUTRUN}
    assert stage.notes.count("begin") == 1
    assert b"broke off" in stage.reader.body


@BODIES
def test_a_drained_route_cancels_the_one_that_is_outrun_all_the_same(
    stage: Stage, body: dict[str, object]
) -> None:
    stage.a.script = [good(stage, body, waiting=[hang])]
    stage.b.script = [good(stage, body)]
    run(stage, body=body, on_disconnect=OnDisconnect.DRAIN)
    assert fates(stage) == {"a": Fate.OUTRUN, "b": Fate.OK}


@BODIES
def test_one_that_is_outrun_before_it_was_sent_bought_nothing(
    stage: Stage, body: dict[str, object]
) -> None:
    stage.a.script = [good(stage, body, dialling=[hang])]
    stage.b.script = [good(stage, body)]
    run(stage, body=body)
    lost = next(entry for entry in stage.journal.ended if entry.upstream == "a")
    assert (lost.fate, lost.attempt.usage) == (Fate.WITHDRAWN, Usage())
    assert "answered first" in lost.error
    assert any(started.asked for started in stage.journal.started)


@BODIES
def test_a_first_that_fails_leaves_the_answer_to_the_second(
    stage: Stage, body: dict[str, object]
) -> None:
    stage.a.script = [stage.refusal(503)._replace(waiting=turns(6))]
    stage.b.script = [good(stage, body, waiting=turns(12))]
    done = run(stage, body=body)
    assert fates(stage) == {"a": Fate.STATUS, "b": Fate.OK}
    assert (done.status, stage.a.tried) == (200, 1)


@BODIES
def test_a_second_that_fails_leaves_the_answer_to_the_first(
    stage: Stage, body: dict[str, object]
) -> None:
    stage.a.script = [good(stage, body, waiting=turns(12))]
    stage.b.script = [stage.failure(Fate.REFUSED)]
    done = run(stage, body=body)
    assert fates(stage) == {"a": Fate.OK, "b": Fate.REFUSED}
    assert (done.status, stage.b.tried) == (200, 1)


def test_where_both_fail_the_request_is_tried_again(stage: Stage) -> None:
    stage.a.script = [stage.refusal(503)._replace(waiting=turns(9)), stage.answer_of()]
    stage.b.script = [stage.refusal(500), stage.answer_of()]
    done = run(stage, max_attempts=4)
    assert done.status == 200
    assert [entry.attempt.attempt_id[32:] for entry in stage.journal.started] == ["", "-2", "-3"]


def test_both_calls_count_under_the_limit(stage: Stage) -> None:
    stage.a.script = [stage.refusal(503)._replace(waiting=turns(9))]
    stage.b.script = [stage.refusal(500)]
    done = run(stage, max_attempts=2)
    assert (stage.a.tried, stage.b.tried, done.status) == (1, 1, 503)
    stage.journal.entries.clear()
    stage.desk.settled.clear()
    run(stage, max_attempts=1, number=2)
    assert stage.b.tried == 1


def test_what_the_second_says_is_wrong_with_a_request_is_believed(stage: Stage) -> None:
    stage.a.script = [stage.failure(Fate.DROPPED)._replace(waiting=[*turns(9), _drop(stage)])]
    stage.b.script = [stage.refusal(400, message="no such tool")]
    done = run(stage, max_attempts=9)
    assert (done.status, len(done.attempts)) == (400, 2)
    assert stage.reader.told["error"]["message"] == "no such tool"


def _drop(stage: Stage) -> Exception:
    (fault,) = stage.failure(Fate.DROPPED).waiting
    assert isinstance(fault, Exception)
    return fault


def test_a_quota_that_refuses_the_second_leaves_the_first_alone(stage: Stage) -> None:
    stage.desk.denies = {1: Denied(None, "no more", None)}
    stage.a.script = [stage.answer_of()._replace(waiting=turns(9))]
    assert run(stage).status == 200
    assert stage.b.tried == 0


def test_a_second_that_speaks_another_language_is_not_called(stage: Stage) -> None:
    stage.a.script = [stage.answer_of()._replace(waiting=turns(9))]
    assert run(stage, "a", "lists").status == 200
    assert stage.upstreams["lists"].tried == 0


def test_a_second_that_cannot_be_written_down_is_not_sent(stage: Stage) -> None:
    stage.journal.refuses = {1}
    stage.a.script = [stage.answer_of()._replace(waiting=turns(9))]
    assert run(stage).status == 200
    assert stage.b.calls == []


def test_a_first_that_cannot_be_written_down_is_not_sent_and_the_second_may_be(
    stage: Stage,
) -> None:
    stage.journal.refuses = {1}
    stage.a.script = [stage.answer_of()._replace(dialling=turns(5))]
    stage.b.script = [stage.answer_of()._replace(waiting=turns(9))]
    assert run(stage).status == 200
    assert stage.a.calls == []


def test_where_nothing_can_be_written_down_nothing_is_sent(stage: Stage) -> None:
    stage.journal.refuses = {0, 1, 2}
    stage.a.script = [stage.answer_of()._replace(dialling=turns(5))]
    stage.b.script = [stage.answer_of()._replace(dialling=turns(5))]
    assert run(stage).status == 503
    assert stage.a.calls + stage.b.calls == []


@BODIES
def test_a_caller_that_leaves_ends_both(stage: Stage, body: dict[str, object]) -> None:
    stage.a.script = [good(stage, body, waiting=[hang])]
    stage.b.script = [good(stage, body, waiting=[stage.leave, hang])]
    done = run(stage, body=body)
    assert fates(stage) == {"a": Fate.CALLER_GONE, "b": Fate.CALLER_GONE}
    assert done.status == 499


def test_a_caller_that_left_is_not_hedged_for(stage: Stage) -> None:
    stage.a.script = [stage.answer_of()._replace(waiting=[stage.leave, *turns(9)])]
    run(stage, on_disconnect=OnDisconnect.DRAIN)
    assert stage.b.tried == 0
    assert fates(stage) == {"a": Fate.OK}


@BODIES
def test_a_worker_that_is_told_to_stop_ends_both(stage: Stage, body: dict[str, object]) -> None:
    async def story() -> None:
        both = asyncio.Event()
        stage.a.script = [good(stage, body, waiting=[hang])]
        stage.b.script = [good(stage, body, waiting=[both.set, hang])]
        asked = stage.asked("a", "b", body=body, hedge_after_seconds=1.0)
        answering = asyncio.create_task(stage.answer(asked))
        await both.wait()
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())
    assert len(stage.journal.started) == 2
    assert stage.journal.ended == [], "the folder books them as interrupted"


def test_a_single_deployment_is_asked_twice(stage: Stage) -> None:
    stage.a.script = [stage.answer_of("slow")._replace(waiting=[hang]), stage.answer_of("quick")]
    run(stage, "a")
    assert b"quick" in stage.reader.body


def test_a_translated_route_is_hedged_too(stage: Stage) -> None:
    stage.a.script = [stage.answer_of()._replace(waiting=[hang])]
    stage.upstreams["claude"].script = [stage.answer_of("from claude", wire=Wire.MESSAGES)]
    run(stage, "a", "claude")
    assert stage.reader.told["choices"][0]["message"]["content"] == "from claude"
    assert Deployment("claude", "m").upstream in fates(stage)
