"""Answers written whole and as streams: the vendors' SDKs and schemas take them for their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import LEAVES, Completion, Usage
from stillhouse.dialects.assemble import assemble
from stillhouse.dialects.paths import STREAMED, USAGE_DIALECT
from stillhouse.dialects.render import render_body, render_stream, usage_body
from stillhouse.dialects.seen import StreamEye, read_body
from stillhouse.dialects.sse import events
from stillhouse.dialects.unfold import pieces
from stillhouse.ledger.usage import decompose
from stillhouse.logs.anthropic_messages import completion_of as read_messages
from stillhouse.logs.openai_chat import completion_of as read_chat
from stillhouse.logs.openai_responses import completion_of as read_responses

Misfits = Callable[[str, str, Any], list[str]]
READERS = {Wire.CHAT: read_chat, Wire.MESSAGES: read_messages, Wire.RESPONSES: read_responses}
COUNTED = Usage(input_tokens=40, cache_read_tokens=60, output_tokens=7, reasoning_tokens=5)
ANSWERS = {
    "text": Completion("A few words, in order to be cut.", finish="stop"),
    "empty": Completion("", finish="end_turn"),
    "cut short": Completion("A few", finish="max_tokens"),
    "refusal": Completion("I can't help with that.", finish="refusal"),
    "tool": Completion("", "get_weather", '{"city":"Zürich"}', "tool_calls"),
    "text and tool": Completion("Let me look.", "get_weather", '{"city":"Bern"}', "tool_use"),
    "two tools": Completion("", "a, b", '[{"x":1}, {}]', "tool_calls"),
    "broken arguments": Completion("", "a", '{"x":', "tool_calls"),
}
WIRES = sorted(STREAMED)


def whole(wire: Wire, answer: Completion, usage: Usage | None = COUNTED) -> bytes:
    return render_body(
        wire, answer, answer_id="1f", model="m", usage=usage, created_s=1_700_000_000
    )


def stream(wire: Wire, answer: Completion, usage: Usage | None = COUNTED) -> list[bytes]:
    return render_stream(
        wire, answer, answer_id="1f", model="m", usage=usage, created_s=1_700_000_000
    )


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
WORDS = st.sampled_from(["stop", "length", "end_turn", "max_tokens", "refusal", "completed", ""])
COMPLETIONS = st.one_of(
    st.builds(Completion, TEXT, finish=WORDS),
    st.builds(
        Completion,
        TEXT,
        st.sampled_from(["f", "look_up"]),
        st.dictionaries(TEXT, st.one_of(TEXT, st.integers(-9, 9)), max_size=3).map(json.dumps),
        st.just("tool_calls"),
    ),
)


@given(st.sampled_from(WIRES), COMPLETIONS, st.sampled_from([COUNTED, None]))
def test_a_stream_joined_again_is_the_whole_body(
    wire: Wire, answer: Completion, usage: Usage | None
) -> None:
    joined = assemble(b"".join(stream(wire, answer, usage)), wire)
    assert json.loads(joined) == json.loads(whole(wire, answer, usage))


@given(st.sampled_from(WIRES), COMPLETIONS)
def test_what_was_said_is_read_back(wire: Wire, answer: Completion) -> None:
    read = READERS[wire](json.loads(whole(wire, answer)))
    if answer.finish == "refusal" and wire is Wire.RESPONSES:
        return  # the reader of logs takes the text of a refusal from elsewhere
    assert (read.text, read.tool) == (answer.text, answer.tool)
    if answer.tool:
        assert json.loads(read.tool_arguments) == json.loads(answer.tool_arguments)


@given(st.sampled_from(WIRES), COMPLETIONS)
def test_a_rendered_stream_is_complete_to_the_eye_that_watches(
    wire: Wire, answer: Completion
) -> None:
    eye = StreamEye(wire, hide_usage=False)
    ends = []
    for event in stream(wire, answer):
        eye.feed(event)
        ends.append(eye.ended)
    assert ends == [False] * (len(ends) - 1) + [True]
    seen = eye.end()
    assert seen.complete
    assert seen.usage_body is not None
    assert decompose(seen.usage_body, USAGE_DIALECT[wire]) == COUNTED
    assert eye.text_seen().startswith(answer.text) or answer.tool


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_chat_suits_openai(answer: Completion, misfits: Misfits) -> None:
    said = json.loads(whole(Wire.CHAT, answer))
    ChatCompletion.model_validate(said)
    assert misfits("openai_chat", "CreateChatCompletionResponse", said) == []
    sent = [event.data for event in events(b"".join(stream(Wire.CHAT, answer)))]
    assert sent[-1] == b"[DONE]"
    for data in sent[:-1]:
        ChatCompletionChunk.model_validate_json(data)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_messages_suit_anthropic(answer: Completion, misfits: Misfits) -> None:
    said = json.loads(whole(Wire.MESSAGES, answer))
    Message.model_validate(said)
    assert misfits("anthropic", "Message", said) == []
    known: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in events(b"".join(stream(Wire.MESSAGES, answer))):
        assert known.validate_json(event.data).type == event.event


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_responses_suit_openai_and_open_responses(answer: Completion, misfits: Misfits) -> None:
    said = json.loads(whole(Wire.RESPONSES, answer))
    Response.model_validate(said)
    assert misfits("openresponses", "ResponseResource", said) == []
    known: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    numbers = []
    for event in events(b"".join(stream(Wire.RESPONSES, answer))):
        parsed = known.validate_json(event.data)
        assert parsed.type == event.event
        numbers.append(parsed.sequence_number)
    assert numbers == list(range(len(numbers)))


SCHEMAS = {
    "response.created": "ResponseCreatedStreamingEvent",
    "response.in_progress": "ResponseInProgressStreamingEvent",
    "response.completed": "ResponseCompletedStreamingEvent",
    "response.incomplete": "ResponseIncompleteStreamingEvent",
    "response.output_item.added": "ResponseOutputItemAddedStreamingEvent",
    "response.output_item.done": "ResponseOutputItemDoneStreamingEvent",
    "response.content_part.added": "ResponseContentPartAddedStreamingEvent",
    "response.content_part.done": "ResponseContentPartDoneStreamingEvent",
    "response.output_text.delta": "ResponseOutputTextDeltaStreamingEvent",
    "response.output_text.done": "ResponseOutputTextDoneStreamingEvent",
    "response.refusal.delta": "ResponseRefusalDeltaStreamingEvent",
    "response.refusal.done": "ResponseRefusalDoneStreamingEvent",
    "response.function_call_arguments.delta": "ResponseFunctionCallArgumentsDeltaStreamingEvent",
    "response.function_call_arguments.done": "ResponseFunctionCallArgumentsDoneStreamingEvent",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_every_event_of_a_response_fits_its_schema(answer: Completion, misfits: Misfits) -> None:
    for event in events(b"".join(stream(Wire.RESPONSES, answer))):
        assert misfits("openresponses", SCHEMAS[event.event], json.loads(event.data)) == []


@pytest.mark.parametrize(
    ("wire", "where"),
    [
        (Wire.CHAT, "choices.0.finish_reason"),
        (Wire.MESSAGES, "stop_reason"),
        (Wire.RESPONSES, "status"),
    ],
)
def test_the_end_is_told_in_each_formats_word(wire: Wire, where: str) -> None:
    def told(finish: str, tool: str = "") -> Any:
        found = json.loads(whole(wire, Completion("x", tool, "{}", finish)))
        for step in where.split("."):
            found = found[int(step) if step.isdigit() else step]
        return found

    words = [told("stop"), told("end_turn"), told("length"), told("max_output_tokens")]
    words += [told("tool_use", "f"), told("", "f")]
    assert (
        words
        == {
            Wire.CHAT: ["stop", "stop", "length", "length", "tool_calls", "tool_calls"],
            Wire.MESSAGES: [
                "end_turn",
                "end_turn",
                "max_tokens",
                "max_tokens",
                "tool_use",
                "tool_use",
            ],
            Wire.RESPONSES: ["completed"] * 2 + ["incomplete"] * 2 + ["completed"] * 2,
        }[wire]
    )


@pytest.mark.parametrize("wire", [Wire.CHAT, Wire.RESPONSES, Wire.MESSAGES])
def test_usage_that_nobody_counted_is_left_out(wire: Wire) -> None:
    assert read_body(whole(wire, ANSWERS["text"], None), wire).usage_body is None
    eye = StreamEye(wire, hide_usage=False)
    eye.feed(b"".join(stream(wire, ANSWERS["text"], None)))
    assert (eye.end().usage_body, eye.end().complete) == (None, True)


COUNT = st.integers(0, 10**6)
TOLD = {
    Wire.CHAT: set(LEAVES) - {"cache_write_1h_tokens", "web_searches"},
    Wire.RESPONSES: set(LEAVES) - {"cache_write_1h_tokens", "web_searches"},
    Wire.MESSAGES: {
        *("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
        *("output_tokens", "reasoning_tokens", "web_searches"),
    },
    Wire.EMBEDDINGS: {"input_tokens"},
    Wire.SYSTEMONE: {"input_tokens", "output_tokens"},
    Wire.DECISIONS: {"input_tokens", "cache_read_tokens", "output_tokens"},
}
"""The leaves that each format has a place for."""


@given(st.sampled_from(list(Wire)), st.data())
def test_counts_written_are_the_counts_read(wire: Wire, data: st.DataObject) -> None:
    usage = Usage(**{name: data.draw(COUNT) for name in TOLD[wire]})
    assert decompose(usage_body(wire, usage), USAGE_DIALECT[wire]) == usage


def test_embeddings_are_written_from_recorded_vectors() -> None:
    for text in ("[[0.5,1],[2,3]]", "[0.5, 1]"):
        said = json.loads(whole(Wire.EMBEDDINGS, Completion(text)))
        parsed = CreateEmbeddingResponse.model_validate(said)
        assert parsed.data[0].embedding == [0.5, 1]
        assert parsed.usage.prompt_tokens == 100


@pytest.mark.parametrize("text", ["", "Hello", "{}"])
def test_what_is_no_vector_is_refused(text: str) -> None:
    with pytest.raises(CallerError, match="record whole bodies"):
        whole(Wire.EMBEDDINGS, Completion(text))


def test_formats_without_streams_say_so() -> None:
    with pytest.raises(CallerError, match="do not stream"):
        stream(Wire.EMBEDDINGS, Completion("[1]"))


@given(TEXT)
def test_pieces_are_few_and_lose_nothing(text: str) -> None:
    cut = pieces(text)
    assert "".join(cut) == text
    assert len(cut) <= 4
    assert all(cut)
