"""Conversations translated there and back keep their meaning; nonsense is refused, no crash."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError, ProviderError
from stillhouse.dialects.translate import Translation, translation

Json = dict[str, Any]


def _known(caller: Wire, upstream: Wire) -> Translation:
    found = translation(caller, upstream)
    assert found is not None
    return found


TO_MESSAGES = _known(Wire.CHAT, Wire.MESSAGES)
TO_CHAT = _known(Wire.MESSAGES, Wire.CHAT)

texts = st.text(min_size=1, max_size=12)
ids = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
scalars = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
inputs = st.dictionaries(st.text(max_size=6).filter(lambda n: n != "unparsed_arguments"), values)
images = st.sampled_from(
    [
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/webp;base64,UklGRg=="}},
    ]
)
said_parts = st.lists(
    texts.map(lambda said: {"type": "text", "text": said}) | images, min_size=2, max_size=4
)
thinking = st.builds(
    lambda said, signature: {"type": "thinking", "thinking": said, "signature": signature},
    texts,
    ids,
) | ids.map(lambda data: {"type": "redacted_thinking", "data": data})


@st.composite
def _exchanges(draw: st.DrawFn) -> list[Json]:
    """A user's turn and the model's, maybe with tool calls, their results and what then follows."""
    turns: list[Json] = [{"role": "user", "content": draw(texts | said_parts)}]
    calls = draw(st.lists(st.tuples(ids, ids, inputs), max_size=3, unique_by=lambda call: call[0]))
    content = draw(st.none() | texts) if calls else draw(texts)
    said: Json = {"role": "assistant", "content": content}
    kept = draw(st.lists(thinking, max_size=2))
    if kept:
        said["thinking_blocks"] = [{**block, "index": at} for at, block in enumerate(kept)]
        told = "".join(block.get("thinking", "") for block in kept)
        if told:
            said["reasoning_content"] = told
    if calls:
        said["tool_calls"] = [
            {
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(given)},
            }
            for call_id, name, given in calls
        ]
    turns.append(said)
    for call_id, _, _ in calls:
        turns.append({"role": "tool", "tool_call_id": call_id, "content": draw(texts)})
    if calls:
        turns.append({"role": "assistant", "content": draw(texts)})
    return turns


conversations = st.builds(
    lambda system, exchanges: [
        *([{"role": "system", "content": system}] if system else []),
        *(turn for exchange in exchanges for turn in exchange),
    ],
    st.none() | texts,
    st.lists(_exchanges(), min_size=1, max_size=3),
)


def _meaning(said: Any) -> Any:
    """Arguments as what they are, however they are spaced."""
    if isinstance(said, list):
        return [_meaning(item) for item in said]
    if isinstance(said, dict):
        return {
            name: json.loads(value) if name == "arguments" else _meaning(value)
            for name, value in said.items()
        }
    return said


@settings(max_examples=40, deadline=None)
@given(conversations)
def test_a_chat_conversation_there_and_back_is_the_same(messages: list[Json]) -> None:
    asked = json.dumps({"model": "m", "messages": messages, "max_tokens": 9}).encode()
    back = json.loads(TO_CHAT.request(TO_MESSAGES.request(asked, "m"), "m"))
    assert _meaning(back["messages"]) == _meaning(messages)


@settings(max_examples=40, deadline=None)
@given(conversations)
def test_a_messages_conversation_there_and_back_is_the_same(messages: list[Json]) -> None:
    chat = json.dumps({"model": "m", "messages": messages, "max_tokens": 9}).encode()
    asked = TO_MESSAGES.request(chat, "m")
    assert TO_MESSAGES.request(TO_CHAT.request(asked, "m"), "m") == asked


@settings(max_examples=30, deadline=None)
@given(conversations)
def test_an_answer_there_and_back_is_the_same(messages: list[Json]) -> None:
    for message in messages:
        if message["role"] != "assistant":
            continue
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        answer = {
            "id": "c1",
            "model": "up",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        }
        there = TO_CHAT.answer(json.dumps(answer).encode(), "m")
        back = json.loads(TO_MESSAGES.answer(there, "m"))
        choice = back["choices"][0]
        said = {n: v for n, v in choice["message"].items() if n not in ("refusal", "annotations")}
        assert _meaning(said) == _meaning(message)
        assert (choice["finish_reason"], back["id"], back["model"]) == (finish, "c1", "up")
        assert back["usage"]["prompt_tokens"] == 9


@settings(max_examples=30, deadline=None)
@given(conversations)
def test_items_of_a_responses_answer_come_back_as_the_message_they_were(
    messages: list[Json],
) -> None:
    to_responses = _known(Wire.RESPONSES, Wire.CHAT)
    for message in messages:
        if message["role"] != "assistant":
            continue
        answer = {"id": "c1", "choices": [{"message": message, "finish_reason": "stop"}]}
        said = json.loads(to_responses.answer(json.dumps(answer).encode(), "m"))
        asked = {"model": "m", "input": said["output"]}
        back = json.loads(to_responses.request(json.dumps(asked).encode(), "m"))
        assert _meaning(back["messages"]) == [_meaning(message)]


# Nonsense


def _words(written: str) -> st.SearchStrategy[str]:
    return st.sampled_from(written.split())


FIELD_NAMES = st.sampled_from(
    [
        "role",
        "content",
        "type",
        "text",
        "messages",
        "input",
        "tools",
        "tool_choice",
        "function",
        "name",
        "arguments",
        "id",
        "tool_calls",
        "tool_call_id",
        "image_url",
        "url",
        "source",
        "data",
        "media_type",
        "thinking_blocks",
        "index",
        "thinking",
        "signature",
        "system",
        "max_tokens",
        "output_config",
        "format",
        "schema",
        "response_format",
        "json_schema",
        "reasoning",
        "reasoning_effort",
        "output",
        "call_id",
        "summary",
        "encrypted_content",
        "stop",
        "n",
        "stream",
        "stream_options",
        "metadata",
        "user",
        "file",
        "file_data",
        "tool_use_id",
        "properties",
        "required",
        "parallel_tool_calls",
        "allowed_tools",
        "mode",
        "choices",
        "delta",
        "message",
        "usage",
        "error",
        "finish_reason",
        "content_block",
        "stop_reason",
        "stop_sequence",
        "stop_details",
        "prompt_tokens_details",
        "title",
    ]
)
WORDS = st.sampled_from(
    [
        "user",
        "assistant",
        "system",
        "tool",
        "text",
        "image",
        "image_url",
        "tool_use",
        "tool_result",
        "thinking",
        "document",
        "redacted_thinking",
        "function",
        "function_call",
        "function_call_output",
        "reasoning",
        "message",
        "json_schema",
        "input_text",
        "input_image",
        "auto",
        "none",
        "required",
        "any",
        "base64",
        "enabled",
        "adaptive",
        "high",
        "allowed_tools",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_start",
        "message_delta",
        "text_delta",
        "input_json_delta",
        "signature_delta",
        "error",
        "file",
        "thinking_blocks:{}",
        "data:image/png;base64,AA",
    ]
)
nonsense = st.recursive(
    scalars | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELD_NAMES, inner, max_size=5),
    max_leaves=25,
)
bodies = st.dictionaries(FIELD_NAMES, nonsense, max_size=6)
KNOWN = [known for a in Wire for b in Wire if (known := translation(a, b)) is not None]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.caller}-{known.upstream}")
@settings(max_examples=40, deadline=None)
@given(body=bodies, turns=st.lists(bodies, max_size=3), tools=st.lists(bodies, max_size=2))
def test_a_nonsensical_request_is_refused_or_translated_but_never_crashes(
    known: Translation, body: Json, turns: list[Json], tools: list[Json]
) -> None:
    where = "input" if known.caller is Wire.RESPONSES else "messages"
    asked = {**body, where: turns, "max_tokens": 5, "tools": tools}
    if known.caller is Wire.RESPONSES:
        del asked["max_tokens"]
    for sent in (body, asked, {"max_tokens": 5, where: turns}):
        with suppress(CallerError):
            json.loads(known.request(json.dumps(sent).encode(), "m"))


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.caller}-{known.upstream}")
@settings(max_examples=40, deadline=None)
@given(
    body=bodies,
    message=bodies,
    content=st.lists(bodies, max_size=3),
    calls=st.lists(bodies, max_size=2),
)
def test_a_nonsensical_answer_is_the_upstreams_fault_but_never_crashes(
    known: Translation, body: Json, message: Json, content: list[Json], calls: list[Json]
) -> None:
    message = {**message, "tool_calls": calls}
    for answer in (body, {**body, "content": content}, {"choices": [{"message": message}]}):
        with suppress(ProviderError):
            json.loads(known.answer(json.dumps(answer).encode(), "m"))


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.caller}-{known.upstream}")
@settings(max_examples=40, deadline=None)
@given(said=st.lists(bodies | bodies.map(lambda d: {"choices": [{"delta": d}]}), max_size=6))
def test_a_nonsensical_stream_ends_with_an_error_but_never_crashes(
    known: Translation, said: list[Json]
) -> None:
    translator = known.stream("m")
    stream = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in said)
    translator.feed(stream)
    translator.end()
    assert translator.feed(stream) == b""


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.caller}-{known.upstream}")
@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=60), status=st.integers(400, 599))
def test_any_bytes_are_an_error_that_can_be_told(
    known: Translation, body: bytes, status: int
) -> None:
    said = json.loads(known.error(status, body))
    assert said["error"]["message"]
    translator = known.stream("m")
    translator.feed(body)
    translator.end()
