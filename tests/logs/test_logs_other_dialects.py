from __future__ import annotations

from typing import Any

from stillhouse.core.traffic import Completion, LoggedCall, Message
from stillhouse.logs import detect

ASKED = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 64,
    "system": [
        {"type": "text", "text": "You sort mail.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Answer with one word."},
    ],
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Refund please"}]}],
}
ANSWERED = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [
        {"type": "thinking", "thinking": "A refund.", "signature": "x"},
        {"type": "text", "text": "ref"},
        {"type": "text", "text": "und"},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 12,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 2048,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 4,
        "service_tier": "standard",
    },
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1790427902,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5-2025-08-07",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "refund", "annotations": []}],
        },
    ],
    "usage": {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 70,
        "output_tokens_details": {"reasoning_tokens": 64},
        "total_tokens": 100,
    },
}


def only(rows: list[Any]) -> LoggedCall:
    (row,) = rows
    assert isinstance(row, LoggedCall), row
    return row


def test_an_anthropic_pair_is_read_in_its_own_dialect(read_all: Any) -> None:
    call = only(read_all([{"request": ASKED, "response": ANSWERED, "latency_ms": 800}]))
    assert call.dialect == "anthropic"
    assert call.model == "claude-sonnet-4-5-20250929"
    assert call.request.messages == (
        Message("system", "You sort mail.\nAnswer with one word."),
        Message("user", "Refund please"),
    )
    assert call.completion == Completion("refund", finish="end_turn")
    assert call.usage_body == ANSWERED["usage"]
    assert call.service_tier == ""


def test_an_anthropic_system_prompt_may_be_plain_text(read_all: Any) -> None:
    call = only(read_all([{"request": {**ASKED, "system": "Sort."}, "response": ANSWERED}]))
    assert call.request.messages[0] == Message("system", "Sort.")


def test_an_anthropic_tool_use_is_kept_with_its_arguments(read_all: Any) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "refund", "input": {"order": 7}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}
    asked = {
        **ASKED,
        "tools": [{"name": "refund", "input_schema": {}}, {"type": "web_search_20250305"}],
        "messages": [
            {"role": "user", "content": "Refund order 6"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result, {"type": "text", "text": "and 7"}]},
        ],
    }
    answered = {**ANSWERED, "content": [use], "stop_reason": "tool_use"}
    call = only(read_all([{"request": asked, "response": answered}]))
    assert call.request.tools == ("refund", "web_search_20250305")
    assert [m.text for m in call.request.messages[2:]] == ["[tool refund]", "done\nand 7"]
    assert call.completion == Completion("", "refund", '{"order":7}', "tool_use")


def test_an_anthropic_structured_output_is_asked_for(read_all: Any) -> None:
    asked = {**ASKED, "output_config": {"format": {"type": "json_schema", "schema": {}}}}
    call = only(read_all([{"request": asked, "response": ANSWERED}]))
    assert call.request.response_format == "json_schema"


def test_an_anthropic_error_is_a_failed_call(read_all: Any) -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    call = only(read_all([{"request": ASKED, "response": overloaded}]))
    assert (call.ok, call.dialect, call.model) == (False, "anthropic", "claude-sonnet-4-5")


def test_an_anthropic_batch_tier_is_a_batch(read_all: Any) -> None:
    usage = {**ANSWERED["usage"], "service_tier": "batch"}  # type: ignore[dict-item]
    call = only(read_all([{"request": ASKED, "response": {**ANSWERED, "usage": usage}}]))
    assert (call.batch, call.service_tier) == (True, "")


def test_a_responses_pair_is_read_in_its_own_dialect(read_all: Any) -> None:
    asked = {"model": "gpt-5", "instructions": "Sort.", "input": "Refund please"}
    call = only(read_all([{"request": asked, "response": RESPONSE}]))
    assert (call.dialect, call.at_us) == ("responses", 1790427902000000)
    assert call.request.messages == (Message("system", "Sort."), Message("user", "Refund please"))
    assert call.completion == Completion("refund", finish="completed")


def test_a_responses_conversation_with_tools_is_read_turn_by_turn(read_all: Any) -> None:
    chosen = {"type": "function_call", "name": "refund", "arguments": '{"order":7}'}
    asked = {
        "model": "gpt-5",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Refund order 6"}]},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "name": "refund", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "done"},
            {"role": "user", "content": [{"type": "input_image", "image_url": "https://x"}]},
        ],
        "tools": [{"type": "function", "name": "refund"}],
        "text": {"format": {"type": "json_schema", "name": "order", "schema": {}}},
    }
    call = only(read_all([{"request": asked, "response": {**RESPONSE, "output": [chosen]}}]))
    assert [(m.role, m.text) for m in call.request.messages] == [
        ("user", "Refund order 6"),
        ("assistant", "[tool refund]"),
        ("tool", "done"),
        ("user", "[image]"),
    ]
    assert (call.request.tools, call.request.response_format) == (("refund",), "json_schema:order")
    assert call.completion == Completion("", "refund", '{"order":7}', "completed")


def test_a_responses_answer_says_how_it_ended(read_all: Any) -> None:
    asked = {"model": "gpt-5", "input": "Refund please"}
    refused = [{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]
    rows = [
        {"request": asked, "response": {**RESPONSE, "output": refused}},
        {
            "request": asked,
            "response": {
                **RESPONSE,
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
            },
        },
        {"request": asked, "response": {**RESPONSE, "status": "failed", "error": {"code": "x"}}},
    ]
    calls = read_all(rows)
    assert [(c.ok, c.completion.text, c.completion.finish) for c in calls] == [
        (True, "No.", "refusal"),
        (True, "refund", "max_output_tokens"),
        (False, "", ""),
    ]


def test_a_gateway_log_may_hold_several_dialects(write: Any, read_all: Any, pair: Any) -> None:
    rows = [pair, {"request": ASKED, "response": ANSWERED}]
    assert [call.dialect for call in read_all(rows)] == ["openai", "anthropic"]
    assert detect(write(rows)).sentence == (
        "log.jsonl holds native pairs (Anthropic Messages and OpenAI chat bodies)"
    )
