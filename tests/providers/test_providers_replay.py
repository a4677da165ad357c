"""Recorded traffic is answered as it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.errors import CallerError, ConfigError
from stillhouse.core.traffic import Completion, Message, Request, Usage
from stillhouse.providers.replay import RecordedCall, Recordings, ReplayProvider, digest

Run = Callable[[Coroutine[Any, Any, None]], None]
UPSTREAM = Upstream("replay", kind="replay")
CALL = UpstreamCall(Wire.CHAT, "POST", "/chat/completions", "asked-for", b"sun")


def asked(text: str) -> Request:
    return Request((Message("user", text),))


def read_request(body: bytes, _: Wire) -> Request:
    if not body:
        raise CallerError("the body is empty; send one")
    return asked(body.decode())


def not_noted() -> None:
    """For calls whose moment of sending does not matter."""


LOG = (
    RecordedCall(asked("sun"), Completion("one"), "gpt-6", Usage(input_tokens=3, output_tokens=1)),
    RecordedCall(asked("moon"), Completion("two"), "", None, 50.0),
    RecordedCall(asked("sun"), Completion("three"), "gpt-6"),
)


async def text_of(provider: ReplayProvider, call: UpstreamCall = CALL) -> str:
    body = json.loads(await (await provider.send(call, not_noted)).read())
    return str(body["choices"][0]["message"]["content"])


def test_answers_to_one_question_come_in_their_order(run: Run) -> None:
    async def story() -> None:
        provider = ReplayProvider(UPSTREAM, Recordings(LOG), read_request)
        assert [await text_of(provider) for _ in range(4)] == ["one", "three", "one", "three"]

    run(story())


def test_counts_and_models_are_those_of_the_record(run: Run) -> None:
    async def story() -> None:
        provider = ReplayProvider(UPSTREAM, Recordings(LOG), read_request, latency=0)
        first = json.loads(await (await provider.send(CALL, not_noted)).read())
        assert (first["model"], first["usage"]["prompt_tokens"]) == ("gpt-6", 3)
        moon = json.loads(
            await (await provider.send(CALL._replace(body=b"moon"), not_noted)).read()
        )
        assert (moon["model"], "usage" in moon) == ("asked-for", False)

    run(story())


@pytest.mark.parametrize("wire", [Wire.CHAT, Wire.RESPONSES, Wire.MESSAGES])
def test_a_stream_says_the_same_in_every_dialect(wire: Wire, run: Run) -> None:
    async def story() -> None:
        provider = ReplayProvider(UPSTREAM, Recordings(LOG), read_request)
        reply = await provider.send(CALL._replace(wire=wire, stream=True), not_noted)
        assert reply.headers == [(b"content-type", b"text/event-stream")]
        assert b"one" in b"".join([part async for part in reply.chunks()])

    run(story())


def test_an_unknown_question_is_not_found_unless_answers_go_round(run: Run) -> None:
    async def story() -> None:
        strange = CALL._replace(body=b"stars")
        strict = ReplayProvider(UPSTREAM, Recordings(LOG), read_request)
        reply = await strict.send(strange, not_noted)
        assert (reply.status, b"cycle" in await reply.read()) == (404, True)
        loose = ReplayProvider(UPSTREAM, Recordings(LOG), read_request, latency=0, unknown="cycle")
        assert {await text_of(loose, strange) for _ in range(3)} == {"one", "two", "three"}
        empty = ReplayProvider(UPSTREAM, Recordings(()), read_request, unknown="cycle")
        assert (await empty.send(strange, not_noted)).status == 404

    run(story())


def test_what_cannot_be_read_or_was_never_recorded_is_an_error_in_its_dialect(run: Run) -> None:
    async def story() -> None:
        provider = ReplayProvider(UPSTREAM, Recordings(LOG), read_request)
        assert (await provider.send(CALL._replace(body=b""), not_noted)).status == 400
        vectors = CALL._replace(wire=Wire.EMBEDDINGS, path="/embeddings")
        assert (await provider.send(vectors, not_noted)).status == 404
        listed = await provider.send(CALL._replace(method="GET", path="/models"), not_noted)
        assert [row["id"] for row in json.loads(await listed.read())["data"]] == ["gpt-6"]

    run(story())


def test_settings_that_mean_nothing_are_refused() -> None:
    for settings in ({"unknown": "guess"}, {"latency": -1.0}):
        with pytest.raises(ConfigError):
            ReplayProvider(UPSTREAM, Recordings(()), read_request, **settings)


turns = st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), st.text()), max_size=4)


@given(turns, turns)
def test_two_conversations_share_a_digest_only_if_they_are_the_same(
    one: list[Message], other: list[Message]
) -> None:
    assert (digest(Request(tuple(one))) == digest(Request(tuple(other)))) is (one == other)
