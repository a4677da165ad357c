"""What the books need of an answer, read off while its bytes pass untouched."""

from __future__ import annotations

import gc
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.calls import Seen
from stillhouse.core.catalogue import Wire
from stillhouse.dialects.paths import USAGE_DIALECT
from stillhouse.dialects.seen import StreamEye, read_body
from stillhouse.dialects.sse import encode, events
from stillhouse.ledger.usage import decompose

USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}


def chunk(**members: Any) -> bytes:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-6-luna"}
    return encode("", json.dumps({**head, **members}, separators=(",", ":")).encode())


def delta(text: str | None, finish: str | None = None, **members: Any) -> bytes:
    said = {} if text is None else {"content": text}
    return chunk(choices=[{"index": 0, "delta": said, "finish_reason": finish}], **members)


def named(kind: str, **members: Any) -> bytes:
    return encode(kind, json.dumps({"type": kind, **members}).encode())


DONE = b"data: [DONE]\n\n"
CHAT = [
    delta("", usage=None),
    delta('say "usage":null, ', usage=None),
    delta("data: [DONE]\n\n", usage=None),
    delta(None, "stop", usage=None),
    chunk(choices=[], usage=USAGE, service_tier="flex"),
    DONE,
]
CHAT_TEXT = 'say "usage":null, data: [DONE]\n\n'
MESSAGES = [
    named(
        "message_start",
        message={
            "model": "claude-sonnet-5",
            "usage": {"input_tokens": 25, "cache_read_input_tokens": 100, "output_tokens": 1},
        },
    ),
    named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    named("ping"),
    named("content_block_delta", index=0, delta={"type": "text_delta", "text": "message_stop "}),
    named("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
    named("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": "{"}),
    named("content_block_stop", index=0),
    named(
        "message_delta",
        delta={"stop_reason": "end_turn"},
        usage={"input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 15},
    ),
    named("message_stop"),
]
RESPONSES = [
    named("response.created", response={"model": "gpt-6", "usage": None, "error": None}),
    named("response.output_text.delta", delta="Hello ", output_index=0),
    named("response.function_call_arguments.delta", delta="{}", output_index=1),
    named("response.output_text.done", text="Hello ", output_index=0),
    named(
        "response.completed",
        response={
            "model": "gpt-6",
            "service_tier": "priority",
            "error": None,
            "usage": {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9},
        },
    ),
]
STREAMS = {Wire.CHAT: CHAT, Wire.MESSAGES: MESSAGES, Wire.RESPONSES: RESPONSES}


def watch(chunks: list[bytes], wire: Wire, *, hide: bool = False) -> tuple[bytes, StreamEye]:
    eye = StreamEye(wire, hide_usage=hide)
    passed = b"".join([eye.feed(one) for one in chunks])
    return passed + eye.rest(), eye


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(at, len(stream)) for at in cuts} | {0, len(stream)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


CUTS = st.lists(st.integers(0, 2000), max_size=12)


@pytest.mark.parametrize("wire", list(STREAMS))
def test_the_same_object_passes_on(wire: Wire) -> None:
    eye = StreamEye(wire, hide_usage=False)
    assert all(eye.feed(one) is one for one in STREAMS[wire])
    assert eye.stream() == b"".join(STREAMS[wire])
    assert eye.rest() == b""


@given(st.sampled_from(list(STREAMS)), CUTS, st.booleans())
def test_any_cutting_tells_the_same(wire: Wire, cuts: list[int], hide: bool) -> None:
    _, whole = watch(STREAMS[wire], wire)
    chunks = cut(b"".join(STREAMS[wire]), cuts)
    _, eye = watch(chunks, wire, hide=hide)
    assert eye.ended
    assert eye.end() == whole.end()
    assert eye.text_seen() == whole.text_seen()


@given(st.sampled_from(list(STREAMS)), CUTS)
def test_the_end_is_seen_with_the_last_byte_and_not_before(wire: Wire, cuts: list[int]) -> None:
    eye = StreamEye(wire, hide_usage=False)
    chunks = cut(b"".join(STREAMS[wire]), cuts)
    seen = []
    for one in chunks:
        eye.feed(one)
        seen.append(eye.ended)
    assert seen == [False] * (len(chunks) - 1) + [True]


def test_a_chat_stream_is_read() -> None:
    _, eye = watch(CHAT, Wire.CHAT)
    assert eye.end() == Seen(USAGE, "gpt-6-luna", "flex", None, True, "")
    assert eye.text_seen() == CHAT_TEXT


def test_usage_of_a_message_is_merged_as_anthropic_counts_it() -> None:
    """Cumulative: the later count holds; a 0 does not take away input that was counted."""
    _, eye = watch(MESSAGES, Wire.MESSAGES)
    seen = eye.end()
    assert seen.usage_body == {
        "input_tokens": 25,
        "cache_read_input_tokens": 100,
        "output_tokens": 15,
    }
    assert (seen.model, seen.complete) == ("claude-sonnet-5", True)
    assert eye.text_seen() == "message_stop hm{"


def test_usage_of_a_response_stands_in_its_last_event() -> None:
    _, eye = watch(RESPONSES, Wire.RESPONSES)
    seen = eye.end()
    assert seen.usage_body == {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}
    assert (seen.model, seen.service_tier, seen.complete) == ("gpt-6", "priority", True)
    assert eye.text_seen() == "Hello {}"


@given(CUTS, st.sampled_from([b"\n", b"\r\n"]))
def test_the_usage_event_is_hidden_and_nothing_else(cuts: list[int], line_end: bytes) -> None:
    stream = b"".join(CHAT).replace(b"\n", line_end)
    passed, eye = watch(cut(stream, cuts), Wire.CHAT, hide=True)
    kept = [json.loads(event.data) for event in events(passed)[:-1]]
    asked = [json.loads(event.data) for event in events(stream)[:-1]]
    for one in asked:
        if one.get("usage", 0) is None:
            del one["usage"]
    assert kept == [one for one in asked if "usage" not in one]
    assert passed.endswith(b"data: [DONE]" + 2 * line_end)
    assert eye.end().usage_body == USAGE


@pytest.mark.parametrize(
    "written",
    [
        b'data: {"choices":[{"delta":{"content":"a"}}], "usage" : null }\n\n',
        b'data: {"usage":null,"choices":[{"delta":{"content":"a"}}]}\n\n',
        b'data: {"usage": null , "choices":[{"delta":{"content":"a"}}]}\n\n',
    ],
)
def test_null_usage_is_removed_however_it_is_written(written: bytes) -> None:
    passed, _ = watch([written], Wire.CHAT, hide=True)
    assert json.loads(events(passed)[0].data) == {"choices": [{"delta": {"content": "a"}}]}


def test_chunks_that_carry_more_than_usage_are_not_dropped() -> None:
    """Azure's first event has no choices; DeepSeek sends its usage with the last choice."""
    chunks = [
        chunk(choices=[], prompt_filter_results=[{}], usage=None),
        delta(None, "stop", usage=USAGE),
        DONE,
    ]
    passed, eye = watch(chunks, Wire.CHAT, hide=True)
    assert [len(e.data) > 6 for e in events(passed)] == [True, True, False]
    assert passed.endswith(chunks[1] + DONE)
    assert eye.end().usage_body == USAGE


def test_hiding_leaves_other_chunks_the_same_object() -> None:
    eye = StreamEye(Wire.CHAT, hide_usage=True)
    plain = delta("Hi")
    assert eye.feed(plain) is plain


def test_what_is_held_back_of_a_cut_event_can_be_had() -> None:
    passed, _ = watch([b'data: {"choi'], Wire.CHAT, hide=True)
    assert passed == b'data: {"choi'


@given(st.sampled_from(list(STREAMS)), st.integers(0, 2000))
def test_a_stream_that_breaks_off_is_not_complete(wire: Wire, length: int) -> None:
    """Unless only line ends are missing, or of a chat stream what follows its finish reason."""
    stream = b"".join(STREAMS[wire])
    short = stream[:length]
    _, eye = watch([short], wire)
    seen = eye.end()
    last = STREAMS[wire][3] if wire is Wire.CHAT else STREAMS[wire][-1]
    enough = stream.index(last) + len(last.rstrip())
    if len(short) < enough:
        assert not seen.complete
    assert seen.error == ""


def test_a_chat_stream_without_done_is_complete_once_all_choices_finished() -> None:
    _, one = watch([delta("Hi"), delta(None, "stop")], Wire.CHAT)
    assert one.end().complete
    second = chunk(choices=[{"index": 1, "delta": {"content": "x"}, "finish_reason": None}])
    _, two = watch([delta("Hi"), second, delta(None, "stop")], Wire.CHAT)
    assert not two.end().complete


@pytest.mark.parametrize("garbage", [b"data: {oops}\n\n", b"data: <html>\n\n", b'data: "x"\n\n'])
def test_garbage_in_a_stream_is_noted(garbage: bytes) -> None:
    _, eye = watch([CHAT[0], garbage, *CHAT[1:]], Wire.CHAT)
    seen = eye.end()
    assert (seen.complete, seen.usage_body) == (False, USAGE)
    assert "event 2" in seen.error


LINES = st.sampled_from(
    [
        *CHAT[:-1],
        encode("", b'{"error":{"message":"Overloaded"},"service_tier":"flex"}'),
        encode("", b'{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}'),
        encode("", b'{"usage":{},"model":[1],"response":7}'),
        b"data: {oops}\n\n",
        b'data: {"a":\n1}\n\n',
        b'data: {"a":\ndata: 1}\n\n',
        b"data: [1]\n\n",
    ]
)


@given(
    st.lists(LINES, max_size=6), st.sampled_from([DONE, b"", b'data: {"mod', b"data:[DONE]\n\n"])
)
def test_a_stream_of_data_alone_tells_what_one_with_other_lines_tells(
    some: list[bytes], last: bytes
) -> None:
    _, plain = watch([*some, last], Wire.CHAT)
    _, remarked = watch([b": hello\n\n", *some, last], Wire.CHAT)
    _, windows = watch([b"\r\n", *some, last], Wire.CHAT)
    assert plain.end() == remarked.end() == windows.end()


@given(st.lists(LINES, max_size=6), st.booleans(), st.integers(1, 9))
def test_whole_events_pass_as_they_do_in_pieces(some: list[bytes], done: bool, at: int) -> None:
    stream = [*some, DONE] if done else some
    whole, eye = watch(stream, Wire.CHAT, hide=True)
    for pieces in (
        [byte for event in stream for byte in cut(event, list(range(len(event))))],
        [piece for event in stream for piece in cut(event, [at])],
    ):
        assert watch(pieces, Wire.CHAT, hide=True)[0] == whole
    assert eye.ended is done


@pytest.mark.parametrize(
    ("wire", "event", "text"),
    [
        (Wire.CHAT, encode("", b'{"error":{"message":"Overloaded","code":529}}'), "Overloaded"),
        (Wire.CHAT, encode("", b'{"error":"boom"}'), "boom"),
        (
            Wire.MESSAGES,
            named("error", error={"type": "overloaded_error", "message": "Overloaded"}),
            "Overloaded",
        ),
        (Wire.RESPONSES, named("error", code="x", message="No", param=None), "No"),
    ],
)
def test_an_error_event_makes_a_stream_incomplete(wire: Wire, event: bytes, text: str) -> None:
    _, eye = watch([*STREAMS[wire][:2], event, STREAMS[wire][-1]], wire)
    seen = eye.end()
    assert (seen.complete, seen.error) == (False, text)


def test_a_failed_response_is_whole_and_tells_why() -> None:
    failed = named(
        "response.failed", response={"model": "gpt-6", "error": {"code": "x", "message": "Sorry"}}
    )
    _, eye = watch([RESPONSES[0], failed], Wire.RESPONSES)
    seen = eye.end()
    assert (eye.ended, seen.complete, seen.error) == (True, True, "Sorry")


def test_half_a_surrogate_pair_in_a_delta_is_no_garbage() -> None:
    halves = [delta("\ud83d"), delta("\ude00"), delta(None, "stop"), DONE]
    _, eye = watch(halves, Wire.CHAT)
    assert eye.end() == Seen(None, "gpt-6-luna", "", None, True, "")


def test_nothing_heard_is_nothing_seen() -> None:
    for wire in STREAMS:
        eye = StreamEye(wire, hide_usage=True)
        assert (eye.ended, eye.end(), eye.text_seen()) == (False, Seen(complete=False), "")


@given(st.binary(max_size=80), st.sampled_from(list(STREAMS)), st.booleans())
def test_no_bytes_break_it(stream: bytes, wire: Wire, hide: bool) -> None:
    passed, eye = watch([stream], wire, hide=hide)
    assert eye.end().complete is False or b"data" in stream
    assert eye.text_seen() == "" or b"data" in stream
    assert passed == stream or b'"usage"' in stream


def test_a_body_is_read() -> None:
    body = {"model": "m", "service_tier": "default", "usage": {**USAGE, "cost": 0.0015}}
    seen = read_body(json.dumps(body).encode(), Wire.CHAT)
    assert seen == Seen(body["usage"], "m", "default", 0.0015, True, "")  # type: ignore[arg-type]


def test_anthropics_tier_stands_in_its_usage() -> None:
    body = b'{"model":"c","usage":{"input_tokens":1,"service_tier":"priority"}}'
    assert read_body(body, Wire.MESSAGES).service_tier == "priority"


@pytest.mark.parametrize(
    "body", [b"", b'{"model":"m"', b'{"usage":{"prompt_tok', b"[]", b"null", b"<html>", b"[" * 9999]
)
def test_a_cut_or_foreign_body_is_not_complete(body: bytes) -> None:
    assert read_body(body, Wire.CHAT) == Seen(complete=False)


def test_an_error_in_a_body_of_status_200_is_told() -> None:
    seen = read_body(b'{"error":{"message":"No provider","code":502}}', Wire.CHAT)
    assert (seen.error, seen.complete) == ("No provider", True)


def test_members_of_a_wrong_type_count_as_absent() -> None:
    seen = read_body(b'{"model":1,"usage":[1],"service_tier":{},"error":null}', Wire.CHAT)
    assert seen == Seen()


@pytest.mark.parametrize("wire", list(STREAMS))
def test_the_ledger_can_read_what_was_seen(wire: Wire) -> None:
    _, eye = watch(STREAMS[wire], wire)
    usage = eye.end().usage_body
    assert usage is not None
    assert decompose(usage, USAGE_DIALECT[wire]).total_output_tokens > 0


@pytest.mark.parametrize("hides", [False, True])
def test_a_stream_that_nobody_needs_any_more_is_freed_at_once(hides: bool) -> None:
    eye = StreamEye(Wire.CHAT, hide_usage=hides)
    eye.feed(delta("Hi"))
    eye.feed(DONE)
    assert eye.end().complete
    assert gc.get_referrers(eye) == [], "what holds the eye is held by it"


@pytest.mark.parametrize("data", [b'{"choices": []},{"choices": []}', b" "])
def test_a_line_with_two_objects_or_none_is_no_event(data: bytes) -> None:
    eye = StreamEye(Wire.CHAT, hide_usage=False)
    eye.feed(b"data: %s\n\ndata: [DONE]\n\n" % data)
    assert eye.end().error == "event 1 of the stream is no JSON object"
