"""Whose time a call took, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import pytest

from stillhouse.core.calls import Done, Entry, Fate
from stillhouse.core.errors import UpstreamError
from stillhouse.flows.house import Keeper

if TYPE_CHECKING:
    from tests.flows.conftest import ScriptedReply, Stage

STREAM = {"stream": True}


def run(stage: Stage, *upstreams: str, **terms: Any) -> Done:
    return asyncio.run(stage.answer(stage.asked(*upstreams, **terms)))


def breaks() -> None:
    """A step of a script: made anew, so that the script itself holds nothing of it."""
    raise UpstreamError(Fate.TRUNCATED, "upstream a closed the connection")


class Dawdling:
    """A journal that takes its time on the stage's clock."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        self._stage, self._seconds = stage, seconds

    def append(self, entry: Entry) -> Awaitable[None] | None:
        self._stage.now += self._seconds
        return self._stage.journal.append(entry)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("stream", [False, True])
def test_time_until_there_is_a_connection_is_the_upstreams_but_no_latency_of_its_answer(
    stage: Stage, *, stream: bool
) -> None:
    said = stage.stream_of(*stage.events_of()) if stream else stage.answer_of()
    connecting, answering = stage.pass_time(0.25), stage.pass_time(0.5)
    stage.a.script = [said._replace(dialling=[connecting], waiting=[answering])]
    done = run(stage, body=STREAM if stream else None)
    (ended,) = done.attempts
    assert (done.seconds, done.overhead_seconds) == (0.75, 0.0)
    assert (ended.attempt.latency_ms, ended.first_byte_ms) == (500.0, 500.0)
    assert done.first_byte_seconds == 0.5


def test_time_spent_on_a_connection_that_never_came_is_the_upstreams(stage: Stage) -> None:
    failed = stage.failure(Fate.CONNECT_TIMEOUT)
    stage.a.script = [failed._replace(dialling=[stage.pass_time(5.0), *failed.dialling])]
    done = run(stage, "a", "b")
    assert (done.status, done.seconds, done.overhead_seconds) == (200, 5.0, 0.0)
    assert [ended.attempt.latency_ms for ended in done.attempts] == [0.0, 0.0]


def test_time_on_a_connection_is_the_upstreams_also_where_both_calls_of_a_hedge_need_it(
    stage: Stage,
) -> None:
    stage.a.script = [stage.answer_of()._replace(dialling=[stage.pass_time(0.25)])]
    done = run(stage, hedge_after_seconds=9.0)
    assert (done.seconds, done.overhead_seconds) == (0.25, 0.0)


def test_time_that_the_journal_takes_stays_the_endpoints_own(stage: Stage) -> None:
    stage.house.keeper = Keeper(Dawdling(stage, 0.125))
    stage.a.script = [stage.answer_of()._replace(dialling=[stage.pass_time(0.5)])]
    done = run(stage)
    assert (done.seconds, done.overhead_seconds) == (0.75, 0.25)
    assert done.attempts[0].attempt.latency_ms == 0.0


def test_a_caller_that_leaves_while_it_is_connected_cost_the_endpoint_no_time(stage: Stage) -> None:
    async def hang_up() -> None:
        stage.now += 2.0
        stage.leave()
        await asyncio.sleep(1)

    stage.a.script = [stage.answer_of()._replace(dialling=[hang_up])]
    done = run(stage)
    assert (done.status, done.attempts[0].fate) == (499, Fate.WITHDRAWN)
    assert (done.seconds, done.overhead_seconds) == (2.0, 0.0)
    stage.check_books()


@pytest.mark.parametrize("begun", [0, 1, 2])
def test_a_broken_stream_waits_for_no_collector(stage: Stage, begun: int) -> None:
    stage.a.script = [stage.stream_of(*stage.events_of()[:begun], breaks)]

    async def story() -> weakref.ref[ScriptedReply]:
        await stage.answer(stage.asked(body=STREAM, max_attempts=1))
        return weakref.ref(stage.a.replies.pop())

    gc.collect()
    gc.disable()
    try:
        reply = asyncio.run(story())
        assert reply() is None
    finally:
        gc.enable()


def test_a_call_that_was_never_made_for_a_fault_of_ours_is_not_counted(stage: Stage) -> None:
    class OursError(RuntimeError):
        pass

    stage.a.script = [stage.answer_of()._replace(dialling=[OursError()])]
    with pytest.raises(OursError):
        run(stage)
    assert (stage.desk.open, stage.desk.settled) == ({}, [])
    stage.a.script = [stage.answer_of()._replace(waiting=[OursError()])]
    with pytest.raises(OursError):
        run(stage)
    assert (stage.desk.open, stage.desk.settled) == ({}, [("hold 1", 0, 0)])
