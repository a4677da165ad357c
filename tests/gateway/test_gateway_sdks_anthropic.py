"""Anthropic's own SDK against the endpoint, in its own format and with a translation between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from anthropic import Anthropic, AsyncAnthropic, NotFoundError

from stillhouse.core.calls import Fate
from stillhouse.core.traffic import Evidence
from stillhouse.testing.faulty import FaultyUpstream, SeenCall

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Heard, Said, Served

MODELS = ("claude-haiku-4-5", "by-chat")
ASKED: Any = {
    "max_tokens": 100,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "Sun?"}],
}
TOOL: Any = {
    "name": "look",
    "description": "Looks at the sky.",
    "input_schema": {
        "type": "object",
        "properties": {"where": {"type": "string"}},
        "required": ["where"],
    },
}
CONTENT: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Both sides.", "signature": "c2lnbmVk"},
    {"type": "text", "text": "I look.", "citations": None},
    {"type": "tool_use", "id": "toolu_0", "name": "look", "input": {"where": "east"}},
    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"where": "west"}},
]


def thinking_and_tools(heard: Heard) -> Said:
    """Thinks, speaks, and calls two tools; with pings, as Anthropic's own streams have them."""
    message = {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": heard.body["model"],
        "content": CONTENT,
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 40},
    }
    if not heard.body.get("stream"):
        return 200, {"content-type": "application/json"}, [json.dumps(message).encode()]
    begun = {**message, "content": [], "stop_reason": None}
    begun["usage"] = {"input_tokens": 9, "output_tokens": 1}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for at, block in enumerate(CONTENT):
        events += _told(at, block)
    delta = {"stop_reason": "tool_use", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 40}})
    events.append({"type": "message_stop"})
    pieces = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events]
    return 200, {"content-type": "text/event-stream"}, pieces


def _told(at: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    empty: dict[str, Any] = {"thinking": "", "signature": "", "text": "", "input": {}}
    begun = {name: empty.get(name, value) for name, value in block.items()}
    deltas: list[dict[str, Any]] = []
    if block["type"] == "thinking":
        deltas.append({"type": "thinking_delta", "thinking": block["thinking"]})
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif block["type"] == "text":
        deltas += [{"type": "text_delta", "text": part} for part in ("I ", "look.")]
    else:
        text = json.dumps(block["input"])
        deltas += [{"type": "input_json_delta", "partial_json": p} for p in (text[:4], text[4:])]
    return [
        {"type": "content_block_start", "index": at, "content_block": begun},
        *({"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": at},
    ]


@pytest.fixture(scope="module")
def upstream(harbour: Harbour) -> FaultyUpstream:
    return harbour.faulty()


@pytest.fixture(scope="module")
def served(harbour: Harbour, upstream: FaultyUpstream) -> Served:
    place, _ = harbour.vendor(thinking_and_tools)
    toml = f'[upstreams.deep]\nbase_url = "{place}"\nallow_private = true\nwires = ["messages"]\n'
    for name, wires in (("messages", ["messages"]), ("chat", ["chat"])):
        toml += f'[upstreams.{name}]\nbase_url = "{upstream.url}/v1"\nallow_private = true\n'
        toml += f"wires = {wires}\nhost = 'anthropic'\n"
    return harbour.serve(
        toml
        + """
[models.claude-haiku-4-5]
upstream = "messages"
aliases = ["haiku"]
[models.by-chat]
upstream = "chat"
model = "claude-haiku-4-5"
[models.deep]
upstream = "deep"
model = "claude-haiku-4-5"
"""
    )


@pytest.fixture(scope="module", params=["x-api-key", "bearer"])
def client(served: Served, request: pytest.FixtureRequest) -> Iterator[Anthropic]:
    key: Any = {"api_key" if request.param == "x-api-key" else "auth_token": served.token}
    with Anthropic(base_url=served.url, max_retries=0, timeout=20, **key) as made:
        yield made


@pytest.fixture
def seen(upstream: FaultyUpstream) -> list[SeenCall]:
    """What the upstream sees in this test."""
    upstream.seen.clear()
    return upstream.seen


@pytest.mark.parametrize("model", MODELS)
def test_a_message_is_the_upstreams_and_booked_as_it_says(
    client: Anthropic, served: Served, seen: list[SeenCall], model: str
) -> None:
    raw = client.messages.with_raw_response.create(model=model, **ASKED)
    answer = raw.parse()

    (call,) = seen
    (booked,) = served.ended(raw.headers["x-stillhouse-exchange"])
    assert [block.text for block in answer.content if block.type == "text"] == [call.text]
    assert answer.stop_reason == "end_turn"
    assert call.model == answer.model == "claude-haiku-4-5"
    assert booked.attempt.usage is not None
    assert booked.attempt.usage.leaves() == call.usage
    assert booked.attempt.usage.total_output_tokens == answer.usage.output_tokens
    assert booked.attempt.evidence is Evidence.REPORTED
    assert booked.fate is Fate.OK
    assert all(charge.billed is not None for charge in booked.charges)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_makes_the_whole_message(
    client: Anthropic, served: Served, seen: list[SeenCall], model: str
) -> None:
    with client.messages.stream(model=model, **ASKED) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
        exchange = stream.response.headers["x-stillhouse-exchange"]

    (call,) = seen
    (booked,) = served.ended(exchange)
    assert text == call.text
    assert booked.attempt.usage is not None
    assert booked.attempt.usage.leaves() == call.usage
    assert final.usage.output_tokens == booked.attempt.usage.total_output_tokens
    read = final.usage.cache_read_input_tokens or 0
    assert final.usage.input_tokens + read == booked.attempt.usage.total_input_tokens


@pytest.mark.parametrize("model", MODELS)
def test_a_raw_stream_ends_with_the_last_event(client: Anthropic, model: str) -> None:
    events = list(client.messages.create(model=model, stream=True, **ASKED))

    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"


@pytest.mark.parametrize("model", MODELS)
def test_a_tool_is_called_and_answered(client: Anthropic, seen: list[SeenCall], model: str) -> None:
    first = client.messages.create(model=model, tools=[TOOL], **ASKED)
    (call,) = [block for block in first.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It shines."}
    turns: Any = [
        *ASKED["messages"],
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    second = client.messages.create(model=model, tools=[TOOL], **{**ASKED, "messages": turns})

    assert (call.name, call.input) == ("look", {"where": "sun"})
    assert first.stop_reason == "tool_use"
    assert [block.text for block in second.content if block.type == "text"] == [seen[1].text]


def test_thinking_and_parallel_tools_pass_whole_and_streamed(client: Anthropic) -> None:
    asked: Any = {"model": "deep", "tools": [TOOL], **ASKED}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()

    for answer in (whole, streamed):
        assert [block.to_dict() for block in answer.content] == CONTENT
        assert answer.usage.output_tokens == 40


@pytest.mark.parametrize("model", MODELS)
def test_tokens_are_counted_or_estimated_and_nothing_is_booked(
    client: Anthropic, served: Served, model: str
) -> None:
    before = len(served.entries())
    raw = client.messages.with_raw_response.count_tokens(
        model=model, system=ASKED["system"], messages=ASKED["messages"]
    )

    assert raw.parse().input_tokens > 0
    estimated = raw.headers.get("x-stillhouse-evidence") == "estimated"
    assert estimated == (model == "by-chat")
    assert len(served.entries()) == before


def test_the_models_are_listed_and_found_as_anthropic_does(client: Anthropic) -> None:
    listed = [model.id for model in client.models.list()]

    assert set(listed) == {"claude-haiku-4-5", "haiku", "by-chat", "deep"}
    assert client.models.retrieve("haiku").display_name == "haiku"
    with pytest.raises(NotFoundError):
        client.models.retrieve("nobody")


def test_the_async_client_speaks_as_the_other_one(served: Served, seen: list[SeenCall]) -> None:
    async def story() -> None:
        async with AsyncAnthropic(
            base_url=served.url, api_key=served.token, max_retries=0
        ) as client:
            whole = await client.messages.create(model="haiku", **ASKED)
            async with client.messages.stream(model="by-chat", **ASKED) as stream:
                final = await stream.get_final_message()
            count = await client.messages.count_tokens(model="haiku", messages=ASKED["messages"])
            many = await asyncio.gather(
                *(client.messages.create(model="haiku", **ASKED) for _ in range(20))
            )

        blocks: list[Any] = [*whole.content, *final.content]
        assert [block.text for block in blocks] == [call.text for call in seen[:2]]
        assert count.input_tokens > 0
        assert len({answer.id for answer in many}) == 20

    asyncio.run(story())
