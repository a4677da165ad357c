"""What callers with the official SDKs meet when something is wrong, or when they leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import openai
import pytest

from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.money import PICO
from stillhouse.core.quotas import Quota, Scope, Unit, Window
from stillhouse.core.traffic import Completion, Evidence
from stillhouse.dialects.paths import SERVED
from stillhouse.dialects.render import render_body, render_stream
from stillhouse.testing.faulty import FaultyUpstream

if TYPE_CHECKING:
    from tests.gateway.conftest import Harbour, Heard, Said, Served, Vendor

TURNS: Any = [{"role": "user", "content": "Sun?"}]
EVENTS = {"content-type": "text/event-stream"}


def holding(heard: Heard) -> Said:
    """Begins to answer, and then waits until its caller has left."""
    wire, said = SERVED[heard.path], heard.body
    facts: Any = {"answer_id": "1", "model": said["model"], "usage": None, "created_s": 1}
    answer = Completion("The sun is up and the sky is blue.", finish="stop")
    if said.get("stream"):
        return 200, EVENTS, [*render_stream(wire, answer, **facts)[:4], b""]
    return 200, {"content-type": "application/json"}, [render_body(wire, answer, **facts)[:20], b""]


def odd(heard: Heard) -> Said:
    """JSON with a usage, and no answer in it."""
    body = b'{"usage": {"prompt_tokens": 7, "completion_tokens": 3}, "choices": "none"}'
    return 200, {"content-type": "application/json"}, [body]


@pytest.fixture(scope="module")
def upstream(harbour: Harbour) -> FaultyUpstream:
    return harbour.faulty(pause_seconds=0.03)


@pytest.fixture(scope="module")
def held(harbour: Harbour) -> tuple[str, Vendor]:
    return harbour.vendor(holding)


@pytest.fixture(scope="module")
def served(harbour: Harbour, upstream: FaultyUpstream, held: tuple[str, Vendor]) -> Served:
    toml = ""
    for name, place in (("faulty", f"{upstream.url}/v1"), ("held", held[0])):
        toml += f'[upstreams.{name}]\nbase_url = "{place}"\nallow_private = true\n'
        toml += 'wires = ["chat", "responses", "messages"]\nhost = "openai"\n'
    for name, place in (("faulty", f"{upstream.url}/v1"), ("held", held[0])):
        for wire in ("chat", "messages"):
            toml += f'[upstreams.{name}-{wire}]\nbase_url = "{place}"\nallow_private = true\n'
            toml += f'wires = ["{wire}"]\n'
    toml += f'[upstreams.odd]\nbase_url = "{harbour.vendor(odd)[0]}"\nallow_private = true\n'
    toml += '[models.odd]\nupstream = "odd"\nretries = 0\n'
    for fault in {*FAULTS, *DEATHS}:
        toml += f'[models.{fault}]\nupstream = "faulty"\nmodel = "fault-{fault}"\nretries = 0\n'
    for name in ("held", "held-chat", "held-messages"):
        toml += f'[models.{name}]\nupstream = "{name}"\nmodel = "gpt-5-mini"\nretries = 0\n'
    return harbour.serve(
        toml
        + """
[models.gpt-5-mini]
upstream = "faulty"
[models.drained]
upstream = "faulty"
model = "gpt-5-mini"
on_disconnect = "drain"
""",
        quotas=[Quota(Scope.KEY, "*", Unit.COST, Window.MONTH, PICO // 100)],
    )


def openai_call(url: str, key: str, model: str, **more: Any) -> None:
    stream = more.pop("stream", False)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20) as client:
        answer: Any = client.with_options(**more).chat.completions.create(
            model=model, messages=TURNS, stream=stream
        )
        for _ in answer if stream else ():
            pass


def responses_call(url: str, key: str, model: str, **more: Any) -> None:
    stream = more.pop("stream", False)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20) as client:
        answer: Any = client.with_options(**more).responses.create(
            model=model, input="Sun?", stream=stream
        )
        for _ in answer if stream else ():
            pass


def anthropic_call(url: str, key: str, model: str, **more: Any) -> None:
    stream = more.pop("stream", False)
    with anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=20) as client:
        answer: Any = client.with_options(**more).messages.create(
            model=model, messages=TURNS, max_tokens=4500, stream=stream
        )
        for _ in answer if stream else ():
            pass


Call = Callable[..., None]
CALLS = [
    pytest.param(openai_call, openai, id="chat"),
    pytest.param(responses_call, openai, id="responses"),
    pytest.param(anthropic_call, anthropic, id="messages"),
]
FAULTS = {
    "400": "BadRequestError",
    "403": "PermissionDeniedError",
    "404": "NotFoundError",
    "422": "UnprocessableEntityError",
    "429-retry-after": "RateLimitError",
    "500": "InternalServerError",
    "529": "InternalServerError",
    "drop": "InternalServerError",
    "truncated-json": "InternalServerError",
    "truncated": "InternalServerError",
    "garbage": "InternalServerError",
}
"""Faults of an upstream, and what the SDKs raise for them."""
BODIES: dict[str, Any] = {
    "/v1/chat/completions": {"messages": TURNS},
    "/v1/responses": {"input": "Sun?"},
    "/v1/messages": {"messages": TURNS, "max_tokens": 50},
}
DEATHS = ("truncated", "cut", "error-event")
"""Ways in which a stream dies."""


def until(wanted: Callable[[], list[Ended]]) -> Ended:
    """Wait for an entry of the journal that is sure to come."""
    for _ in range(1000):
        if found := wanted():
            (entry,) = found
            return entry
        time.sleep(0.01)
    raise AssertionError("nothing was booked")


def booked_after(served: Served, before: int) -> Ended:
    return until(lambda: [e for e in served.entries()[before:] if isinstance(e, Ended)])


@pytest.mark.parametrize(("call", "sdk"), CALLS)
def test_a_wrong_key_is_an_authentication_error(served: Served, call: Call, sdk: Any) -> None:
    for key in ("nobody", "sh-0123-4567", served.token[:-1]):
        with pytest.raises(sdk.AuthenticationError, match="virtual key") as caught:
            call(served.url, key, "gpt-5-mini")
        assert key not in str(caught.value)


@pytest.mark.parametrize(("call", "sdk"), CALLS)
def test_an_unknown_model_is_not_found(served: Served, call: Call, sdk: Any) -> None:
    with pytest.raises(sdk.NotFoundError, match="'nobody' is not served here"):
        call(served.url, served.token, "nobody")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("call", "sdk"), CALLS)
def test_an_upstreams_failure_is_the_same_exception_as_without_the_endpoint(
    served: Served, call: Call, sdk: Any, fault: str
) -> None:
    with pytest.raises(getattr(sdk, FAULTS[fault])) as caught:
        call(served.url, served.token, fault)

    after = caught.value.response.headers.get("retry-after")
    assert (after is not None) == fault.endswith("retry-after")
    assert caught.value.body is not None


@pytest.mark.parametrize(("call", "sdk"), CALLS[1:])
def test_an_answer_that_cannot_be_translated_is_a_failure_and_booked(
    served: Served, call: Call, sdk: Any
) -> None:
    before = len(served.entries())
    with pytest.raises(sdk.InternalServerError) as caught:
        call(served.url, served.token, "odd")

    booked = booked_after(served, before)
    assert caught.value.status_code == 502
    assert booked.fate is Fate.GARBAGE
    assert booked.attempt.evidence is Evidence.REPORTED
    assert booked.attempt.usage is not None
    assert booked.attempt.usage.leaves() == {"input_tokens": 7, "output_tokens": 3}


@pytest.mark.parametrize("fault", DEATHS)
@pytest.mark.parametrize(("call", "sdk"), CALLS)
def test_a_stream_that_dies_is_an_error_and_booked(
    served: Served, call: Call, sdk: Any, fault: str
) -> None:
    before = len(served.entries())
    with pytest.raises(sdk.APIError):
        call(served.url, served.token, fault, stream=True)

    booked = booked_after(served, before)
    assert booked.fate in (Fate.TRUNCATED, Fate.GARBAGE)
    assert not booked.attempt.ok


@pytest.mark.parametrize(("call", "sdk"), CALLS)
def test_a_spent_budget_is_a_rate_limit_error(served: Served, call: Call, sdk: Any) -> None:
    def spend() -> None:
        for _ in range(50):
            call(served.url, served.tokens["narrow"], "gpt-5-mini")

    with pytest.raises(sdk.RateLimitError, match=r"quota of .* this month") as caught:
        spend()

    before = len(served.entries())
    with pytest.raises(sdk.RateLimitError):
        call(served.url, served.tokens["narrow"], "gpt-5-mini")
    assert int(caught.value.response.headers["retry-after"]) > 0
    assert len(served.entries()) == before


def test_a_call_that_no_budget_would_ever_allow_is_not_tried_again(served: Served) -> None:
    with (
        openai.OpenAI(base_url=served.v1, api_key=served.tokens["narrow"], timeout=20) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.chat.completions.create(model="gpt-5-mini", messages=TURNS, max_tokens=10**6)

    assert caught.value.request.headers["x-stainless-retry-count"] == "0"
    assert "retry-after" not in caught.value.response.headers
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("upstream_speaks", ["faulty", "faulty-chat", "faulty-messages"])
def test_an_upstreams_error_inside_a_stream_is_told_once(
    served: Served, upstream_speaks: str
) -> None:
    key = {"authorization": f"Bearer {served.token}"}
    for path, body in BODIES.items():
        said = {**body, "model": f"{upstream_speaks}/fault-error-event", "stream": True}
        answer = httpx2.post(served.url + path, json=said, headers=key)
        assert answer.content.count(b'"error":{') == 1, answer.text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("call", "sdk"), CALLS)
def test_a_caller_out_of_patience_is_booked_as_gone(
    served: Served, held: tuple[str, Vendor], call: Call, sdk: Any, stream: bool
) -> None:
    held[1].left.clear()
    before = len(served.entries())
    with pytest.raises((sdk.APITimeoutError, httpx2.TimeoutException)):
        call(served.url, served.token, "held", timeout=0.5, stream=stream)

    booked = booked_after(served, before)
    assert held[1].left.wait(10), "the upstream was not let go"
    assert booked.fate is Fate.CALLER_GONE
    assert booked.attempt.evidence is Evidence.ESTIMATED
    assert booked.attempt.usage is not None
    assert booked.attempt.usage.input_tokens > 0


@pytest.mark.parametrize("model", ["held", "held-messages"])
def test_a_chat_caller_who_leaves_a_stream_is_booked_as_gone(
    served: Served, held: tuple[str, Vendor], model: str
) -> None:
    held[1].left.clear()
    with openai.OpenAI(base_url=served.v1, api_key=served.token, max_retries=0) as client:
        stream = client.chat.completions.create(model=model, messages=TURNS, stream=True)
        first = next(iter(stream))
        exchange = stream.response.headers["x-stillhouse-exchange"]
        stream.close()

    booked = until(lambda: served.ended(exchange))
    assert held[1].left.wait(10), "the upstream was not let go"
    assert first.choices[0].delta.role == "assistant"
    assert booked.fate is Fate.CALLER_GONE
    assert booked.streamed
    assert booked.attempt.evidence is Evidence.ESTIMATED
    assert booked.attempt.usage is not None
    assert booked.attempt.usage.output_tokens > 0


@pytest.mark.parametrize("model", ["held", "held-chat"])
def test_a_messages_caller_who_leaves_a_stream_is_booked_as_gone(
    served: Served, held: tuple[str, Vendor], model: str
) -> None:
    held[1].left.clear()
    with anthropic.Anthropic(base_url=served.url, api_key=served.token, max_retries=0) as client:
        stream = client.messages.create(model=model, messages=TURNS, max_tokens=50, stream=True)
        next(iter(stream))
        exchange = stream.response.headers["x-stillhouse-exchange"]
        stream.close()

    booked = until(lambda: served.ended(exchange))
    assert held[1].left.wait(10), "the upstream was not let go"
    assert booked.fate is Fate.CALLER_GONE
    assert booked.attempt.evidence is Evidence.ESTIMATED


def test_an_async_caller_who_is_cancelled_is_booked_as_gone(
    served: Served, held: tuple[str, Vendor]
) -> None:
    async def story() -> str:
        async with openai.AsyncOpenAI(
            base_url=served.v1, api_key=served.token, max_retries=0
        ) as client:
            stream = await client.responses.create(model="held", input="Sun?", stream=True)
            begun = asyncio.Event()

            async def read() -> None:
                async for _ in stream:
                    begun.set()

            reading = asyncio.create_task(read())
            await begun.wait()
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            await stream.close()
            return stream.response.headers["x-stillhouse-exchange"]

    held[1].left.clear()
    exchange = asyncio.run(story())

    booked = until(lambda: served.ended(exchange))
    assert held[1].left.wait(10), "the upstream was not let go"
    assert booked.fate is Fate.CALLER_GONE


def test_a_drained_call_is_booked_whole_although_its_caller_left(
    served: Served, upstream: FaultyUpstream
) -> None:
    upstream.seen.clear()
    with openai.OpenAI(base_url=served.v1, api_key=served.token, max_retries=0) as client:
        stream = client.chat.completions.create(model="drained", messages=TURNS, stream=True)
        next(iter(stream))
        exchange = stream.response.headers["x-stillhouse-exchange"]
        stream.close()

    booked = until(lambda: served.ended(exchange))
    (call,) = upstream.seen
    assert call.ended == "whole"
    assert booked.attempt.usage is not None
    assert booked.attempt.usage.leaves() == call.usage
    assert booked.attempt.evidence is Evidence.REPORTED


def test_no_call_is_left_open_in_the_journal(served: Served) -> None:
    entries = served.entries()
    started = [entry.attempt.attempt_id for entry in entries if isinstance(entry, Started)]
    ended = [entry.attempt.attempt_id for entry in entries if isinstance(entry, Ended)]

    assert started
    assert sorted(started) == sorted(ended)


def test_no_key_is_in_what_the_endpoint_wrote(served: Served) -> None:
    written = [path for path in served.folder.rglob("*") if path.is_file()]

    assert {"lines.jsonl", "books.db.access"} <= {path.name for path in written}
    for path in written:
        content = path.read_bytes()
        assert not any(token.encode() in content for token in served.tokens.values()), path
