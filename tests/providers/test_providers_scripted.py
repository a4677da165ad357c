"""A scripted upstream does what its script says."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stillhouse.core.calls import Fate, UpstreamCall
from stillhouse.core.catalogue import Timeouts, Upstream, Wire
from stillhouse.core.errors import ConfigError, UpstreamError
from stillhouse.core.traffic import Message, Request
from stillhouse.dialects.seen import read_body
from stillhouse.providers.script import BUILT_IN, FAULTS, Rule, read_rules
from stillhouse.providers.scripted import ScriptedProvider

Run = Callable[[Coroutine[Any, Any, None]], None]
BRIEF = Timeouts(connect_seconds=0.01, first_byte_seconds=0.01, total_seconds=0.02)
UPSTREAM = Upstream("scripted", kind="scripted", models=("m",), timeouts=BRIEF)
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "sun"}]}).encode()
CALL = UpstreamCall(Wire.CHAT, "POST", "/chat/completions", "m", BODY)


def read_request(body: bytes, _: Wire) -> Request:
    turns = json.loads(body)["messages"]
    return Request(tuple(Message(turn["role"], turn["content"]) for turn in turns))


def not_noted() -> None:
    """For calls whose moment of sending does not matter."""


def provider(*rules: Rule) -> ScriptedProvider:
    return ScriptedProvider(UPSTREAM, read_request, rules or BUILT_IN)


def test_without_a_script_everything_is_answered(run: Run) -> None:
    async def story() -> None:
        reply = await provider().send(CALL, not_noted)
        body = await reply.read()
        assert json.loads(body)["choices"][0]["message"]["content"] == "You said: sun"
        assert json.loads(body)["usage"]["prompt_tokens"] == -(-len(BODY) // 4)

    run(story())


@pytest.mark.parametrize("wire", [Wire.CHAT, Wire.RESPONSES, Wire.MESSAGES])
@pytest.mark.parametrize("stream", [False, True])
def test_every_dialect_is_spoken(wire: Wire, stream: bool, run: Run) -> None:
    async def story() -> None:
        reply = await provider().send(CALL._replace(wire=wire, stream=stream), not_noted)
        content_type = b"text/event-stream" if stream else b"application/json"
        assert reply.headers == [(b"content-type", content_type)]
        body = await reply.read()
        assert b"sun" in body
        if not stream:
            assert read_body(body, wire).usage_body is not None

    run(story())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_script_is_raised_as_its_fate(name: str, run: Run) -> None:
    async def story() -> None:
        noted: list[int] = []
        model = f"fault-{name.replace('_', '-')}"
        with pytest.raises(UpstreamError) as caught:
            await (
                await provider().send(CALL._replace(model=model), lambda: noted.append(1))
            ).read()
        assert caught.value.fate is FAULTS[name]
        assert bool(noted) is caught.value.fate.sent

    run(story())


def test_a_stream_is_cut_after_some_of_it(run: Run) -> None:
    async def story() -> None:
        call = CALL._replace(model="fault-truncated", stream=True)
        got = []
        parts = (await provider().send(call, not_noted)).chunks()
        with pytest.raises(UpstreamError) as caught:  # noqa: PT012 (the loop is what is tried)
            async for part in parts:
                got.append(part)
        assert caught.value.fate is Fate.TRUNCATED
        assert got
        quiet = await provider().send(call._replace(model="fault-cut"), not_noted)
        assert b"[DONE]" not in await quiet.read()

    run(story())


def test_statuses_come_with_what_the_script_adds(run: Run) -> None:
    async def story() -> None:
        reply = await provider().send(CALL._replace(model="fault-429-retry-after"), not_noted)
        assert (reply.status, dict(reply.headers)[b"retry-after"]) == (429, b"1")
        assert json.loads(await reply.read())["error"]["type"] == "rate_limit_error"

    run(story())


def test_the_first_rule_that_fits_is_followed_as_often_as_it_says(run: Run) -> None:
    async def story() -> None:
        told = provider(
            Rule(text="moon", answer="m"), Rule(status=503, times=2), Rule(tool="t", usage=False)
        )
        statuses = [(await told.send(CALL, not_noted)).status for _ in range(3)]
        assert statuses == [503, 503, 200]
        body = json.loads(await (await told.send(CALL, not_noted)).read())
        assert body["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "t"
        assert "usage" not in body
        moon = CALL._replace(body=BODY.replace(b"sun", b"moon"))
        assert b'"m"' in await (await told.send(moon, not_noted)).read()

    run(story())


def test_what_no_rule_is_for_is_not_found(run: Run) -> None:
    async def story() -> None:
        told = provider(Rule("other"))
        assert (await told.send(CALL, not_noted)).status == 404
        vectors = CALL._replace(wire=Wire.EMBEDDINGS, path="/embeddings")
        assert (await provider().send(vectors, not_noted)).status == 404
        listed = await provider().send(
            CALL._replace(method="GET", path="/models", body=b""), not_noted
        )
        assert json.loads(await listed.read())["data"][0]["id"] == "m"

    run(story())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"modle": "m"}, "the setting 'modle'"),
        ({"status": "503"}, "status = '503'"),
        ({"status": True}, "status = True"),
        ({"status": 99}, "status 99"),
        ({"model": "("}, "no regular expression"),
        ({"fault": "fire"}, "fault 'fire'"),
    ],
)
def test_a_script_that_cannot_be_followed_is_refused(row: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        read_rules([row])
