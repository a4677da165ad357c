from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import OnDisconnect, Wire
from stillhouse.core.errors import UpstreamError
from stillhouse.core.quotas import Denied
from stillhouse.flows.answer import answer

if TYPE_CHECKING:
    from tests.flows.conftest import Says, Stage

Play = Callable[["Stage", bool, Wire], "Says"]


def whole(stage: Stage, stream: bool, wire: Wire) -> Says:
    if stream:
        return stage.stream_of(*stage.events_of(wire=wire))
    return stage.answer_of(wire=wire)


def uncounted(stage: Stage, stream: bool, wire: Wire) -> Says:
    if stream:
        return stage.stream_of(*stage.events_of(usage=None, wire=wire))
    return stage.answer_of(usage=None, wire=wire)


def contradictory(stage: Stage, stream: bool, wire: Wire) -> Says:
    return stage.answer_of(counts={"prompt_tokens": -5, "input_tokens": "many"}, wire=wire)


def huge(stage: Stage, stream: bool, wire: Wire) -> Says:
    most = {"prompt_tokens": 10**30, "input_tokens": 10**30, "output_tokens": 10**30}
    return stage.answer_of(counts={**most, "cost": "1e400"}, wire=wire)


def odd(stage: Stage, stream: bool, wire: Wire) -> Says:
    return stage.answer_of(wire=wire, model="another", service_tier="never-heard-of")


def cut(stage: Stage, stream: bool, wire: Wire) -> Says:
    broken = UpstreamError(Fate.TRUNCATED, "cut")
    if stream:
        return stage.stream_of(*stage.events_of(wire=wire)[:2], broken)
    return stage.answer_of()._replace(parts=[b"{", broken])


def empty(stage: Stage, stream: bool, wire: Wire) -> Says:
    return stage.stream_of()


def garbage(stage: Stage, stream: bool, wire: Wire) -> Says:
    return stage.stream_of(b"data: {[}\n\n", b"\x16\x03\x01")


def leaves_dialling(stage: Stage, stream: bool, wire: Wire) -> Says:
    return whole(stage, stream, wire)._replace(dialling=[stage.leave, asyncio.Event().wait])


def leaves_waiting(stage: Stage, stream: bool, wire: Wire) -> Says:
    return whole(stage, stream, wire)._replace(waiting=[stage.leave, asyncio.Event().wait])


def leaves_midway(stage: Stage, stream: bool, wire: Wire) -> Says:
    first, *rest = whole(stage, stream, wire).parts
    said = whole(stage, stream, wire)
    return said._replace(parts=[first, stage.leave, lambda: asyncio.sleep(0), *rest])


def leaves_unseen(stage: Stage, stream: bool, wire: Wire) -> Says:
    return stage.refusal(503)._replace(waiting=[stage.reader_leaves_unseen])


def status(number: int) -> Play:
    return lambda stage, stream, wire: stage.refusal(number)


def fate(name: Fate) -> Play:
    return lambda stage, stream, wire: stage.failure(name)


WORST = [whole, uncounted, contradictory, huge, odd, cut, empty, garbage, leaves_midway]
LEAVING = [leaves_dialling, leaves_waiting, leaves_unseen]
STATUSES = [status(n) for n in (302, 400, 401, 408, 409, 429, 500, 503, 529)]
BROKEN = [
    fate(name)
    for name in Fate
    if name not in (Fate.OK, Fate.STATUS, Fate.CALLER_GONE, Fate.WITHDRAWN, Fate.INTERRUPTED)
]


def later(play: Play, turns: int, *, sent: bool) -> Play:
    """The same after some turns of the loop: of two calls at once, any may be ahead."""

    def played(stage: Stage, stream: bool, wire: Wire) -> Says:
        said, pauses = play(stage, stream, wire), [lambda: asyncio.sleep(0)] * turns
        if sent:
            return said._replace(waiting=[*pauses, *said.waiting])
        return said._replace(dialling=[*pauses, *said.dialling])

    return played


PLAYS = st.builds(
    later,
    st.sampled_from([*WORST, *LEAVING, *STATUSES, *BROKEN]),
    st.sampled_from([0, 0, 1, 2, 3, 5, 9]),
    sent=st.booleans(),
)


@dataclass(frozen=True)
class Request:
    """One request of a random day."""

    stream: bool
    to: tuple[str, ...]
    terms: dict[str, Any]
    plays: dict[str, list[Play]]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    to = draw(st.sampled_from([("a",), ("a", "b"), ("b", "claude"), ("claude",), ("a", "lists")]))
    terms = {
        "max_attempts": draw(st.integers(1, 4)),
        "pay_twice": draw(st.booleans()),
        "on_disconnect": draw(st.sampled_from(OnDisconnect)),
        "cache_seconds": draw(st.sampled_from([0, 0, 60])),
        "hedge_after_seconds": draw(st.sampled_from([None, None, 0.0])),
    }
    plays = {name: draw(st.lists(PLAYS, min_size=1, max_size=4)) for name in to}
    return Request(draw(st.booleans()), to, terms, plays)


FEW = st.sets(st.integers(0, 40), max_size=6)


@given(
    day=st.lists(requests(), min_size=1, max_size=6),
    refuses=FEW,
    doubtful=FEW,
    slow=st.booleans(),
    denies=FEW,
    waits=st.booleans(),
)
def test_whatever_happens_every_call_is_booked_once_and_every_hold_settled_once(
    make_stage: Callable[[], Stage],
    day: list[Request],
    refuses: set[int],
    doubtful: set[int],
    slow: bool,
    denies: set[int],
    waits: bool,
) -> None:
    async def story() -> Stage:
        stage = make_stage()
        stage.journal.refuses, stage.journal.doubtful = refuses, doubtful
        stage.journal.slow, stage.desk.waits = slow, waits
        stage.desk.denies = {number: Denied(None, "no", None) for number in denies}
        for number, request in enumerate(day, 1):
            _prepare(stage, request)
            reader = stage.new_reader()
            body = {"stream": request.stream, "temperature": 0, "user": str(number % 2)}
            asked = stage.asked(*request.to, body=body, number=number, **request.terms)
            done = await asyncio.wait_for(answer(stage.house, asked, reader), 5)
            assert reader.gone or reader.status == done.status
            assert {entry.exchange_id for entry in done.attempts} <= {asked.exchange_id}
        stage.journal.slow = False
        while stage.house.keeper.blocked:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        while stage.house.keeper.blocked:
            pass
        return stage

    stage = asyncio.run(story())
    stage.check_books()
    sent = sum(len(upstream.calls) for upstream in stage.upstreams.values())
    assert sent <= len(stage.journal.started)
    assert {row.in_flight for row in stage.house.health.standings(stage.now)} <= {0}


def _prepare(stage: Stage, request: Request) -> None:
    for name, plays in request.plays.items():
        wire = Wire.MESSAGES if name == "claude" else Wire.CHAT
        upstream = stage.upstreams[name]
        upstream.tried = 0
        upstream.script = [play(stage, request.stream, wire) for play in plays]
        if request.terms["on_disconnect"] is OnDisconnect.DRAIN:
            upstream.script = [_drained(said) for said in upstream.script]


def _drained(said: Says) -> Says:
    """A call that nobody may interrupt must not hang."""

    def brief(steps: Sequence[Any]) -> list[Any]:
        return [step for step in steps if getattr(step, "__name__", "") != "wait"]

    return said._replace(dialling=brief(said.dialling), waiting=brief(said.waiting))


@pytest.mark.parametrize("slow", [False, True])
def test_many_at_once_do_not_disturb_each_other(stage: Stage, *, slow: bool) -> None:
    async def story() -> None:
        def turn() -> object:
            return asyncio.sleep(0)

        stage.journal.slow = slow
        stage.a.script = [
            stage.answer_of()._replace(waiting=[turn, turn]),
            stage.refusal(503)._replace(waiting=[turn]),
            stage.failure(Fate.DROPPED),
        ] * 20
        stage.b.script = [stage.answer_of()._replace(waiting=[turn])]
        asked = [stage.asked("a", "b", number=number) for number in range(1, 61)]
        readers = [stage.new_reader() for _ in asked]
        story = (answer(stage.house, one, by) for one, by in zip(asked, readers, strict=True))
        for done in await asyncio.gather(*story):
            assert done.status == 200
        assert len(stage.journal.started) > 60

    asyncio.run(story())
    stage.check_books()
