"""What becomes of the library's answers and errors, by a script in the library's place.

The library itself cannot stand beside what the project is checked with (it needs an older
`anthropic`); docs/how-to/any-llm.md says how it was tried.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest

from stillhouse.core.calls import Fate, UpstreamCall
from stillhouse.core.catalogue import Timeouts, Upstream, Wire
from stillhouse.core.errors import ConfigError, UpstreamError
from stillhouse.providers.anyllm import AnyLlmProvider
from stillhouse.testing.providers import check_provider

Run = Callable[[Coroutine[Any, Any, None]], None]
SAID = {"messages": [{"role": "user", "content": "sun"}], "temperature": 0, "odd": [1]}
CALL = UpstreamCall(
    Wire.CHAT, "POST", "/chat/completions", "m", json.dumps({"model": "public", **SAID}).encode()
)
STREAMING = CALL._replace(
    stream=True,
    body=json.dumps({**SAID, "stream": True, "stream_options": {"include_usage": True}}).encode(),
)
UPSTREAM = Upstream("tail", "any-llm", timeouts=Timeouts(1, 0.2, 0.4), max_concurrency=2)
WHOLE = {"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}


class AnyLLMError(Exception):
    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.status_code: int | None = None
        self.code: str | None = None
        self.original_exception: Exception | None = None
        self.__dict__.update(facts)


class Said:
    """An answer or a chunk, as pydantic has it."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def model_dump_json(self, *, exclude_unset: bool) -> str:
        assert exclude_unset
        return json.dumps(self._content, separators=(",", ":"))


def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


CHUNKS = (chunk("a"), chunk("b", "stop"), {"choices": [], "usage": {"prompt_tokens": 3}})


class Library:
    """Does what the library does, as scripted: each call takes the next step of the script."""

    AnyLLMError = AnyLLMError

    def __init__(self, *script: Any, retries: bool = True) -> None:
        self._script = list(script)
        self._retries = retries
        self.made: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []
        self.closed = 0
        self.UnsupportedParameterError = type("UnsupportedParameterError", (AnyLLMError,), {})
        self.AnyLLM = self
        self.client = self

    def create(self, **terms: Any) -> Library:
        if "max_retries" in terms and not self._retries:
            raise self.UnsupportedParameterError("max_retries")
        if not terms["api_key"]:
            raise AnyLLMError("no key; export TAIL_KEY")
        self.made = terms
        return self

    async def acompletion(self, **asked: Any) -> Any:
        self.asked.append(asked)
        step = self._script.pop(0) if self._script else CHUNKS if "stream" in asked else WHOLE
        await asyncio.sleep(0)
        if isinstance(step, float):
            await asyncio.sleep(step)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, dict):
            return Said(step)
        return self._told(step)

    async def _told(self, steps: Sequence[Any]) -> AsyncIterator[Said]:
        try:
            for step in steps:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield Said(step)
        finally:
            self.closed += 1

    async def close(self) -> None:
        self.closed += 100


def of(*script: Any, upstream: Upstream = UPSTREAM, **more: Any) -> tuple[AnyLlmProvider, Library]:
    library = Library(*script, **more)
    return AnyLlmProvider(upstream, "sk-tail", library=library), library


async def told(provider: AnyLlmProvider, call: UpstreamCall = CALL) -> tuple[int, bytes]:
    reply = await provider.send(call, lambda: None)
    return reply.status, await reply.read()


def error(name: str, **facts: Any) -> AnyLLMError:
    made: AnyLLMError = type(name, (AnyLLMError,), {})(f"it is {name}", **facts)
    return made


def test_it_conforms(run: Run) -> None:
    async def story() -> None:
        await check_provider(lambda: of()[0], CALL, STREAMING)

    run(story())


def test_a_call_says_what_was_asked_of_the_model_at_the_vendor(run: Run) -> None:
    async def story() -> None:
        options = {"provider": "bedrock"}
        provider, library = of(
            upstream=Upstream("aws", "any-llm", base_url="https://b", options=options)
        )
        assert library.made == {
            "provider": "bedrock",
            "api_key": "sk-tail",
            "api_base": "https://b",
            "unified_exceptions": True,
            "max_retries": 0,
        }
        status, body = await told(provider)
        assert (status, json.loads(body)) == (200, WHOLE)
        assert library.asked == [{"model": "m", **SAID}]
        await provider.close()
        assert library.closed == 100

    run(story())


def test_a_stream_is_told_as_events_with_its_usage(run: Run) -> None:
    async def story() -> None:
        provider, library = of()
        status, body = await told(provider, STREAMING)
        assert status == 200
        events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n")]
        assert events.pop() == b""
        assert events.pop() == b"[DONE]"
        assert [json.loads(event) for event in events] == list(CHUNKS)
        await provider.close()
        assert library.closed == 101

    run(story())


def test_a_stream_that_just_stops_is_not_ended_as_if_it_were_whole(run: Run) -> None:
    async def story() -> None:
        provider, _ = of((chunk("a"),), ())
        assert b"[DONE]" not in (await told(provider, STREAMING))[1]
        assert await told(provider, STREAMING) == (200, b"")
        await provider.close()

    run(story())


def test_a_vendor_that_knows_no_stream_options_is_asked_without(run: Run) -> None:
    async def story() -> None:
        library = Library()
        refusing = library.UnsupportedParameterError("stream_options")
        library._script = [refusing, CHUNKS]
        provider = AnyLlmProvider(UPSTREAM, "sk-tail", library=library)
        assert (await told(provider, STREAMING))[0] == 200
        assert ["stream_options" in asked for asked in library.asked] == [True, False]
        library._script = [library.UnsupportedParameterError("n")]
        assert (await told(provider))[0] == 400
        await provider.close()

    run(story())


@pytest.mark.parametrize(
    ("failed", "status"),
    [
        (error("RateLimitError"), 429),
        (error("RateLimitError", status_code=529), 529),
        (error("AuthenticationError"), 401),
        (error("AuthenticationError", status_code=403), 403),
        (error("InsufficientFundsError"), 402),
        (error("ModelNotFoundError"), 404),
        (error("InvalidRequestError"), 400),
        (error("ContextLengthExceededError"), 400),
        (error("ContentFilterError", code="content_filter"), 400),
        (error("ProviderError", status_code=500), 500),
        (error("UpstreamProviderError"), 502),
        (error("GatewayTimeoutError"), 504),
    ],
)
def test_a_refusal_keeps_its_status(run: Run, failed: AnyLLMError, status: int) -> None:
    async def story() -> None:
        for call, step in ((CALL, failed), (STREAMING, failed), (STREAMING, (failed,))):
            provider, _ = of(step)
            said, body = await told(provider, call)
            assert said == status
            shown = json.loads(body)["error"]
            assert shown["message"] == failed.message
            assert shown["code"] == failed.code
            await provider.close()

    run(story())


def test_when_to_come_again_is_passed_on(run: Run) -> None:
    async def story() -> None:
        provider, _ = of(error("RateLimitError", retry_after="7"))
        reply = await provider.send(CALL, lambda: None)
        assert (b"retry-after", b"7") in reply.headers
        await provider.close()

    run(story())


def raised(*names: str) -> Exception:
    """An exception with others of these names behind it, the last one first."""
    found: Exception | None = None
    for name in reversed(names):
        made = type(name, (Exception,), {})("why")
        made.__cause__ = found
        found = made
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("behind", "fate"),
    [
        (raised("APIConnectionError", "ConnectError", "gaierror"), Fate.DNS),
        (raised("APIConnectionError", "ConnectError", "SSLError"), Fate.TLS),
        (raised("APIConnectionError", "ConnectError"), Fate.REFUSED),
        (raised("APITimeoutError", "ConnectTimeout"), Fate.CONNECT_TIMEOUT),
        (raised("APITimeoutError", "TimeoutException"), Fate.FIRST_BYTE_TIMEOUT),
        (raised("ReadError", "SSLError"), Fate.DROPPED),
        (raised("Odd"), Fate.DROPPED),
    ],
)
def test_without_an_answer_it_is_said_how_the_call_ended(
    run: Run, behind: Exception, fate: Fate
) -> None:
    async def story() -> None:
        provider, _ = of(error("ProviderError", original_exception=behind))
        with pytest.raises(UpstreamError, match="upstream tail gave no answer") as failed:
            await told(provider)
        assert failed.value.fate is fate
        assert fate.sent == (fate in (Fate.FIRST_BYTE_TIMEOUT, Fate.DROPPED))
        await provider.close()

    run(story())


def test_a_stream_that_breaks_off_is_truncated(run: Run) -> None:
    async def story() -> None:
        provider, library = of((chunk("a"), error("ProviderError")))
        reply = await provider.send(STREAMING, lambda: None)
        with pytest.raises(UpstreamError, match="broke its stream off") as failed:
            await reply.read()
        assert failed.value.fate is Fate.TRUNCATED
        await provider.close()
        assert library.closed == 101

    run(story())


@pytest.mark.parametrize(
    ("step", "call", "fate"),
    [
        (9.0, CALL, Fate.FIRST_BYTE_TIMEOUT),
        ((9.0,), STREAMING, Fate.FIRST_BYTE_TIMEOUT),
        ((chunk("a"), 9.0), STREAMING, Fate.TOTAL_TIMEOUT),
    ],
)
def test_who_waits_too_long_is_told_so(run: Run, step: Any, call: UpstreamCall, fate: Fate) -> None:
    async def story() -> None:
        provider, _ = of(step)
        with pytest.raises(UpstreamError) as failed:
            await told(provider, call)
        assert failed.value.fate is fate
        assert (await told(provider))[0] == 200
        await provider.close()

    run(story())


def test_streams_that_are_given_up_free_their_places(run: Run) -> None:
    async def story() -> None:
        provider, library = of()
        for _ in range(5):
            reply = await provider.send(STREAMING, lambda: None)
            reply.cancel()
        held = [await provider.send(STREAMING, lambda: None) for _ in range(2)]
        with pytest.raises(UpstreamError, match="no place free"):
            await provider.send(CALL, lambda: None)
        assert len(library.asked) == 7
        for reply in held:
            assert (await reply.read()).endswith(b"[DONE]\n\n")
        await provider.close()
        assert library.closed == 107

    run(story())


def test_only_chat_is_spoken(run: Run) -> None:
    async def story() -> None:
        provider, library = of()
        for call in (
            CALL._replace(wire=Wire.MESSAGES, path="/messages"),
            CALL._replace(wire=Wire.EMBEDDINGS, path="/embeddings"),
            CALL._replace(method="GET"),
        ):
            assert (await told(provider, call))[0] == 404
        for body in (b"[]", b"{", b'{"messages": "sun"}', rb'{"messages": ["\ud800"]}'):
            assert (await told(provider, CALL._replace(body=body)))[0] == 400
        assert library.asked == []
        await provider.close()

    run(story())


def test_a_client_that_retries_by_itself_is_taken_where_it_cannot_be_told_otherwise() -> None:
    _, library = of(retries=False)
    assert "max_retries" not in library.made


@pytest.mark.parametrize(
    ("upstream", "said"),
    [
        (Upstream("tail", "any-llm", wires=(Wire.CHAT, Wire.MESSAGES)), "speaks chat alone"),
        (Upstream("tail", "any-llm", proxy="http://p:1"), "sets proxy, which any-llm"),
        (Upstream("tail", "any-llm", pass_caller_key=True), "sets pass_caller_key"),
        (Upstream("tail", "any-llm", verify_tls=False), "sets verify_tls"),
    ],
)
def test_what_the_library_cannot_do_is_said_at_the_start(upstream: Upstream, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        of(upstream=upstream)


def test_a_vendor_that_the_library_does_not_take_is_said() -> None:
    with pytest.raises(ConfigError, match="cannot be used through any-llm: no key; export"):
        AnyLlmProvider(UPSTREAM, None, library=Library())
