"""Translated streams: event for event what the official clients expect, however the bytes come."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_comply.schema import _BUNDLED_SPEC, SpecLoader
from llm_comply.test_case import ValidatorContext
from llm_comply.tests.anthropic import ANTHROPIC_TESTS
from llm_comply.tests.open_responses import OPEN_RESPONSES_TESTS
from llm_comply.tests.openai_chat import OPENAI_CHAT_TESTS
from openai._types import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from stillhouse.core.catalogue import Wire
from stillhouse.dialects.assemble import assemble
from stillhouse.dialects.sse import events
from stillhouse.dialects.translate import Translation, translation

Json = dict[str, Any]

_ANTHROPIC_EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
_RESPONSES_EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
_OPEN_RESPONSES = SpecLoader(str(_BUNDLED_SPEC))


def _known(caller: Wire, upstream: Wire) -> Translation:
    found = translation(caller, upstream)
    assert found is not None
    return found


def _translated(
    caller: Wire, upstream: Wire, stream: bytes, cuts: Iterable[int] = (), asked: bytes = b""
) -> bytes:
    translator = _known(caller, upstream).stream("m", asked=asked, created=7)
    said, at = b"", 0
    for cut in [*sorted(cuts), len(stream)]:
        said += translator.feed(stream[at:cut])
        at = cut
    return said + translator.end()


def _payloads(stream: bytes) -> list[Json]:
    return [json.loads(event.data) for event in events(stream) if event.data != b"[DONE]"]


def _chat_stream(*deltas: Json, finish: str | None = "stop", usage: Json | None = None) -> bytes:
    head = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 5, "model": "up"}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    if finish:
        last = {"index": 0, "delta": {}, "finish_reason": finish}
        chunks.append({**head, "choices": [last]})
    if usage:
        chunks.append({**head, "choices": [], "usage": usage})
    return b"".join(b"data: %s\n\n" % json.dumps(c).encode() for c in chunks) + b"data: [DONE]\n\n"


def _messages_stream(*said: Json) -> bytes:
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event).encode())
        for event in said
    )


def _call(index: int, call_id: str, name: str, arguments: str) -> Json:
    function = {"name": name, "arguments": arguments}
    return {
        "tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]
    }


def _more(index: int, arguments: str) -> Json:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


def _message(stream: bytes) -> Message:
    """Put a Messages stream together as Anthropic's own client does."""
    snapshot, buffers = None, {}  # type: ignore[var-annotated]
    for payload in _payloads(stream):
        event = _ANTHROPIC_EVENT.validate_python(payload)
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    assert snapshot is not None
    return snapshot


def _completion(stream: bytes) -> ChatCompletion:
    """Put a chat stream together as OpenAI's own client does."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for payload in _payloads(stream):
        state.handle_chunk(ChatCompletionChunk.model_validate(payload))
    return state.get_final_completion()


def _response(stream: bytes) -> Response:
    """Put a Responses stream together as OpenAI's own client does."""
    state: ResponseStreamState[None] = ResponseStreamState(input_tools=omit, text_format=omit)
    last: Any = None
    for payload in _payloads(stream):
        last = state.handle_event(_RESPONSES_EVENT.validate_python(payload))[-1]
    response: Response = last.response
    return response


USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 6},
    "completion_tokens_details": {"reasoning_tokens": 12},
}

CHAT = _chat_stream(
    {"role": "assistant", "content": ""},
    {"reasoning_content": "Let me "},
    {"reasoning_content": "see."},
    {"content": "Two cities"},
    {"content": ": Åsgård \U0001f3d4."},
    _call(0, "call_a", "weather", ""),
    _more(0, '{"city": '),
    _more(0, '"Oslo"}'),
    _call(1, "call_b", "weather", '{"city": "Bergen"}'),
    finish="tool_calls",
    usage=USAGE,
)

MESSAGES = _messages_stream(
    {
        "type": "message_start",
        "message": {
            "id": "msg_9",
            "type": "message",
            "role": "assistant",
            "model": "claude-up",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 30,
                "cache_read_input_tokens": 64,
                "cache_creation_input_tokens": 6,
                "output_tokens": 1,
            },
        },
    },
    {"type": "ping"},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "Let me see."},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "signature_delta", "signature": "c2ln"},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "redacted_thinking", "data": "ZGF0YQ"},
    },
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "text_delta", "text": "Two cities: Åsgård."},
    },
    {"type": "content_block_stop", "index": 2},
    {
        "type": "content_block_start",
        "index": 3,
        "content_block": {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 3,
        "delta": {"type": "input_json_delta", "partial_json": ""},
    },
    {
        "type": "content_block_delta",
        "index": 3,
        "delta": {"type": "input_json_delta", "partial_json": '{"city": "Os'},
    },
    {
        "type": "content_block_delta",
        "index": 3,
        "delta": {"type": "input_json_delta", "partial_json": 'lo"}'},
    },
    {"type": "content_block_stop", "index": 3},
    {
        "type": "content_block_start",
        "index": 4,
        "content_block": {"type": "tool_use", "id": "toolu_b", "name": "now", "input": {}},
    },
    {"type": "content_block_stop", "index": 4},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 30, "output_tokens_details": {"thinking_tokens": 12}},
    },
    {"type": "message_stop"},
)

PAIRS = [
    (Wire.MESSAGES, Wire.CHAT, CHAT),
    (Wire.RESPONSES, Wire.CHAT, CHAT),
    (Wire.CHAT, Wire.MESSAGES, MESSAGES),
    (Wire.RESPONSES, Wire.MESSAGES, MESSAGES),
]


@pytest.mark.parametrize(("caller", "upstream", "stream"), PAIRS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cutting_of_the_upstreams_bytes_gives_the_same_stream(
    data: st.DataObject, caller: Wire, upstream: Wire, stream: bytes
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=40))
    assert _translated(caller, upstream, stream, cuts) == _translated(caller, upstream, stream)


@pytest.mark.parametrize(("caller", "upstream", "stream"), PAIRS)
def test_single_bytes_give_the_same_stream(caller: Wire, upstream: Wire, stream: bytes) -> None:
    single = _translated(caller, upstream, stream, range(len(stream)))
    assert single == _translated(caller, upstream, stream)


@pytest.mark.parametrize(("caller", "upstream", "stream"), PAIRS)
def test_a_stream_put_together_is_the_whole_answer_translated(
    caller: Wire, upstream: Wire, stream: bytes
) -> None:
    known = _known(caller, upstream)
    whole = json.loads(known.answer(assemble(stream, upstream), "m", created=7))
    streamed = json.loads(assemble(_translated(caller, upstream, stream), caller))
    assert _meaning(streamed) == _meaning(whole)


def _meaning(said: Any) -> Any:
    """Read arguments, which may be spaced otherwise; leave out what no chunk has a place for."""
    if isinstance(said, list):
        return [_meaning(item) for item in said]
    if not isinstance(said, dict):
        return said
    return {
        name: json.loads(value) if name == "arguments" else _meaning(value)
        for name, value in said.items()
        if (name, value) != ("annotations", [])
    }


def test_anthropics_client_reads_what_a_chat_upstream_streamed() -> None:
    message = _message(_translated(Wire.MESSAGES, Wire.CHAT, CHAT))
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    thinking, text, first, second = (block.model_dump() for block in message.content)
    assert thinking["thinking"] == "Let me see."
    assert text["text"] == "Two cities: Åsgård \U0001f3d4."
    assert (first["id"], first["name"], first["input"]) == ("call_a", "weather", {"city": "Oslo"})
    assert (second["id"], second["input"]) == ("call_b", {"city": "Bergen"})
    assert message.stop_reason == "tool_use"
    assert message.id == "chatcmpl-9"
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens) == (30, 30)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (64, 6)
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 12


def test_openais_client_reads_what_an_anthropic_upstream_streamed() -> None:
    completion = _completion(_translated(Wire.CHAT, Wire.MESSAGES, MESSAGES))
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Two cities: Åsgård."
    calls = choice.message.tool_calls
    assert calls is not None
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [  # type: ignore[union-attr]
        ("toolu_a", "weather", '{"city": "Oslo"}'),
        ("toolu_b", "now", "{}"),
    ]
    extra = choice.message.model_extra
    assert extra is not None
    assert extra["reasoning_content"] == "Let me see."
    assert extra["thinking_blocks"] == [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln", "index": 0},
        {"type": "redacted_thinking", "data": "ZGF0YQ", "index": 1},
    ]
    assert completion.usage is not None
    assert completion.usage.model_dump(exclude_none=True) == USAGE


@pytest.mark.parametrize(("upstream", "stream"), [(Wire.CHAT, CHAT), (Wire.MESSAGES, MESSAGES)])
def test_openais_client_reads_responses_whatever_the_upstream_speaks(
    upstream: Wire, stream: bytes
) -> None:
    response = _response(_translated(Wire.RESPONSES, upstream, stream))
    assert response.status == "completed"
    assert response.output_text.startswith("Two cities: Åsgård")
    calls = [item for item in response.output if item.type == "function_call"]
    assert json.loads(calls[0].arguments) == {"city": "Oslo"}
    assert [call.call_id for call in calls] in (["call_a", "call_b"], ["toolu_a", "toolu_b"])
    assert response.usage is not None
    assert response.usage.model_dump(exclude_none=True) == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 6},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 12},
        "total_tokens": 130,
    }


@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")
def test_a_responses_stream_meets_open_responses_event_for_event() -> None:
    asked = {"model": "m", "input": "Hi", "tools": [{"type": "function", "name": "weather"}]}
    said = _translated(Wire.RESPONSES, Wire.CHAT, CHAT, asked=json.dumps(asked).encode())
    faults = []
    for event in _payloads(said):
        if not event["type"].startswith("response.reasoning_text"):  # OpenAI's name, not the spec's
            faults += _OPEN_RESPONSES.validate_sse_event(event["type"], event)
    assert faults == []
    numbers = [event["sequence_number"] for event in _payloads(said)]
    assert numbers == list(range(len(numbers)))
    assert said.endswith(b"data: [DONE]\n\n")


def test_every_delta_of_a_responses_stream_says_which_item_and_part_it_belongs_to() -> None:
    items: dict[int, str] = {}
    for event in _payloads(_translated(Wire.RESPONSES, Wire.CHAT, CHAT)):
        if event["type"] == "response.output_item.added":
            items[event["output_index"]] = event["item"]["id"]
        if "item_id" in event:
            assert items[event["output_index"]] == event["item_id"]
            calls = event["type"].startswith("response.function_call")
            assert calls or event["content_index"] == 0
    assert len(set(items.values())) == 4


@pytest.mark.parametrize(
    ("suite", "caller", "upstream", "stream"),
    [
        (ANTHROPIC_TESTS, Wire.MESSAGES, Wire.CHAT, CHAT),
        (OPENAI_CHAT_TESTS, Wire.CHAT, Wire.MESSAGES, MESSAGES),
        (OPEN_RESPONSES_TESTS, Wire.RESPONSES, Wire.CHAT, CHAT),
        (OPEN_RESPONSES_TESTS, Wire.RESPONSES, Wire.MESSAGES, MESSAGES),
    ],
)
def test_llm_complys_streaming_checks_pass(
    suite: list[Any], caller: Wire, upstream: Wire, stream: bytes
) -> None:
    said = _translated(caller, upstream, stream)
    seen = []
    for event in events(said):
        done = event.data == b"[DONE]"
        data = "[DONE]" if done else json.loads(event.data)
        seen.append({"type": "[DONE]" if done else event.event or "message", "data": data})
    last = json.loads(assemble(said, caller))
    tried = 0
    for case in suite:
        if not case.streaming:
            continue
        for check in case.validators:
            context = ValidatorContext(streaming=True, sse_events=seen)
            faults = [f for f in check(last, context) if not f.startswith("[warning]")]
            assert faults == [], (case.id, check)
            tried += 1
    assert tried >= 5


# Complaints about other gateways, each once


def test_tool_calls_that_end_with_stop_are_told_as_tool_use() -> None:
    """LiteLLM#34692: the stream said end_turn, so that agents stopped instead of calling."""
    stream = _chat_stream(_call(0, "c", "f", "{}"), finish="stop")
    assert _message(_translated(Wire.MESSAGES, Wire.CHAT, stream)).stop_reason == "tool_use"


def test_no_empty_block_is_opened_before_a_tool_call() -> None:
    """LiteLLM#34692: a spurious empty text block."""
    stream = _chat_stream(
        {"role": "assistant", "content": ""},
        {"content": "", "reasoning_content": ""},
        {"content": None},
        _call(0, "c", "f", "{}"),
        finish="tool_calls",
    )
    message = _message(_translated(Wire.MESSAGES, Wire.CHAT, stream))
    assert [block.type for block in message.content] == ["tool_use"]


def test_thinking_stays_before_what_followed_it() -> None:
    """LiteLLM#13834: thinking blocks came out in another order than they went in."""
    blocks = [
        {"type": "thinking", "thinking": "first", "signature": "s1"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "second", "signature": "s2"},
        {"type": "tool_use", "id": "b", "name": "f", "input": {"x": 1}},
    ]
    answer = {"id": "msg", "model": "c", "content": blocks, "stop_reason": "tool_use", "usage": {}}
    there = _known(Wire.CHAT, Wire.MESSAGES)
    chat = json.loads(there.answer(json.dumps(answer).encode(), "m"))
    history = [{"role": "user", "content": "Go"}, chat["choices"][0]["message"]]
    request = json.dumps({"model": "m", "messages": history}).encode()
    assert json.loads(there.request(request, "claude-opus-5"))["messages"][1]["content"] == blocks
    back = _known(Wire.MESSAGES, Wire.CHAT).answer(json.dumps(chat).encode(), "m")
    said = json.loads(back)["content"]
    assert [(block["type"], block.get("signature") or block["id"]) for block in said] == [
        ("thinking", "s1"),
        ("tool_use", "a"),
        ("thinking", "s2"),
        ("tool_use", "b"),
    ]


def test_the_counts_of_a_stream_are_all_said_in_its_message_delta() -> None:
    """vercel/ai#17326: 0/0 in message_start, and never corrected, so that no cost was shown."""
    said = _payloads(_translated(Wire.MESSAGES, Wire.CHAT, CHAT))
    delta = next(event for event in said if event["type"] == "message_delta")
    assert delta["usage"]["input_tokens"] == 30
    assert delta["usage"]["output_tokens"] == 30
    assert delta["usage"]["cache_read_input_tokens"] == 64


def test_counts_that_an_upstream_gives_from_the_start_are_said_at_the_start() -> None:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}}], "usage": USAGE}
    stream = b"data: %s\n\n" % json.dumps(chunk).encode()
    start = _payloads(_translated(Wire.MESSAGES, Wire.CHAT, stream))[0]
    assert start["message"]["usage"]["input_tokens"] == 30


# What upstreams do otherwise than written


def test_arguments_of_parallel_calls_may_come_mixed() -> None:
    stream = _chat_stream(
        _call(0, "a", "f", ""),
        _call(1, "b", "g", '{"y":'),
        _more(0, '{"x":'),
        _more(1, "2}"),
        _more(0, "1}"),
        finish="tool_calls",
    )
    message = _message(_translated(Wire.MESSAGES, Wire.CHAT, stream))
    said = [(b.name, b.input) for b in message.content if b.type == "tool_use"]
    assert said == [("f", {"x": 1}), ("g", {"y": 2})]


def test_calls_that_all_have_the_same_index_are_told_apart_by_their_ids() -> None:
    stream = _chat_stream(
        _call(0, "a", "f", "{}"), _call(0, "b", "g", '{"y":2}'), finish="tool_calls"
    )
    message = _message(_translated(Wire.MESSAGES, Wire.CHAT, stream))
    said = [(b.id, b.name, b.input) for b in message.content if b.type == "tool_use"]
    assert said == [("a", "f", {}), ("b", "g", {"y": 2})]


def test_a_later_call_is_sent_on_at_once_when_the_earlier_one_is_whole() -> None:
    translator = _known(Wire.MESSAGES, Wire.CHAT).stream("m")
    calls = _chat_stream(_call(0, "a", "f", "{}"), _call(1, "b", "g", '{"y":'), finish=None)
    said = translator.feed(calls.removesuffix(b"data: [DONE]\n\n"))
    assert b'"partial_json":"{\\"y\\":"' in said


def test_mistrals_content_parts_are_thinking_and_text() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    parts = [thought, {"type": "text", "text": "Hi"}]
    message = _message(_translated(Wire.MESSAGES, Wire.CHAT, _chat_stream({"content": parts})))
    assert [block.type for block in message.content] == ["thinking", "text"]
    whole = {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
    said = json.loads(_known(Wire.MESSAGES, Wire.CHAT).answer(json.dumps(whole).encode(), "m"))
    assert [block["type"] for block in said["content"]] == ["thinking", "text"]


def test_half_a_surrogate_pair_is_passed_on() -> None:
    stream = (
        b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n'
        b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\\ude00"},'
        b'"finish_reason":"stop"}]}\n\n'
    )
    said = _payloads(_translated(Wire.MESSAGES, Wire.CHAT, stream))
    pieces = [event["delta"]["text"] for event in said if event["type"] == "content_block_delta"]
    assert pieces == ["\ud83d", "\ude00"]


def test_a_chat_stream_without_done_ends_well_after_its_finish_reason() -> None:
    stream = CHAT.removesuffix(b"data: [DONE]\n\n")
    assert _translated(Wire.MESSAGES, Wire.CHAT, stream) == _translated(
        Wire.MESSAGES, Wire.CHAT, CHAT
    )


def test_usage_is_hidden_from_a_chat_caller_who_did_not_ask_for_it() -> None:
    asked = b'{"model": "m", "messages": [], "stream": true}'
    silent = _translated(Wire.CHAT, Wire.MESSAGES, MESSAGES, asked=asked)
    assert b'"usage"' not in silent
    wants = b'{"model": "m", "stream": true, "stream_options": {"include_usage": true}}'
    told = _payloads(_translated(Wire.CHAT, Wire.MESSAGES, MESSAGES, asked=wants))
    assert told[-1]["usage"] == USAGE
    assert told[-1]["choices"] == []


def test_an_answer_without_any_text_is_an_empty_message_in_responses() -> None:
    response = _response(_translated(Wire.RESPONSES, Wire.CHAT, _chat_stream({"content": ""})))
    assert [item.type for item in response.output] == ["message"]
    assert response.output_text == ""


def test_an_answer_cut_by_its_limit_is_incomplete_in_responses() -> None:
    stream = _chat_stream({"content": "Once upon"}, finish="length")
    said = _payloads(_translated(Wire.RESPONSES, Wire.CHAT, stream))
    assert said[-1]["type"] == "response.incomplete"
    assert said[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert said[-1]["response"]["output"] == [said[-2]["item"]]
    assert said[-2]["item"]["status"] == "incomplete"


# Streams that fail


def _ends_with_error(caller: Wire, said: bytes) -> Json:
    last = _payloads(said)[-1]
    for good in (b"[DONE]", b"message_stop", b"response.completed", b"message_delta"):
        assert good not in said
    error: Json = last["error"]
    assert (caller is Wire.CHAT) == ("type" not in last)
    return error


@pytest.mark.parametrize(("caller", "upstream", "stream"), PAIRS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_stream_that_breaks_off_anywhere_never_looks_whole(
    data: st.DataObject, caller: Wire, upstream: Wire, stream: bytes
) -> None:
    end = stream.index(b"finish_reason" if upstream is Wire.CHAT else b"event: message_delta")
    cut = data.draw(st.integers(0, end))
    error = _ends_with_error(caller, _translated(caller, upstream, stream[:cut]))
    assert error["message"]


@pytest.mark.parametrize(("caller", "upstream", "stream"), PAIRS)
def test_a_garbage_event_ends_the_stream_with_an_error(
    caller: Wire, upstream: Wire, stream: bytes
) -> None:
    first = stream.index(b"\n\n") + 2
    broken = stream[:first] + b"data: {not json\n\n" + stream[first:]
    assert "JSON" in _ends_with_error(caller, _translated(caller, upstream, broken))["message"]


@pytest.mark.parametrize(
    ("caller", "upstream", "event", "kind"),
    [
        (
            Wire.MESSAGES,
            Wire.CHAT,
            b'data: {"error": {"message": "Busy", "type": "rate_limit_error"}}\n\n',
            "rate_limit_error",
        ),
        (
            Wire.CHAT,
            Wire.MESSAGES,
            b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", '
            b'"message": "Busy"}}\n\n',
            "overloaded_error",
        ),
        (
            Wire.RESPONSES,
            Wire.MESSAGES,
            b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", '
            b'"message": "Busy"}}\n\n',
            "overloaded_error",
        ),
    ],
)
def test_an_error_inside_a_stream_keeps_its_words_and_its_kind(
    caller: Wire, upstream: Wire, event: bytes, kind: str
) -> None:
    stream = CHAT if upstream is Wire.CHAT else MESSAGES
    first = stream.index(b"\n\n") + 2
    error = _ends_with_error(caller, _translated(caller, upstream, stream[:first] + event))
    assert (error["message"], error["type"]) == ("Busy", kind)


def test_nothing_follows_the_end_of_a_stream() -> None:
    translator = _known(Wire.MESSAGES, Wire.CHAT).stream("m")
    assert translator.feed(CHAT)
    assert translator.feed(CHAT) == b""
    assert translator.end() == b""
