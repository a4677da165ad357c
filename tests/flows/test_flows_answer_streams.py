from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from stillhouse.core.calls import Fate
from stillhouse.core.catalogue import OnDisconnect, Wire
from stillhouse.core.errors import UpstreamError
from stillhouse.core.traffic import Evidence, Usage

if TYPE_CHECKING:
    from tests.flows.conftest import Stage

COST = 600_000_000
BROKEN = UpstreamError(Fate.TRUNCATED, "upstream a closed the connection")
STREAM = {"stream": True}
ASKING = {"stream": True, "stream_options": {"include_usage": True}}


LONG = " ".join(f"word{n}" for n in range(49)) + " fifty"


def before(events: list[bytes], word: bytes) -> list[bytes]:
    """The events of a stream up to the one that holds a word."""
    return events[: next(place for place, event in enumerate(events) if word in event)]


def run(stage: Stage, *upstreams: str, **terms: Any) -> None:
    terms.setdefault("body", STREAM)
    asyncio.run(_story(stage, *upstreams, **terms))


async def _story(stage: Stage, *upstreams: str, **terms: Any) -> None:
    await stage.answer(stage.asked(*upstreams, **terms))


def test_a_stream_passes_through_and_its_last_event_leaves_once_it_is_booked(stage: Stage) -> None:
    told = stage.events_of()
    stage.a.script = [stage.stream_of(*told)]
    run(stage, body=ASKING)
    assert stage.reader.body == b"".join(told)
    assert stage.notes[:3] == ["started", "sent a", "begin"]
    assert stage.notes[-3:] == ["ended", f"settled {COST}", "end"]
    (ended,) = stage.journal.ended
    assert (ended.fate, ended.streamed, ended.answer.encode()) == (Fate.OK, True, b"".join(told))
    assert ended.attempt.evidence is Evidence.REPORTED
    assert dict(stage.reader.headers)[b"content-type"] == b"text/event-stream"
    assert b"content-length" not in dict(stage.reader.headers)
    stage.check_books()


def test_counts_are_asked_for_upstream_and_hidden_from_a_caller_that_did_not(stage: Stage) -> None:
    stage.a.script = [stage.stream_of(*stage.events_of())]
    run(stage)
    assert json.loads(stage.a.calls[0].body)["stream_options"] == {"include_usage": True}
    assert b"usage" not in stage.reader.body
    assert stage.reader.body.endswith(b"data: [DONE]\n\n")
    assert stage.watch.seen[-1].cost_pico == COST


def test_a_stream_in_pieces_of_any_size_says_the_same(stage: Stage) -> None:
    whole = b"".join(stage.events_of())
    stage.a.script = [stage.stream_of(*(whole[at : at + 7] for at in range(0, len(whole), 7)))]
    run(stage, body=ASKING)
    assert stage.reader.body == whole
    assert stage.watch.seen[-1].cost_pico == COST
    assert stage.notes.count("end") == 1
    stage.check_books()


def test_a_stream_without_its_mark_of_the_end_is_whole_once_every_choice_has_ended(
    stage: Stage,
) -> None:
    stage.a.script = [stage.stream_of(*stage.events_of()[:-1])]
    run(stage, body=ASKING)
    assert stage.journal.ended[0].fate is Fate.OK
    assert stage.reader.body == b"".join(stage.events_of()[:-1])


@pytest.mark.parametrize("wire", [Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES])
@pytest.mark.parametrize("how", [[], [BROKEN]])
def test_a_stream_that_dies_is_ended_in_the_callers_format_and_by_no_other_model(
    stage: Stage, wire: Wire, how: list[Exception]
) -> None:
    stage.change_upstream("a", wires=(wire,))
    half = before(stage.events_of(LONG, wire=wire), b"fifty")
    stage.a.script = [stage.stream_of(*half, *how)]
    body = ASKING if wire is Wire.CHAT else STREAM
    run(stage, "a", "b", wire=wire, pay_twice=True, max_attempts=5, body=body)
    assert stage.b.tried == 0
    assert stage.a.tried == 1
    (ended,) = stage.journal.ended
    assert (ended.fate, ended.last, ended.attempt.ok) == (Fate.TRUNCATED, True, False)
    assert ended.attempt.evidence is Evidence.ESTIMATED
    begun, last = stage.reader.body.rstrip().rsplit(b"data:", 1)
    assert b"".join(half).strip() in begun
    assert "broke off" in json.dumps(json.loads(last))
    assert stage.notes.count("end") == 1
    assert stage.a.replies[0].cancelled
    stage.check_books()


def test_what_was_seen_of_a_stream_that_died_is_what_it_is_taken_to_have_used(
    stage: Stage,
) -> None:
    half = before(stage.events_of(LONG), b"fifty")
    stage.a.script = [stage.stream_of(*half, BROKEN)]
    run(stage)
    (ended,) = stage.journal.ended
    deltas = [json.loads(event[5:])["choices"][0]["delta"] for event in half]
    seen = "".join(delta.get("content") or "" for delta in deltas)
    assert len(seen.split()) > 9
    assert ended.attempt.usage == Usage(input_tokens=2, output_tokens=len(seen.split()))
    assert "closed the connection" in ended.error


@pytest.mark.parametrize("fate", [Fate.TRUNCATED, Fate.DROPPED])
def test_a_stream_that_dies_before_its_first_byte_is_only_a_failed_call(
    stage: Stage, fate: Fate
) -> None:
    stage.a.script = [stage.stream_of(UpstreamError(fate, "gone"))]
    stage.b.script = [stage.stream_of(*stage.events_of())]
    run(stage, "a", "b", pay_twice=True)
    assert [entry.fate for entry in stage.journal.ended] == [fate, Fate.OK]
    assert stage.notes.count("begin") == 1
    stage.check_books()


def test_an_error_instead_of_a_stream_is_an_error(stage: Stage) -> None:
    stage.a.script = [stage.refusal(429, message="slow down")]
    run(stage, max_attempts=1)
    assert stage.reader.status == 429
    assert stage.reader.told["error"]["message"] == "slow down"
    assert stage.journal.ended[0].streamed is False
    stage.check_books()


def test_a_failure_that_is_an_event_is_passed_on_and_booked_as_no_success(stage: Stage) -> None:
    stage.change_upstream("a", wires=(Wire.RESPONSES,))
    failed = {
        "type": "response.failed",
        "response": {
            "id": "r", "model": "m", "status": "failed", "error": {"message": "it broke"},
            "usage": {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120},
        },
    }  # fmt: skip
    event = b"event: response.failed\ndata: %s\n\n" % json.dumps(failed).encode()
    stage.a.script = [stage.stream_of(event)]
    run(stage, wire=Wire.RESPONSES, body={"stream": True, "input": "hi"})
    (ended,) = stage.journal.ended
    assert stage.reader.body == event
    assert (ended.attempt.ok, ended.error) == (False, "it broke")
    assert stage.watch.seen[-1].cost_pico == COST
    stage.check_books()


def test_an_event_that_is_no_json_spoils_the_stream_but_is_passed_on(stage: Stage) -> None:
    told = stage.events_of()
    told.insert(1, b'data: {"choices": [{]\n\n')
    stage.a.script = [stage.stream_of(*told)]
    run(stage, body=ASKING)
    assert stage.reader.body.startswith(b"".join(told[:3]))
    assert stage.journal.ended[0].fate is Fate.GARBAGE
    assert stage.journal.ended[0].last
    stage.check_books()


def test_a_stream_is_translated_event_by_event_and_kept_as_it_came(stage: Stage) -> None:
    claude = stage.upstreams["claude"]
    told = stage.events_of("sun moon", wire=Wire.MESSAGES)
    claude.script = [stage.stream_of(*told)]
    run(stage, "claude", body=ASKING)
    events = [event for event in stage.reader.body.split(b"\n\n") if event]
    assert events[-1] == b"data: [DONE]"
    chunks = [json.loads(event[5:]) for event in events[:-1]]
    text = "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert text == "sun moon"
    (ended,) = stage.journal.ended
    assert ended.answer.encode() == b"".join(told)
    assert stage.watch.seen[-1].cost_pico == COST
    stage.check_books()


@pytest.mark.parametrize("body", [STREAM, {}])
def test_a_caller_that_leaves_while_nothing_was_sent_has_bought_nothing(
    stage: Stage, body: dict[str, object]
) -> None:
    hang = [stage.reader.leave, asyncio.Event().wait]
    stage.a.script = [stage.answer_of()._replace(dialling=hang)]
    run(stage, "a", "b", body=body)
    (ended,) = stage.journal.ended
    assert (ended.fate, ended.attempt.usage) == (Fate.WITHDRAWN, Usage())
    assert stage.desk.settled == [("hold 0", 0, 0)]
    assert stage.watch.seen[-1].status == 499
    assert stage.b.tried == 0
    stage.check_books()


@pytest.mark.parametrize("body", [STREAM, {}])
def test_a_caller_that_leaves_before_the_answer_has_bought_what_may_have_been_written(
    stage: Stage, body: dict[str, object]
) -> None:
    hang = [stage.reader.leave, asyncio.Event().wait]
    stage.a.script = [stage.answer_of()._replace(waiting=hang)]
    run(stage, "a", "b", body=body)
    (ended,) = stage.journal.ended
    assert (ended.fate, ended.last, ended.attempt.ok) == (Fate.CALLER_GONE, True, False)
    assert ended.attempt.usage == Usage(input_tokens=2, output_tokens=256)
    assert ended.attempt.evidence is Evidence.ESTIMATED
    assert stage.watch.seen[-1].status == 499
    assert stage.b.tried == 0
    stage.check_books()


def test_a_caller_that_leaves_midway_ends_the_call_and_has_bought_what_was_seen(
    stage: Stage,
) -> None:
    half = before(stage.events_of(LONG), b"fifty")
    stage.a.script = [stage.stream_of(*half, stage.reader.leave, asyncio.Event().wait)]
    run(stage)
    (ended,) = stage.journal.ended
    assert (ended.fate, ended.status) == (Fate.CALLER_GONE, 200)
    assert ended.attempt.usage is not None
    assert 9 < ended.attempt.usage.output_tokens < 50
    assert ended.attempt.evidence is Evidence.ESTIMATED
    assert stage.a.replies[0].cancelled
    assert "end" not in stage.notes
    stage.check_books()


def test_a_caller_that_leaves_a_body_half_way_cancels_it(stage: Stage) -> None:
    said = stage.answer_of()
    stage.a.script = [said._replace(parts=[b"{", stage.reader.leave, asyncio.Event().wait])]
    run(stage, body={})
    assert stage.journal.ended[0].fate is Fate.CALLER_GONE
    assert stage.a.replies[0].cancelled
    stage.check_books()


def test_a_caller_that_leaves_an_error_half_way_has_bought_nothing(stage: Stage) -> None:
    stage.a.script = [
        stage.refusal(400)._replace(parts=[b"{", stage.reader.leave, asyncio.Event().wait])
    ]
    run(stage, body={})
    (ended,) = stage.journal.ended
    assert (ended.fate, ended.status, ended.attempt.usage) == (Fate.CALLER_GONE, 400, Usage())


@pytest.mark.parametrize("body", [ASKING, {}])
def test_a_drained_call_is_heard_to_its_end_whoever_has_left(
    stage: Stage, body: dict[str, object]
) -> None:
    def leaves() -> object:
        stage.reader.leave()
        return asyncio.sleep(0)

    if body:
        told = stage.events_of()
        stage.a.script = [stage.stream_of(*told[:2], leaves, *told[2:])]
    else:
        stage.a.script = [stage.answer_of()._replace(waiting=[leaves])]
    run(stage, body=body, on_disconnect=OnDisconnect.DRAIN)
    (ended,) = stage.journal.ended
    assert (ended.fate, ended.attempt.evidence) == (Fate.OK, Evidence.REPORTED)
    assert stage.watch.seen[-1].cost_pico == COST
    assert not stage.a.replies[0].cancelled
    stage.check_books()


def test_a_caller_that_leaves_while_its_call_is_booked_changes_nothing(stage: Stage) -> None:
    async def story() -> None:
        stage.journal.slow = True
        (said,) = stage.a.script

        def soon() -> None:
            asyncio.get_running_loop().call_soon(stage.reader.leave)

        stage.a.script = [said._replace(parts=[*said.parts, soon])]
        await stage.answer(stage.asked())

    asyncio.run(story())
    assert stage.reader.gone
    assert stage.journal.ended[0].fate is Fate.OK
    assert stage.watch.seen[-1].cost_pico == COST
    stage.check_books()


@pytest.mark.parametrize("body", [STREAM, {}])
def test_a_worker_that_is_told_to_stop_does_not_take_it_for_a_caller_that_left(
    stage: Stage, body: dict[str, object]
) -> None:
    async def story() -> None:
        waits = asyncio.Event()
        stage.a.script = [stage.answer_of()._replace(waiting=[waits.set, asyncio.Event().wait])]
        answering = asyncio.create_task(stage.answer(stage.asked(body=body)))
        await waits.wait()
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering

    asyncio.run(story())
    assert stage.notes == ["started", "sent a"], "the folder books it as interrupted"


def test_the_time_to_the_first_byte_is_that_of_the_upstream(stage: Stage) -> None:
    told = stage.events_of()
    stage.a.script = [
        stage.stream_of(stage.pass_time(0.5), told[0], stage.pass_time(2.0), *told[1:])
    ]
    run(stage)
    (ended,) = stage.journal.ended
    assert (ended.first_byte_ms, ended.attempt.latency_ms) == (500.0, 2500.0)
    assert stage.watch.seen[-1].first_byte_seconds == 0.5
    assert stage.watch.seen[-1].overhead_seconds == 0.0
    (standing, *_) = stage.house.health.standings(stage.now)
    assert standing.latency_seconds == 0.5
