"""Translated whole answers and errors: valid by the vendors' own types and specifications."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import ErrorResponse, Message
from llm_comply.schema import _SPECS_DIR, SpecLoader
from llm_comply.test_case import ValidatorContext
from llm_comply.tests.anthropic import ANTHROPIC_TESTS
from llm_comply.tests.open_responses import OPEN_RESPONSES_TESTS
from llm_comply.tests.openai_chat import OPENAI_CHAT_TESTS
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import ProviderError
from stillhouse.dialects.translate import Translation, translation
from stillhouse.ledger.usage import decompose

Json = dict[str, Any]

_ignore_resolver = pytest.mark.filterwarnings(
    "ignore:jsonschema.RefResolver is deprecated:DeprecationWarning"
)


def _known(caller: Wire, upstream: Wire) -> Translation:
    found = translation(caller, upstream)
    assert found is not None
    return found


def _translated(caller: Wire, upstream: Wire, answer: Json, asked: Json | None = None) -> Json:
    said = _known(caller, upstream).answer(
        json.dumps(answer).encode(),
        "m",
        asked=json.dumps(asked).encode() if asked else b"",
        created=1_790_000_000,
    )
    translated: Json = json.loads(said)
    return translated


def _completion(finish: str = "stop", usage: Json | None = None, **message: Any) -> Json:
    return {
        "id": "chatcmpl-9",
        "object": "chat.completion",
        "created": 5,
        "model": "up",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", **message},
                "finish_reason": finish,
            }
        ],
        "usage": usage or {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }


def _message(*content: Json, stop: str = "end_turn", **more: Any) -> Json:
    return {
        "id": "msg_9",
        "type": "message",
        "role": "assistant",
        "model": "claude-up",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 1},
        **more,
    }


TEXT = {"type": "text", "text": "Hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
TOOL_USE = {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}}
DEEP_COUNTS = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 6},
    "completion_tokens_details": {"reasoning_tokens": 12},
}


@pytest.mark.parametrize(
    ("finish", "message", "expected"),
    [
        ("stop", {"content": "Hi"}, "end_turn"),
        ("length", {"content": "Hi"}, "max_tokens"),
        ("tool_calls", {"content": None, "tool_calls": [CALL]}, "tool_use"),
        ("stop", {"content": None, "tool_calls": [CALL]}, "tool_use"),
        ("length", {"content": None, "tool_calls": [CALL]}, "max_tokens"),
        ("content_filter", {"content": ""}, "refusal"),
        ("stop", {"content": None, "refusal": "No."}, "refusal"),
        ("eos", {"content": "Hi"}, "end_turn"),
    ],
)
def test_a_finish_reason_becomes_anthropics_stop_reason(
    finish: str, message: Json, expected: str
) -> None:
    said = _translated(Wire.MESSAGES, Wire.CHAT, _completion(finish, **message))
    assert Message.model_validate(said).stop_reason == expected


@pytest.mark.parametrize(
    ("stop", "content", "expected"),
    [
        ("end_turn", TEXT, "stop"),
        ("stop_sequence", TEXT, "stop"),
        ("pause_turn", TEXT, "stop"),
        ("max_tokens", TEXT, "length"),
        ("model_context_window_exceeded", TEXT, "length"),
        ("tool_use", TOOL_USE, "tool_calls"),
        ("refusal", TEXT, "content_filter"),
    ],
)
def test_a_stop_reason_becomes_chats_finish_reason(stop: str, content: Json, expected: str) -> None:
    said = _translated(Wire.CHAT, Wire.MESSAGES, _message(content, stop=stop))
    assert ChatCompletion.model_validate(said).choices[0].finish_reason == expected


def test_a_stop_sequence_that_was_met_is_kept_both_ways() -> None:
    met = _message(TEXT, stop="stop_sequence", stop_sequence="END")
    chat = _translated(Wire.CHAT, Wire.MESSAGES, met)
    assert chat["choices"][0]["stop_reason"] == "END"
    back = _translated(Wire.MESSAGES, Wire.CHAT, chat)
    assert (back["stop_reason"], back["stop_sequence"]) == ("stop_sequence", "END")


def test_why_claude_refused_is_the_refusal_of_a_chat_message() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "It could harm."}
    said = _translated(Wire.CHAT, Wire.MESSAGES, _message(stop="refusal", stop_details=details))
    assert said["choices"][0]["message"]["refusal"] == "It could harm."


def test_a_message_says_what_a_chat_answer_says() -> None:
    said = _translated(
        Wire.MESSAGES,
        Wire.CHAT,
        _completion(
            "tool_calls",
            reasoning_content="Hm.",
            content="Hi",
            tool_calls=[CALL, {**CALL, "id": "d"}],
        ),
    )
    assert said["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {**TEXT, "citations": None},
        {**TOOL_USE, "caller": {"type": "direct"}},
        {**TOOL_USE, "id": "d", "caller": {"type": "direct"}},
    ]
    assert (said["id"], said["model"]) == ("chatcmpl-9", "up")
    Message.model_validate(said)


@pytest.mark.parametrize("arguments", ["[1, 2]", '{"city": "Os', "seven"])
def test_arguments_that_are_no_object_are_kept_whole(arguments: str) -> None:
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    there = _translated(Wire.MESSAGES, Wire.CHAT, _completion("length", tool_calls=[call]))
    assert there["content"][0]["input"] == {"unparsed_arguments": arguments}
    back = _translated(Wire.CHAT, Wire.MESSAGES, there)
    assert back["choices"][0]["message"]["tool_calls"] == [call]


def test_big_numbers_in_arguments_keep_every_digit() -> None:
    call = {**CALL, "function": {"name": "f", "arguments": '{"n":123456789012345678901234567890}'}}
    there = _translated(Wire.MESSAGES, Wire.CHAT, _completion("tool_calls", tool_calls=[call]))
    back = _translated(Wire.CHAT, Wire.MESSAGES, there)
    assert back["choices"][0]["message"]["tool_calls"] == [call]


def test_cached_tokens_are_inside_openais_total_and_outside_anthropics() -> None:
    answer = _completion(content="Hi", usage=DEEP_COUNTS)
    usage = Message.model_validate(_translated(Wire.MESSAGES, Wire.CHAT, answer)).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (30, 64)
    assert (usage.cache_creation_input_tokens, usage.output_tokens) == (6, 30)
    back = _translated(Wire.CHAT, Wire.MESSAGES, {**_message(TEXT), "usage": usage.model_dump()})
    assert back["usage"] == DEEP_COUNTS


@pytest.mark.parametrize(
    ("caller", "dialect"), [(Wire.MESSAGES, "anthropic"), (Wire.RESPONSES, "responses")]
)
def test_the_ledger_reads_the_same_leaves_from_a_translated_usage(
    caller: Wire, dialect: str
) -> None:
    said = _translated(caller, Wire.CHAT, _completion(content="Hi", usage=DEEP_COUNTS))
    assert decompose(said["usage"], dialect) == decompose(DEEP_COUNTS, "openai")


def test_deepseeks_count_of_cached_tokens_is_understood() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 8}
    said = _translated(Wire.MESSAGES, Wire.CHAT, _completion(content="Hi", usage=usage))
    assert (said["usage"]["input_tokens"], said["usage"]["cache_read_input_tokens"]) == (2, 8)


def test_responses_give_back_what_was_asked() -> None:
    asked = {
        "model": "m",
        "input": "Hi",
        "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "tool_choice": {"type": "function", "name": "f"},
        "temperature": 0.2,
        "metadata": {"team": "ops"},
        "store": True,
        "reasoning": {"effort": "low"},
        "max_output_tokens": 50,
    }
    said = _translated(Wire.RESPONSES, Wire.CHAT, _completion(content="Hi"), asked)
    Response.model_validate(said)
    for name in ("instructions", "tool_choice", "temperature", "metadata", "max_output_tokens"):
        assert said[name] == asked[name]
    assert said["reasoning"] == {"effort": "low", "summary": None}
    assert said["tools"] == [
        {
            "type": "function",
            "name": "f",
            "parameters": {"type": "object"},
            "description": None,
            "strict": None,
        }
    ]
    assert said["store"] is False
    assert (said["id"], said["created_at"]) == ("resp_9", 5)


def test_signed_thinking_passes_through_responses_and_back() -> None:
    signed = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "ZGF0YQ"}
    said = _translated(Wire.RESPONSES, Wire.MESSAGES, _message(signed, hidden, TOOL_USE))
    request = {
        "model": "m",
        "input": [
            {"role": "user", "content": "Go"},
            *said["output"],
            {"type": "function_call_output", "call_id": "c", "output": "7"},
        ],
    }
    sent = _known(Wire.RESPONSES, Wire.MESSAGES).request(json.dumps(request).encode(), "claude")
    assert json.loads(sent)["messages"][1] == {
        "role": "assistant",
        "content": [signed, hidden, TOOL_USE],
    }


@_ignore_resolver
@pytest.mark.parametrize(
    ("suite", "spec", "caller", "upstream", "answers"),
    [
        (
            ANTHROPIC_TESTS,
            "anthropic.json",
            Wire.MESSAGES,
            Wire.CHAT,
            (
                _completion(content="Hi"),
                _completion("tool_calls", content=None, tool_calls=[CALL]),
            ),
        ),
        (
            OPENAI_CHAT_TESTS,
            "openai_chat.json",
            Wire.CHAT,
            Wire.MESSAGES,
            (_message(TEXT), _message(TOOL_USE, stop="tool_use")),
        ),
        (
            OPEN_RESPONSES_TESTS,
            "openresponses.json",
            Wire.RESPONSES,
            Wire.CHAT,
            (
                _completion(content="Hi"),
                _completion("tool_calls", content=None, tool_calls=[CALL]),
            ),
        ),
    ],
)
def test_llm_complys_checks_of_whole_answers_pass(
    suite: list[Any], spec: str, caller: Wire, upstream: Wire, answers: tuple[Json, Json]
) -> None:
    schemas = SpecLoader(str(_SPECS_DIR / spec))
    tried = 0
    for case in suite:
        advisory = "compact" in case.id or "reasoning" in case.id or "thinking" in case.id
        if case.streaming or advisory or case.expected_statuses != [200]:
            continue
        answer = answers["tool" in case.id]
        asked = case.build_request(_Config())
        sent = json.loads(_known(caller, upstream).request(json.dumps(asked).encode(), "up"))
        assert sent["model"] == "up"
        said = _translated(caller, upstream, answer, asked)
        assert schemas.validate(said, case.schema_name or "") == []
        for check in case.validators:
            faults = check(said, ValidatorContext(streaming=False, sse_events=[]))
            serious = [fault for fault in faults if not fault.startswith("[warning]")]
            assert serious == [], (case.id, check)
        tried += 1
    assert tried >= 5


class _Config:
    model = "m"


# Errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_chat_upstreams_error_is_told_as_anthropics(status: int, kind: str) -> None:
    body = b'{"error": {"message": "It failed.", "type": "x", "param": null, "code": "y"}}'
    said = ErrorResponse.model_validate_json(_known(Wire.MESSAGES, Wire.CHAT).error(status, body))
    assert (said.error.type, said.error.message) == (kind, "It failed.")


@pytest.mark.parametrize("caller", [Wire.CHAT, Wire.RESPONSES])
def test_an_anthropic_upstreams_error_is_told_as_openais(caller: Wire) -> None:
    body = b'{"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}'
    said = json.loads(_known(caller, Wire.MESSAGES).error(529, body))
    assert said["error"]["message"] == "Busy"
    assert said["error"]["code"] == "overloaded_error"
    assert set(said["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"[]", b'{"error": 7}'])
def test_an_error_body_that_says_nothing_is_told_by_its_status(body: bytes) -> None:
    for caller, upstream in ((Wire.MESSAGES, Wire.CHAT), (Wire.CHAT, Wire.MESSAGES)):
        said = json.loads(_known(caller, upstream).error(502, body))
        assert "502" in said["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b'{"content": 7}']
)
@pytest.mark.parametrize("caller", [Wire.MESSAGES, Wire.RESPONSES, Wire.CHAT])
def test_an_answer_that_is_none_is_the_upstreams_fault(caller: Wire, body: bytes) -> None:
    upstream = Wire.MESSAGES if caller is Wire.CHAT else Wire.CHAT
    with pytest.raises(ProviderError, match="the upstream's answer"):
        _known(caller, upstream).answer(body, "m")


def test_there_is_a_translation_for_four_pairs_alone() -> None:
    found = {(a, b) for a in Wire for b in Wire if translation(a, b) is not None}
    assert found == {
        (Wire.CHAT, Wire.MESSAGES),
        (Wire.MESSAGES, Wire.CHAT),
        (Wire.RESPONSES, Wire.CHAT),
        (Wire.RESPONSES, Wire.MESSAGES),
    }
