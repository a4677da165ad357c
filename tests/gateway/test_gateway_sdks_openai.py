"""OpenAI's own SDK against the endpoint, in its own wire formats and with a translation between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from openai import AsyncOpenAI, NotFoundError, OpenAI
from pydantic import BaseModel

from stillhouse.core.calls import Fate
from stillhouse.core.traffic import Evidence
from stillhouse.testing.faulty import FaultyUpstream, SeenCall

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Heard, Said, Served

CHAT = ("gpt-5-mini", "by-messages")
RESPONSES = ("gpt-5-mini", "by-chat", "by-messages")
TURNS: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sun?"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks at the sky.",
        "parameters": {
            "type": "object",
            "properties": {"where": {"type": "string"}},
            "required": ["where"],
        },
    },
}
CALLED = ('{"where": "east"}', '{"where": "west"}')
CALLS = [
    {"id": f"call_{at}", "type": "function", "function": {"name": "look", "arguments": arguments}}
    for at, arguments in enumerate(CALLED)
]


class Sky(BaseModel):
    """A structured answer."""

    colour: str
    clouds: list[int]


def two_tools(heard: Heard) -> Said:
    """Calls two tools at once; in a stream the pieces of both are mixed."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": CALLS}
    body = {"id": "chatcmpl-2", "object": "chat.completion", "created": 1, "model": "gpt-5-mini"}
    usage = {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}
    if not heard.body.get("stream"):
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
        whole = {**body, "choices": [choice], "usage": usage}
        return 200, {"content-type": "application/json"}, [json.dumps(whole).encode()]
    chunks: list[dict[str, Any]] = []
    for at, call in enumerate(CALLS):
        empty = {"name": "look", "arguments": ""}
        chunks.append({"tool_calls": [{**call, "index": at, "function": empty}]})
    for piece in range(4):
        for at, where in enumerate(("east", "west")):
            part = ('{"wh', 'ere": "', where, '"}')[piece]
            chunks.append({"tool_calls": [{"index": at, "function": {"arguments": part}}]})
    body["object"] = "chat.completion.chunk"
    events = [
        {**body, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in ({"role": "assistant", "content": None}, *chunks)
    ]
    events.append({**body, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    if (heard.body.get("stream_options") or {}).get("include_usage"):
        events.append({**body, "choices": [], "usage": usage})
    pieces = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    return 200, {"content-type": "text/event-stream"}, [*pieces, b"data: [DONE]\n\n"]


@pytest.fixture(scope="module")
def upstream(harbour: Harbour) -> FaultyUpstream:
    return harbour.faulty()


@pytest.fixture(scope="module")
def served(harbour: Harbour, upstream: FaultyUpstream) -> Served:
    place, _ = harbour.vendor(two_tools)
    toml = '[models.two-tools]\nupstream = "tools"\nmodel = "gpt-5-mini"\n'
    toml += f'[upstreams.tools]\nbase_url = "{place}"\nallow_private = true\n'
    for name, wires in (
        ("all", ["chat", "responses", "embeddings"]),
        ("chat", ["chat"]),
        ("messages", ["messages"]),
    ):
        toml += f'[upstreams.{name}]\nbase_url = "{upstream.url}/v1"\nallow_private = true\n'
        toml += f"wires = {wires}\nhost = 'openai'\n"
    return harbour.serve(
        toml
        + """
[models.gpt-5-mini]
upstream = "all"
aliases = ["quick"]
[models.by-chat]
upstream = "chat"
model = "gpt-5-mini"
[models.by-messages]
upstream = "messages"
model = "gpt-5-mini"
[models.text-embedding-3-small]
upstream = "all"
""",
        models=("by-*",),
    )


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=served.v1, api_key=served.token, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def seen(upstream: FaultyUpstream) -> list[SeenCall]:
    """What the upstream sees in this test."""
    upstream.seen.clear()
    return upstream.seen


@pytest.mark.parametrize("model", CHAT)
def test_a_chat_answer_is_the_upstreams_and_booked_as_it_says(
    client: OpenAI, served: Served, seen: list[SeenCall], model: str
) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=TURNS)
    answer = raw.parse()

    (call,) = seen
    (booked,) = served.ended(raw.headers["x-stillhouse-exchange"])
    assert answer.choices[0].message.content == call.text
    assert call.model == answer.model == "gpt-5-mini"
    assert call.attempt == booked.attempt.attempt_id
    assert booked.attempt.usage is not None
    assert booked.attempt.usage.leaves() == call.usage
    assert answer.usage is not None
    assert answer.usage.completion_tokens == booked.attempt.usage.total_output_tokens
    assert booked.fate is Fate.OK
    assert booked.attempt.evidence is Evidence.REPORTED
    assert all(charge.billed is not None for charge in booked.charges)
    assert answer.created > 0


def test_an_alias_is_answered_by_the_model_behind_it(client: OpenAI, seen: list[SeenCall]) -> None:
    answer = client.chat.completions.create(model="quick", messages=TURNS)

    assert [call.model for call in seen] == [answer.model] == ["gpt-5-mini"]


@pytest.mark.parametrize("model", CHAT)
def test_a_chat_stream_hides_the_usage_that_was_not_asked_for(
    client: OpenAI, served: Served, seen: list[SeenCall], model: str
) -> None:
    stream = client.chat.completions.create(model=model, messages=TURNS, stream=True)
    chunks = list(stream)

    (call,) = seen
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == call.text
    assert chunks[-1].choices[0].finish_reason == "stop"
    (booked,) = served.ended(stream.response.headers["x-stillhouse-exchange"])
    assert booked.attempt.usage is not None
    assert booked.attempt.usage.leaves() == call.usage
    assert booked.attempt.evidence is Evidence.REPORTED


@pytest.mark.parametrize("model", CHAT)
def test_a_chat_stream_ends_with_the_usage_that_was_asked_for(
    client: OpenAI, seen: list[SeenCall], model: str
) -> None:
    chunks = list(
        client.chat.completions.create(
            model=model, messages=TURNS, stream=True, stream_options={"include_usage": True}
        )
    )

    (call,) = seen
    counted = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert chunks[-1].choices == []
    assert [usage.total_tokens for usage in counted] == [sum(call.usage.values())]


@pytest.mark.parametrize("model", CHAT)
def test_the_stream_helper_makes_the_whole_answer(
    client: OpenAI, seen: list[SeenCall], model: str
) -> None:
    with client.chat.completions.stream(model=model, messages=TURNS) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()

    assert final.choices[0].message.content == seen[0].text
    assert {"chunk", "content.delta", "content.done"} <= kinds


@pytest.mark.parametrize("model", CHAT)
def test_a_structured_chat_answer_is_parsed(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(model=model, messages=TURNS, response_format=Sky)

    assert answer.choices[0].message.parsed == Sky(colour="sun", clouds=[1])


@pytest.mark.parametrize("model", CHAT)
def test_a_tool_is_called_and_answered(client: OpenAI, seen: list[SeenCall], model: str) -> None:
    first = client.chat.completions.create(model=model, messages=TURNS, tools=[TOOL])
    message = first.choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("look", {"where": "sun"})

    turns = [
        *TURNS,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "It shines."},
    ]
    second = client.chat.completions.create(model=model, messages=turns, tools=[TOOL])

    assert first.choices[0].finish_reason == "tool_calls"
    assert second.choices[0].message.content == seen[1].text


def test_parallel_tools_arrive_whole_and_in_pieces(client: OpenAI) -> None:
    asked: Any = {"model": "two-tools", "messages": TURNS, "tools": [TOOL]}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion()

    for answer in (whole, streamed):
        calls: Any = answer.choices[0].message.tool_calls
        found = [(call.id, call.function.name, call.function.arguments) for call in calls]
        assert found == [("call_0", "look", CALLED[0]), ("call_1", "look", CALLED[1])]


def test_parallel_tools_go_through_a_translation(client: OpenAI) -> None:
    asked: Any = {
        "model": "two-tools",
        "input": "Sun?",
        "tools": [{"type": "function", **TOOL["function"]}],
    }
    whole = client.responses.create(**asked)
    with client.responses.stream(**asked) as stream:
        streamed = stream.get_final_response()

    for answer in (whole, streamed):
        output: list[Any] = list(answer.output)
        found = [(item.call_id, item.name, item.arguments) for item in output]
        assert found == [("call_0", "look", CALLED[0]), ("call_1", "look", CALLED[1])]


@pytest.mark.parametrize("model", RESPONSES)
def test_a_response_is_the_upstreams_and_booked_as_it_says(
    client: OpenAI, served: Served, seen: list[SeenCall], model: str
) -> None:
    raw = client.responses.with_raw_response.create(
        model=model, instructions="Be brief.", input="Sun?", metadata={"trip": "7"}
    )
    answer = raw.parse()

    (call,) = seen
    (booked,) = served.ended(raw.headers["x-stillhouse-exchange"])
    assert answer.output_text == call.text
    assert answer.status == "completed"
    assert answer.usage is not None
    assert answer.usage.total_tokens == sum(call.usage.values())
    assert booked.attempt.usage is not None
    assert booked.attempt.usage.leaves() == call.usage
    if model != "gpt-5-mini":  # a translation gives back what was asked, as OpenAI does
        assert (answer.instructions, answer.metadata) == ("Be brief.", {"trip": "7"})
        assert answer.created_at > 0


@pytest.mark.parametrize("model", RESPONSES)
def test_a_stream_of_a_response_makes_the_whole(
    client: OpenAI, served: Served, seen: list[SeenCall], model: str
) -> None:
    with client.responses.stream(model=model, input="Sun?") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()

    (call,) = seen
    assert "".join(deltas) == final.output_text == call.text
    assert final.usage is not None
    assert final.usage.total_tokens == sum(call.usage.values())


@pytest.mark.parametrize("model", RESPONSES)
def test_a_structured_response_is_parsed(client: OpenAI, model: str) -> None:
    answer = client.responses.parse(model=model, input="Sun?", text_format=Sky)

    assert answer.output_parsed == Sky(colour="sun", clouds=[1])


def test_embeddings_come_one_for_each_text(client: OpenAI, served: Served) -> None:
    raw = client.embeddings.with_raw_response.create(
        model="text-embedding-3-small", input=["sun", "moon"]
    )
    answer = raw.parse()

    (booked,) = served.ended(raw.headers["x-stillhouse-exchange"])
    assert [row.index for row in answer.data] == [0, 1]
    assert answer.data[0].embedding != answer.data[1].embedding
    assert booked.attempt.usage is not None
    assert booked.attempt.usage.input_tokens == answer.usage.prompt_tokens


def test_the_models_are_listed_and_found(client: OpenAI, served: Served) -> None:
    listed = [model.id for model in client.models.list()]

    assert {"gpt-5-mini", "quick", "by-chat", "by-messages", "text-embedding-3-small"} <= set(
        listed
    )
    assert [client.models.retrieve(name).id for name in listed] == listed
    with pytest.raises(NotFoundError, match="GET /v1/models"):
        client.models.retrieve("nobody")


def test_a_key_lists_and_calls_its_own_models_alone(served: Served) -> None:
    with OpenAI(base_url=served.v1, api_key=served.tokens["narrow"], max_retries=0) as narrow:
        assert {model.id for model in narrow.models.list()} == {"by-chat", "by-messages"}
        with pytest.raises(NotFoundError):
            narrow.models.retrieve("gpt-5-mini")
        with pytest.raises(NotFoundError, match="gpt-5-mini"):
            narrow.chat.completions.create(model="gpt-5-mini", messages=TURNS)
        narrow.chat.completions.create(model="by-chat", messages=TURNS)


def test_the_async_client_speaks_as_the_other_one(served: Served, seen: list[SeenCall]) -> None:
    async def story() -> None:
        async with AsyncOpenAI(base_url=served.v1, api_key=served.token, max_retries=0) as client:
            asked: Any = {"model": "gpt-5-mini", "messages": TURNS}
            whole = await client.chat.completions.create(**asked)
            stream = await client.chat.completions.create(**asked, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            parsed = await client.chat.completions.parse(**asked, response_format=Sky)
            response = await client.responses.create(model="by-chat", input="Sun?")
            async with client.responses.stream(model="by-messages", input="Sun?") as events:
                final = await events.get_final_response()
            vectors = await client.embeddings.create(model="text-embedding-3-small", input="sun")
            many = await asyncio.gather(
                *(client.chat.completions.create(**asked) for _ in range(20))
            )

        told = [call.text for call in seen]
        assert whole.choices[0].message.content == told[0]
        assert "".join(pieces) == told[1]
        assert parsed.choices[0].message.parsed == Sky(colour="sun", clouds=[1])
        assert (response.output_text, final.output_text) == (told[3], told[4])
        assert len(vectors.data[0].embedding) == 8
        assert len({answer.id for answer in many}) == 20

    asyncio.run(story())
