from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from stillhouse.core.money import Paid
from stillhouse.core.traffic import BrokenRow, Completion, LoggedCall, Message, Request, Tags

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object"}},
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
}


def only(rows: list[Any]) -> LoggedCall:
    (row,) = rows
    assert isinstance(row, LoggedCall), row
    return row


def answered(pair: dict[str, Any], **message: Any) -> dict[str, Any]:
    changed = deepcopy(pair)
    changed["response"]["choices"][0]["message"] = {"role": "assistant", **message}
    return changed


def test_a_pair_with_everything_is_read_whole(read_all: Any, pair: Any) -> None:
    row = {
        "id": "req-1",
        **pair,
        "created_at": "2026-09-26T13:05:02.353726Z",
        "latency_ms": 567.9,
        "cost_usd": 5.1128e-06,
        "host": "azure",
        "metadata": {"task": "intent", "team": "cards", "customer": 17, "region": "eu", "run": "x"},
    }
    assert only(read_all([row])) == LoggedCall(
        line=1,
        request=Request(
            (
                Message("system", "Name the intent of the message."),
                Message("user", "Where is my card?"),
            )
        ),
        completion=Completion("card arrival", finish="stop"),
        model="gpt-4o-mini-2024-07-18",
        dialect="openai",
        usage_body=pair["response"]["usage"],
        declared_id="req-1",
        at_us=1790427902353726,
        host="azure",
        latency_ms=567.9,
        reported_cost=Paid(5112800),
        tags=Tags(task="intent", team="cards", customer="17", region="eu"),
    )


def test_request_and_response_alone_are_enough(read_all: Any, pair: Any) -> None:
    call = only(read_all([pair]))
    assert call.at_us == 1790427902000000, "the response says when it was made"
    assert (call.declared_id, call.host, call.latency_ms, call.reported_cost) == (
        "",
        "",
        None,
        None,
    )
    assert call.tags == Tags()


@pytest.mark.parametrize(
    "instant",
    [
        "2026-09-26T13:05:02.5+00:00",
        "2026-09-26T15:05:02.5+02:00",
        "2026-09-26 13:05:02.500",
        1790427902.5,
        1790427902500,
        1790427902500000,
        1790427902500000000,
        "1790427902.5",
    ],
)
def test_an_instant_is_read_in_any_of_its_usual_forms(
    read_all: Any, pair: Any, instant: object
) -> None:
    assert only(read_all([{**pair, "created_at": instant}])).at_us == 1790427902500000


def test_a_tool_call_is_kept_with_its_arguments(read_all: Any, pair: Any) -> None:
    row = answered(pair, content=None, tool_calls=[CALL])
    row["request"]["tools"] = [WEATHER]
    row["response"]["choices"][0]["finish_reason"] = "tool_calls"
    call = only(read_all([row]))
    assert call.request.tools == ("get_weather",)
    assert call.completion == Completion("", "get_weather", '{"city": "Oslo"}', "tool_calls")


def test_several_tool_calls_of_one_answer_lose_nothing(read_all: Any, pair: Any) -> None:
    other = {"type": "custom", "custom": {"name": "note", "input": '"rain"'}}
    completion = only(read_all([answered(pair, tool_calls=[CALL, other])])).completion
    assert completion.tool == "get_weather, note"
    assert completion.tool_arguments == '[{"city": "Oslo"}, "rain"]'


def test_the_older_function_call_is_a_tool_call(read_all: Any, pair: Any) -> None:
    row = answered(pair, content=None, function_call={"name": "f", "arguments": "{}"})
    row["request"]["functions"] = [{"name": "f"}]
    call = only(read_all([row]))
    assert (call.request.tools, call.completion.tool) == (("f",), "f")


def test_a_structured_output_is_asked_for_by_the_name_of_its_schema(
    read_all: Any, pair: Any
) -> None:
    row = answered(pair, content='{"total": 7}')
    schema = {"name": "invoice", "strict": True, "schema": {"type": "object"}}
    row["request"]["response_format"] = {"type": "json_schema", "json_schema": schema}
    call = only(read_all([row]))
    assert call.request.response_format == "json_schema:invoice"
    assert call.completion.text == '{"total": 7}'


@pytest.mark.parametrize(
    ("wanted", "form"), [({"type": "text"}, ""), ({"type": "json_object"}, "json_object")]
)
def test_plain_text_is_no_answer_form(read_all: Any, pair: Any, wanted: Any, form: str) -> None:
    pair["request"]["response_format"] = wanted
    assert only(read_all([pair])).request.response_format == form


def test_a_refusal_is_an_answer_that_says_so(read_all: Any, pair: Any) -> None:
    row = answered(pair, content=None, refusal="I cannot help with that.")
    call = only(read_all([row]))
    assert call.ok
    assert call.completion == Completion("I cannot help with that.", finish="refusal")


def test_parts_of_a_message_are_joined_and_tagged(read_all: Any, pair: Any) -> None:
    pair["request"]["messages"] = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    assert only(read_all([pair])).request.messages == (
        Message("system", "Be brief."),
        Message("user", "What is this?\n[image]\n[audio]"),
        Message("assistant", "[tool get_weather]"),
        Message("tool", "rain"),
    )


@pytest.mark.parametrize(
    "failure",
    [
        {"response": {"error": {"message": "Rate limit reached", "type": "requests"}}},
        {"response": None, "status": 503},
        {"response": None, "status": "timeout"},
        {"response": {}, "status_code": "429"},
        {"error": "connection reset"},
    ],
)
def test_a_failed_call_is_a_call_that_is_not_ok(
    read_all: Any, chat_request: Any, failure: Any
) -> None:
    call = only(read_all([{"request": chat_request, **failure}]))
    assert not call.ok
    assert call.completion == Completion()
    assert (call.model, call.usage_body) == ("gpt-4o-mini", None)


def test_metadata_wins_over_headers_and_headers_over_silence(read_all: Any, pair: Any) -> None:
    headers = {"X-Stillhouse-Task": "other", "x-stillhouse-team": "cards", "accept": "*/*"}
    call = only(read_all([{**pair, "metadata": {"task": "intent"}, "headers": headers}]))
    assert call.tags == Tags(task="intent", team="cards")


def test_metadata_of_the_request_body_tags_too(read_all: Any, pair: Any) -> None:
    pair["request"]["metadata"] = {"task": "intent"}
    assert only(read_all([pair])).tags == Tags(task="intent")


def test_a_cost_inside_the_usage_is_the_reported_one_where_the_log_has_no_other(
    read_all: Any, pair: Any
) -> None:
    pair["response"]["usage"]["cost"] = 0.00014
    assert only(read_all([pair])).reported_cost == Paid.of("0.00014")
    assert only(read_all([{**pair, "cost_usd": "0.1"}])).reported_cost == Paid.of("0.1")


@pytest.mark.parametrize(
    ("tier", "kept", "batch"),
    [("default", "", False), ("flex", "flex", False), ("batch", "", True)],
)
def test_only_a_tier_with_its_own_price_is_kept(
    read_all: Any, pair: Any, tier: str, kept: str, batch: bool
) -> None:
    pair["response"]["service_tier"] = tier
    call = only(read_all([pair]))
    assert (call.service_tier, call.batch) == (kept, batch)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"response": {"choices": [{"delta": {"content": "ca"}}]}},
            "the response has no message; log whole answers, not streamed chunks",
        ),
        ({"response": {"choices": []}}, "the response's choices are []; it needs one"),
        ({"response": "card arrival"}, "the response is 'card arrival', not a response body"),
        ({"response": None}, "the response is None, not a response body"),
        ({"request": {}}, "the request's messages are None, not a list of turns"),
        (
            {"request": {"messages": [{"content": "Hi"}]}},
            "a message has the role None; it needs one, as user or system",
        ),
        (
            {"request": {"messages": [{"role": "user", "content": 5}]}},
            "a message's content is 5, neither text nor parts",
        ),
        (
            {"request": {"messages": ["Hi"]}},
            "the row does not have the shape of a native pair",
        ),
        (
            {"created_at": "yesterday"},
            "created_at is 'yesterday', not a number",
        ),
        (
            {"created_at": "26-09-2026"},
            "created_at is '26-09-2026', neither ISO 8601 nor seconds since 1970",
        ),
        ({"created_at": "1969-12-31"}, "created_at is '1969-12-31', before 1970"),
        ({"created_at": 1e40}, "created_at is 1e+40, not an instant"),
        ({"latency_ms": -1}, "latency_ms is -1, which cannot be negative"),
        ({"latency_ms": True}, "latency_ms is True, not a number"),
        ({"cost_usd": "nothing"}, "cost_usd is 'nothing', not a number"),
        ({"cost_usd": -0.1}, "cost_usd is -0.1, which cannot be negative"),
        ({"cost_usd": "1e999999"}, "cost_usd is '1e999999', not a number"),
        ({"cost_usd": 10**7}, "cost_usd is 10000000, more than one call can cost"),
        ({"metadata": {"task": ["a"]}}, "task is ['a'], not text"),
        ({"metadata": "intent"}, "metadata is 'intent', not an object"),
        ({"headers": ["a"]}, "headers is ['a'], not an object"),
    ],
)
def test_a_pair_that_cannot_be_read_says_why(
    read_all: Any, pair: Any, change: Any, reason: str
) -> None:
    good, broken = read_all([pair, {**pair, **change}])
    assert isinstance(good, LoggedCall)
    assert isinstance(broken, BrokenRow)
    assert (broken.line, broken.reason) == (2, reason)


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        ({"prompt_tokens": -1}, "usage.prompt_tokens is -1, which cannot be negative"),
        ({"prompt_tokens": "402"}, "usage.prompt_tokens is '402', not a count of tokens"),
        ({"prompt_tokens": 1.5}, "usage.prompt_tokens is 1.5, not a count of tokens"),
        ({"prompt_tokens": True}, "usage.prompt_tokens is True, not a count of tokens"),
        ({"prompt_tokens": 10**13}, "usage.prompt_tokens is 10000000000000, not a count of tokens"),
        (
            {"prompt_tokens": 4, "prompt_tokens_details": {"cached_tokens": -3}},
            "usage.cached_tokens is -3, which cannot be negative",
        ),
        ([4], "usage is [4], not an object"),
    ],
)
def test_a_count_that_is_none_breaks_the_row(
    read_all: Any, pair: Any, usage: Any, reason: str
) -> None:
    spoilt = deepcopy(pair)
    spoilt["response"]["usage"] = usage
    _, broken = read_all([pair, spoilt])
    assert broken.reason == reason
