"""The provider against every fault of the faulty upstream, and what that remembers of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.calls import Fate, UpstreamCall
from stillhouse.core.catalogue import Timeouts, Upstream, Wire
from stillhouse.core.errors import CallerError, UpstreamError
from stillhouse.core.traffic import Usage
from stillhouse.dialects.paths import UPSTREAM_PATH, USAGE_DIALECT
from stillhouse.dialects.seen import StreamEye, read_body
from stillhouse.ledger.usage import decompose
from stillhouse.providers.http import HttpProvider
from stillhouse.testing.faults import FAULTS, STATUSES
from stillhouse.testing.faulty import FaultyUpstream, SeenCall

Run = Callable[[Coroutine[Any, Any, None]], None]
TALKS = (Wire.CHAT, Wire.RESPONSES, Wire.MESSAGES)
BRIEF = Timeouts(connect_seconds=5, first_byte_seconds=1, total_seconds=1)

FATES = {
    "drop": Fate.DROPPED,
    "reset": Fate.DROPPED,
    "hang": Fate.FIRST_BYTE_TIMEOUT,
    "garbage": Fate.GARBAGE,
    "hang-midway": Fate.TOTAL_TIMEOUT,
    "truncated": Fate.TRUNCATED,
    "cut": Fate.TRUNCATED,
    "garbage-chunk": Fate.GARBAGE,
}
"""What the provider itself raises; every other fault is an answer to it."""


def body_of(wire: Wire, stream: bool = False, model: str = "faulty-1", **more: Any) -> bytes:
    said: dict[str, Any] = {"model": model, **more}
    if wire in (Wire.CHAT, Wire.MESSAGES):
        said["messages"] = [{"role": "user", "content": "Where is my card?"}]
    if wire is Wire.MESSAGES:
        said["max_tokens"] = 100
    if wire in (Wire.RESPONSES, Wire.EMBEDDINGS):
        said["input"] = "Where is my card?"
    if wire is Wire.DECISIONS:
        question = {"type": "predicate", "name": "q", "instructions": "Is a card lost?"}
        said |= {"input": "Where is my card?", "questions": [question]}
    if wire is Wire.SYSTEMONE:
        keyed = {"q": {"type": "noul", "instructions": "Is a card lost?"}}
        said |= {"state": "Where is my card?", "questions": keyed}
    if stream:
        said["stream"] = True
    if stream and wire is Wire.CHAT:
        said["stream_options"] = {"include_usage": True}
    return json.dumps(said).encode()


def call_of(wire: Wire, body: bytes, *headers: tuple[bytes, bytes]) -> UpstreamCall:
    return UpstreamCall(wire, "POST", UPSTREAM_PATH[wire], "", body, headers=headers)


def not_noted() -> None:
    """For calls whose moment of sending does not matter."""


class Bench:
    """A faulty upstream, and a provider for it."""

    def __init__(self, timeouts: Timeouts = BRIEF, log: Path | None = None) -> None:
        self.faulty = FaultyUpstream(log=log)
        self._timeouts = timeouts

    async def __aenter__(self) -> Bench:
        await self.faulty.__aenter__()
        self.provider = HttpProvider(
            Upstream(
                "faulty",
                base_url=f"{self.faulty.url}/v1",
                allow_private=True,
                timeouts=self._timeouts,
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.provider.close()
        await self.faulty.__aexit__(None, None, None)

    async def ask(
        self, wire: Wire, body: bytes, *headers: tuple[bytes, bytes]
    ) -> tuple[int, bytes]:
        reply = await self.provider.send(call_of(wire, body, *headers), not_noted)
        return reply.status, await reply.read()

    def last(self) -> SeenCall:
        return self.faulty.seen[-1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if not fault[0].isdigit()])
def test_every_fault_comes_to_its_fate(fault: str, stream: bool, run: Run) -> None:
    async def story() -> None:
        hanging = fault.startswith("hang")
        brief = Timeouts(first_byte_seconds=0.05, total_seconds=0.1) if hanging else Timeouts()
        async with Bench(brief) as bench:
            for wire in TALKS:
                body = body_of(wire, stream, model=f"fault-{fault}")
                if fault in FATES:
                    with pytest.raises(UpstreamError) as caught:
                        await bench.ask(wire, body)
                    assert caught.value.fate is FATES[fault]
                else:
                    status, _ = await bench.ask(wire, body)
                    assert status == (529 if fault == "error-event" and not stream else 200)
                assert bench.last().fault == fault
                assert bench.last().ended in ("hung", "cut", "whole")

    run(story())


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_is_answered_in_the_dialect(status: int, run: Run) -> None:
    async def story() -> None:
        async with Bench() as bench:
            for wire in Wire:
                got, body = await bench.ask(wire, body_of(wire), (b"x-fault", b"%d" % status))
                assert (got, bench.last().status) == (status, status)
                assert "error" in json.loads(body)

    run(story())


def test_retry_after_comes_where_it_is_asked_for(run: Run) -> None:
    async def story() -> None:
        async with Bench() as bench:
            for fault, seconds in (
                ("429", None),
                ("429-retry-after", "1"),
                ("503-retry-after-7", "7"),
            ):
                body = body_of(Wire.CHAT, model=f"fault-{fault}")
                reply = await bench.provider.send(call_of(Wire.CHAT, body), not_noted)
                said = dict(reply.headers).get(b"retry-after")
                assert (said.decode() if said else None) == seconds
                await reply.read()

    run(story())


@pytest.mark.parametrize(
    "fault", ["", "gzip", "br", "deflate", "large", "http10", "trailers", "hints"]
)
def test_an_odd_but_lawful_answer_says_the_same_as_a_plain_one(fault: str, run: Run) -> None:
    async def story() -> None:
        async with Bench(Timeouts()) as bench:
            for wire in Wire:
                _, body = await bench.ask(wire, body_of(wire), (b"x-fault", fault.encode()))
                seen = bench.last()
                counts = read_body(body, wire).usage_body
                assert counts is not None
                assert decompose(counts, USAGE_DIALECT[wire]) == Usage(**seen.usage)
                assert (seen.counted, seen.ended) == (True, "whole")
                assert seen.sent_bytes == seen.answer_bytes

    run(story())


@pytest.mark.parametrize("wire", TALKS)
@pytest.mark.parametrize("fault", ["", "gzip", "br", "large", "http10", "trailers", "drip"])
def test_an_odd_but_lawful_stream_ends_with_its_usage(wire: Wire, fault: str, run: Run) -> None:
    async def story() -> None:
        async with Bench(Timeouts()) as bench:
            call = call_of(wire, body_of(wire, stream=True), (b"x-fault", fault.encode()))
            eye = StreamEye(wire, hide_usage=False)
            async for chunk in (await bench.provider.send(call, not_noted)).chunks():
                eye.feed(chunk)
            said = eye.end()
            assert said.complete
            assert said.usage_body is not None
            assert decompose(said.usage_body, USAGE_DIALECT[wire]) == Usage(**bench.last().usage)

    run(story())


@pytest.mark.parametrize("wire", [*TALKS, Wire.EMBEDDINGS, Wire.DECISIONS])
def test_contradictory_usage_is_one_that_the_books_refuse(wire: Wire, run: Run) -> None:
    async def story() -> None:
        async with Bench() as bench:
            _, body = await bench.ask(wire, body_of(wire, model="fault-usage-contradictory"))
            counts = read_body(body, wire).usage_body
            assert counts is not None
            with pytest.raises(CallerError):
                decompose(counts, USAGE_DIALECT[wire])
            _, body = await bench.ask(wire, body_of(wire, model="fault-usage-missing"))
            assert read_body(body, wire).usage_body is None
            assert not bench.last().counted

    run(story())


def test_a_fault_may_stand_in_the_text_and_spare_later_attempts(run: Run) -> None:
    async def story() -> None:
        async with Bench() as bench:
            body = body_of(Wire.CHAT, user="[fault-503-first]")
            asked = call_of(Wire.CHAT, body)
            for attempt_id, status in (("a" * 32, 503), ("a" * 32 + "-2", 200)):
                call = asked._replace(attempt_id=attempt_id)
                reply = await bench.provider.send(call, not_noted)
                await reply.read()
                assert reply.status == status
            assert [call.attempt[32:] for call in bench.faulty.seen] == ["", "-2"]

    run(story())


def test_what_was_seen_can_be_asked_for_and_is_written_down(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        log = tmp_path / "seen.jsonl"
        async with Bench(log=log) as bench:
            for model in ("faulty-1", "fault-reset", "fault-500"):
                with suppress(UpstreamError):
                    await bench.ask(Wire.CHAT, body_of(Wire.CHAT, model=model))
            root = HttpProvider(Upstream("seen", base_url=bench.faulty.url, allow_private=True))
            asking = UpstreamCall(Wire.CHAT, "GET", "/__seen", "", b"")
            told = json.loads(await (await root.send(asking, not_noted)).read())
            await root.close()
            assert [row["ended"] for row in told] == ["whole", "cut", "whole"]
            assert [row["status"] for row in told] == [200, 0, 500]
            written = [json.loads(line) for line in log.read_text().splitlines()]
            assert written == told

    run(story())


def test_a_caller_who_leaves_is_noticed(run: Run) -> None:
    async def story() -> None:
        async with Bench(Timeouts()) as bench:
            call = call_of(Wire.CHAT, body_of(Wire.CHAT, stream=True, model="fault-drip"))
            reply = await bench.provider.send(call, not_noted)
            await anext(aiter(reply.chunks()))
            reply.cancel()
            while bench.last().ended == "open":
                await asyncio.sleep(0.005)
            assert bench.last().ended == "caller_gone"
            assert bench.last().sent_bytes < bench.last().answer_bytes

    run(story())


def test_tools_and_schemas_are_answered_as_they_are_asked(run: Run) -> None:
    async def story() -> None:
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        async with Bench() as bench:
            _, body = await bench.ask(Wire.CHAT, body_of(Wire.CHAT, tools=[tool]))
            called = json.loads(body)["choices"][0]["message"]["tool_calls"][0]["function"]
            assert (called["name"], json.loads(called["arguments"])) == ("weather", {"city": "sun"})
            _, body = await bench.ask(Wire.CHAT, body_of(Wire.CHAT, response_format=form))
            said = json.loads(body)["choices"][0]["message"]["content"]
            assert json.loads(said) == {"city": "sun"}

    run(story())


def test_unreadable_requests_are_answered_and_not_fatal(run: Run) -> None:
    async def story() -> None:
        async with Bench() as bench:
            assert (await bench.ask(Wire.CHAT, b"[1]"))[0] == 400
            assert (await bench.ask(Wire.CHAT, b"{"))[0] == 400
            assert (await bench.ask(Wire.CHAT, body_of(Wire.CHAT, model="fault-fire")))[0] == 400
            assert (await bench.ask(Wire.CHAT, body_of(Wire.CHAT)))[0] == 200

    run(story())
