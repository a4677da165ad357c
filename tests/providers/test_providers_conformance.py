"""Every provider keeps what `core.ports.Provider` promises."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.traffic import Completion, Message, Request
from stillhouse.providers.http import HttpProvider
from stillhouse.providers.replay import RecordedCall, Recordings, ReplayProvider
from stillhouse.providers.script import Rule
from stillhouse.providers.scripted import ScriptedProvider
from stillhouse.testing.faulty import FaultyUpstream
from stillhouse.testing.providers import check_provider

Run = Callable[[Coroutine[Any, Any, None]], None]
SAID = {"model": "m", "messages": [{"role": "user", "content": "sun"}]}
CALL = UpstreamCall(Wire.CHAT, "POST", "/chat/completions", "m", json.dumps(SAID).encode())
STREAMING = CALL._replace(stream=True, body=json.dumps({**SAID, "stream": True}).encode())
REQUEST = Request((Message("user", "sun"),))


def test_the_http_provider_conforms(run: Run) -> None:
    async def story() -> None:
        async with FaultyUpstream(pause_seconds=0.001) as faulty:
            upstream = Upstream(
                "f", base_url=f"{faulty.url}/v1", allow_private=True, max_concurrency=8
            )
            await check_provider(lambda: HttpProvider(upstream), CALL, STREAMING)

    run(story())


def test_the_scripted_provider_conforms(run: Run) -> None:
    async def story() -> None:
        paced = Rule(answer="one two three", first_byte_seconds=0.001, chunk_seconds=0.001)
        for rule in (Rule(), paced):
            await check_provider(
                lambda rule=rule: ScriptedProvider(  # type: ignore[misc]
                    Upstream("s", kind="scripted"), lambda *_: REQUEST, [rule]
                ),
                CALL,
                STREAMING,
            )

    run(story())


def test_the_replay_provider_conforms(run: Run) -> None:
    async def story() -> None:
        recordings = Recordings([RecordedCall(REQUEST, Completion("moon"), latency_ms=5.0)])
        await check_provider(
            lambda: ReplayProvider(Upstream("r", kind="replay"), recordings, lambda *_: REQUEST),
            CALL,
            STREAMING,
        )

    run(story())
