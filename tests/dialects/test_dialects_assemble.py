"""Streams joined to the body that the call would have given: also odd ones, and broken ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.catalogue import Wire
from stillhouse.dialects.assemble import assemble
from stillhouse.dialects.sse import encode

DONE = b"data: [DONE]\n\n"


def chat(*deltas: dict[str, Any], **members: Any) -> bytes:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", **members}
    return b"".join(
        encode("", json.dumps({**head, "choices": [{"index": 0, **one}]}).encode())
        for one in deltas
    )


def named(*said: dict[str, Any]) -> bytes:
    return b"".join(encode(one["type"], json.dumps(one).encode()) for one in said)


def joined(stream: bytes, wire: Wire) -> Any:
    return json.loads(assemble(stream, wire))


def test_parallel_tool_calls_are_told_apart_by_their_index() -> None:
    def call(at: int, **said: Any) -> dict[str, Any]:
        return {"delta": {"tool_calls": [{"index": at, **said}]}, "finish_reason": None}

    stream = chat(
        {"delta": {"role": "assistant", "content": None, "refusal": None}, "finish_reason": None},
        call(0, id="a", type="function", function={"name": "f", "arguments": ""}),
        call(1, id="b", type="function", function={"name": "g", "arguments": ""}),
        call(1, function={"arguments": '{"y"'}),
        call(0, function={"arguments": '{"x":'}),
        call(0, id="a", type="function", function={"name": "f", "arguments": "1}"}),
        call(1, function={"arguments": ":2}"}),
        {"delta": {}, "finish_reason": "tool_calls"},
    )
    assert joined(stream + DONE, Wire.CHAT) == {
        "id": "c1",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": None,
                    "refusal": None,
                    "tool_calls": [
                        {
                            "id": "a",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"x":1}'},
                        },
                        {
                            "id": "b",
                            "type": "function",
                            "function": {"name": "g", "arguments": '{"y":2}'},
                        },
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
    }


def test_reasoning_logprobs_and_unknown_members_survive() -> None:
    def detail(**said: Any) -> dict[str, Any]:
        return {"type": "reasoning.text", "index": 0, **said}

    stream = chat(
        {"delta": {"reasoning_content": "Let ", "reasoning_details": [detail(text="Le")]}},
        {
            "delta": {
                "reasoning_content": "me",
                "reasoning_details": [detail(text="t", signature="s")],
            }
        },
        {"delta": {"content": "4"}, "logprobs": {"content": [{"token": "4"}]}, "shiny": 1},
        {"delta": {"content": "2"}, "logprobs": {"content": [{"token": "2"}]}},
        {"delta": {"annotations": [{"url": "u"}]}, "finish_reason": "stop", "native": "eos"},
        service_tier="flex",
    )
    usage = encode("", b'{"choices":[],"usage":{"prompt_tokens":1},"provider":"X"}')
    said = joined(stream + usage + DONE, Wire.CHAT)
    (choice,) = said["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "42",
        "reasoning_content": "Let me",
        "reasoning_details": [detail(text="Let", signature="s")],
        "annotations": [{"url": "u"}],
    }
    assert choice["logprobs"] == {"content": [{"token": "4"}, {"token": "2"}]}
    assert (choice["shiny"], choice["native"], choice["finish_reason"]) == (1, "eos", "stop")
    assert (said["usage"], said["provider"]) == ({"prompt_tokens": 1}, "X")


def test_several_choices_stay_apart() -> None:
    stream = b"".join(
        encode("", json.dumps({"choices": [{"index": at, "delta": {"content": text}}]}).encode())
        for at, text in [(1, "b"), (0, "a"), (1, "B"), (0, "A")]
    )
    said = joined(stream, Wire.CHAT)
    assert [c["message"]["content"] for c in said["choices"]] == ["aA", "bB"]
    assert [c["index"] for c in said["choices"]] == [0, 1]


def test_an_error_in_a_stream_stays_in_the_body() -> None:
    stream = chat({"delta": {"content": "Hal"}}) + encode("", b'{"error":{"message":"Oh"}}')
    said = joined(stream, Wire.CHAT)
    assert said["error"] == {"message": "Oh"}
    assert said["choices"][0]["finish_reason"] is None


def test_a_message_with_thinking_tools_and_citations_is_joined() -> None:
    stream = named(
        {"type": "message_start", "message": {"id": "m1", "content": [], "stop_reason": None,
         "usage": {"input_tokens": 9, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0,
         "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0,
         "delta": {"type": "thinking_delta", "thinking": "Hm"}},
        {"type": "content_block_delta", "index": 0,
         "delta": {"type": "thinking_delta", "thinking": "m"}},
        {"type": "content_block_delta", "index": 0,
         "delta": {"type": "signature_delta", "signature": "s1g"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "So"}},
        {"type": "content_block_delta", "index": 1,
         "delta": {"type": "citations_delta", "citation": {"cited_text": "x"}}},
        {"type": "content_block_start", "index": 2,
         "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 2,
         "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
        {"type": "content_block_delta", "index": 2,
         "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "content_block_start", "index": 3,
         "content_block": {"type": "redacted_thinking", "data": "zz"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
         "usage": {"output_tokens": 20}, "context_management": {"applied_edits": []}},
        {"type": "message_stop"},
    )  # fmt: skip
    assert joined(stream, Wire.MESSAGES) == {
        "id": "m1",
        "content": [
            {"type": "thinking", "thinking": "Hmm", "signature": "s1g"},
            {"type": "text", "text": "So", "citations": [{"cited_text": "x"}]},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            {"type": "redacted_thinking", "data": "zz"},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 20},
        "context_management": {"applied_edits": []},
    }


def test_a_tool_input_that_broke_off_is_kept_as_text() -> None:
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": '{"a":'}
    stream = named(
        {"type": "message_start", "message": {"content": []}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}},
    )
    said = joined(stream, Wire.MESSAGES)
    assert said["content"] == [{**block, "input": '{"a":'}]
    assert said["error"]["type"] == "overloaded_error"


def test_a_whole_response_is_its_last_event() -> None:
    body = {"id": "r", "output": [{"type": "message", "content": []}], "usage": {"input_tokens": 1}}
    stream = named(
        {"type": "response.created", "response": {"id": "r", "output": []}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "x"},
        {"type": "response.completed", "response": body},
    )
    assert joined(stream, Wire.RESPONSES) == body


def test_a_response_that_broke_off_is_put_together_from_its_items() -> None:
    place = {"output_index": 1, "content_index": 0}
    stream = named(
        {"type": "response.created",
         "response": {"id": "r", "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0,
         "item": {"type": "reasoning", "summary": []}},
        {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 0,
         "part": {"type": "summary_text", "text": ""}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0,
         "delta": "Think"},
        {"type": "response.output_item.added", "output_index": 1,
         "item": {"type": "message", "content": []}},
        {"type": "response.content_part.added", **place,
         "part": {"type": "output_text", "text": "", "annotations": []}},
        {"type": "response.output_text.delta", **place, "delta": "Hel"},
        {"type": "response.output_text.delta", **place, "delta": "lo"},
        {"type": "response.output_text.annotation.added", **place, "annotation": {"url": "u"}},
        {"type": "response.output_item.added", "output_index": 2,
         "item": {"type": "function_call", "name": "f", "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"a"'},
        {"type": "response.output_item.added", "output_index": 3,
         "item": {"type": "function_call", "name": "g", "arguments": ""}},
        {"type": "response.output_item.done", "output_index": 3,
         "item": {"type": "function_call", "name": "g", "arguments": "{}"}},
        {"type": "error", "code": "server_error", "message": "Oh", "sequence_number": 9},
    )  # fmt: skip
    assert joined(stream, Wire.RESPONSES) == {
        "id": "r",
        "status": "in_progress",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Think"}]},
            {
                "type": "message",
                "content": [
                    {"type": "output_text", "text": "Hello", "annotations": [{"url": "u"}]}
                ],
            },
            {"type": "function_call", "name": "f", "arguments": '{"a"'},
            {"type": "function_call", "name": "g", "arguments": "{}"},
        ],
        "error": {"code": "server_error", "message": "Oh"},
    }


def test_half_surrogate_pairs_meet_again() -> None:
    stream = chat({"delta": {"content": "\ud83d"}}, {"delta": {"content": "\ude00"}})
    assert joined(stream, Wire.CHAT)["choices"][0]["message"]["content"] == "\U0001f600"


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    *("choices", "delta", "index", "message", "content", "tool_calls", "function"),
                    *("content_block", "part", "item", "response", "usage", "output_index"),
                    *("content_index", "output", "finish_reason", "logprobs", "error"),
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
KINDS = st.sampled_from(
    [
        *("message_start", "content_block_start", "content_block_delta", "message_delta", "error"),
        *("response.created", "response.output_item.added", "response.content_part.added"),
        *("response.output_text.delta", "response.function_call_arguments.delta", "x"),
        *("response.output_text.annotation.added", "response.reasoning_summary_text.delta"),
    ]
)


MEMBERS = st.dictionaries(
    st.sampled_from(
        [
            *("choices", "index", "delta", "message", "content_block", "usage", "response"),
            *("item", "output_index", "part", "content_index", "error", "annotation"),
        ]
    ),
    JSON,
    max_size=5,
)


@pytest.mark.parametrize("wire", [Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES])
@given(said=st.lists(st.tuples(KINDS, MEMBERS), max_size=5))
@settings(max_examples=40)
def test_whatever_an_upstream_sends_gives_a_body(
    wire: Wire, said: list[tuple[str, dict[str, Any]]]
) -> None:
    stream = b"".join(
        encode(kind, json.dumps({"type": kind, **members}).encode()) for kind, members in said
    )
    assert type(joined(stream, wire)) is dict


ODD: list[Any] = [None, 1, "x", [1], {}, {"a": None}, [{}], [{"index": []}]]
WHOLE: dict[Wire, list[dict[str, Any]]] = {
    Wire.CHAT: [
        {"choices": [{"index": 0, "delta": {"content": "a", "tool_calls": [{"index": 0}]}}]},
        {"choices": [{"index": 0, "delta": {"content": "b", "tool_calls": [{"index": 0}]}}]},
        {"choices": [{"index": 0, "finish_reason": "stop", "logprobs": {"content": []}}]},
    ],
    Wire.MESSAGES: [
        {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "x", "text": "a"}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": "{}"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "citations_delta", "citation": {}},
        },
        {"type": "message_delta", "delta": {"stop_reason": "x"}, "usage": {"output_tokens": 1}},
        {"type": "error", "error": {}},
    ],
    Wire.RESPONSES: [
        {"type": "response.created", "response": {"output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"content": []}},
        {
            "type": "response.content_part.added",
            "output_index": 0,
            "content_index": 0,
            "part": {"text": ""},
        },
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "content_index": 0,
            "delta": "a",
        },
        {
            "type": "response.output_text.annotation.added",
            "output_index": 0,
            "content_index": 0,
            "annotation": {},
        },
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "a"},
        {"type": "error", "error": {}},
    ],
}


def spoilt(value: Any, odd: Any) -> Iterator[Any]:
    """A value with one of its parts, however deep, replaced by an odd one."""
    yield odd
    if isinstance(value, dict):
        for name, part in value.items():
            for other in spoilt(part, odd):
                yield {**value, name: other}
    if isinstance(value, list):
        for at, part in enumerate(value):
            for other in spoilt(part, odd):
                yield [*value[:at], other, *value[at + 1 :]]


@pytest.mark.parametrize("wire", list(WHOLE))
def test_no_single_member_of_a_wrong_type_breaks_it(wire: Wire) -> None:
    tried = 0
    for odd in ODD:
        for said in spoilt(WHOLE[wire], odd):
            if isinstance(said, list):
                stream = b"".join(encode("", json.dumps(one).encode()) for one in said)
                assert type(joined(stream, wire)) is dict
                tried += 1
    assert tried > 100
