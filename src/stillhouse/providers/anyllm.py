"""Speaks to vendors of the long tail through `any-llm-sdk`: chat completions, whole and streamed.

The library turns a chat request into whatever the vendor speaks, and its answer back; so this is no
pass-through of bytes, and only what the library keeps survives. It is an optional extra and loaded
when an upstream asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar

import orjson

from stillhouse.core.calls import Fate, Headers, UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.errors import ConfigError, UpstreamError
from stillhouse.core.ports import Reply
from stillhouse.dialects.faults import error_body, harmless
from stillhouse.providers.canned import EVENTS, JSON, CannedReply, refusal

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"

_STATUS = {
    "AuthenticationError": 401,
    "MissingApiKeyError": 401,
    "InsufficientFundsError": 402,
    "ModelNotFoundError": 404,
    "RateLimitError": 429,
    "InvalidRequestError": 400,
    "ContextLengthExceededError": 400,
    "ContentFilterError": 400,
    "UnsupportedParameterError": 400,
    "UpstreamProviderError": 502,
    "GatewayTimeoutError": 504,
}
"""What the library's errors mean where the vendor's own status is not known."""

_FATES = (
    ({"ConnectTimeout"}, Fate.CONNECT_TIMEOUT),
    ({"ConnectError", "gaierror"}, Fate.DNS),
    ({"ConnectError", "SSLError"}, Fate.TLS),
    ({"ConnectError"}, Fate.REFUSED),
    ({"TimeoutException"}, Fate.FIRST_BYTE_TIMEOUT),
    ({"TimeoutError"}, Fate.FIRST_BYTE_TIMEOUT),
)
"""How a call ended that got no answer, by the names of what the vendor's client raised."""

_NOT_HEEDED = ("proxy", "http2", "ca_file", "headers", "pass_caller_key")


class AnyLlmProvider:
    """One vendor behind `any-llm-sdk`, named by `options.provider`, else by the upstream's name.

    Retries are the endpoint's, each a row in the books: the vendor's own client is told to make
    none, where it can be told. Without a `key` the library looks into the environment variables
    that it knows of the vendor. `library` is the module, for whoever has it already. Raises
    ConfigError where the upstream cannot be used as it is written.
    """

    def __init__(self, upstream: Upstream, key: str | None = None, *, library: Any = None) -> None:
        _check(upstream)
        self._upstream = upstream
        self._library = library if library is not None else _load(upstream)
        self._client = self._made(key)
        self._places = asyncio.Semaphore(upstream.max_concurrency)
        self._closing: set[asyncio.Task[None]] = set()

    async def send(
        self, call: UpstreamCall, sending: Callable[[], Awaitable[None] | None]
    ) -> Reply:
        """Put a call, and wait for its answer or for its first event."""
        if (call.wire, call.method, call.path) != (Wire.CHAT, "POST", "/chat/completions"):
            return refusal(call.wire, 404, "not_served", "any-llm serves chat completions alone")
        asked = _read(call.body)
        if type(asked) is not dict or type(asked.get("messages")) is not list:
            return refusal(call.wire, 400, "unreadable", "the request is no chat completion")
        times = self._upstream.timeouts
        total_at = asyncio.get_running_loop().time() + times.total_seconds
        await self._turn(min(times.first_byte_seconds, times.total_seconds))
        freed = False
        try:
            waited = sending()
            if waited is not None:
                await waited
            reply = await self._answered(call, asked, total_at)
            freed = isinstance(reply, _Stream)  # which frees its place at its own end
            return reply
        finally:
            if not freed:
                self._places.release()

    async def close(self) -> None:
        """Wait for streams that were given up, and let the vendor's client go."""
        while self._closing:
            await asyncio.wait(self._closing)
        close = getattr(getattr(self._client, "client", None), "close", None)
        closing = close() if callable(close) else None
        if isinstance(closing, Awaitable):
            await closing

    async def _turn(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError:
            raise self._failure(Fate.CONNECT_TIMEOUT, "had no place free in time") from None

    async def _answered(self, call: UpstreamCall, asked: dict[str, Any], total_at: float) -> Reply:
        asked.pop("model", None)
        first_at = asyncio.get_running_loop().time() + self._upstream.timeouts.first_byte_seconds
        until = min(total_at, first_at)
        try:
            answer = await self._in_time(self._asked(call.model, asked), until, total_at)
            if not call.stream:
                return CannedReply(200, [JSON], [_text(answer)])
            events = aiter(answer)
            first = await self._in_time(_next(events), until, total_at)
        except self._library.AnyLLMError as failed:
            return self._refused(failed)
        return _Stream(self, events, first, total_at)

    async def _asked(self, model: str, asked: dict[str, Any]) -> Any:
        """The library's answer; what the vendor cannot be told about usage it is not told."""
        try:
            return await self._client.acompletion(model=model, **asked)
        except self._library.UnsupportedParameterError:
            if "stream_options" not in asked:
                raise
            rest = {name: value for name, value in asked.items() if name != "stream_options"}
            return await self._client.acompletion(model=model, **rest)

    async def _in_time(self, step: Coroutine[Any, Any, T], at: float, total_at: float) -> T:
        try:
            async with asyncio.timeout_at(at):
                return await step
        except TimeoutError:
            if at < total_at:
                what = "sent no answer within timeouts.first_byte_seconds"
                raise self._failure(Fate.FIRST_BYTE_TIMEOUT, what) from None
            what = "took longer in all than timeouts.total_seconds"
            raise self._failure(Fate.TOTAL_TIMEOUT, what) from None

    def _refused(self, failed: Any) -> Reply:
        """The vendor's refusal in our dialect; UpstreamError where there was no answer at all."""
        status = failed.status_code
        if not (type(status) is int and 400 <= status < 600):
            status = _STATUS.get(type(failed).__name__)
        if status is None:
            raise self._fault(failed) from failed
        wait = getattr(failed, "retry_after", None)
        headers: Headers = [JSON]
        if wait is not None:
            headers.append((b"retry-after", str(wait).encode("ascii", "ignore")))
        body = error_body(Wire.CHAT, status, str(failed.code or ""), harmless(failed.message))
        return CannedReply(status, headers, [body])

    def _fault(self, failed: BaseException) -> UpstreamError:
        """How a call failed that got no answer."""
        names = set(_names(failed))
        fate = next((fate for kinds, fate in _FATES if kinds <= names), Fate.DROPPED)
        return self._failure(fate, f"gave no answer: {harmless(str(failed))}")

    def _failure(self, fate: Fate, what: str) -> UpstreamError:
        return UpstreamError(fate, f"upstream {self._upstream.name} {what}")

    def _made(self, key: str | None) -> Any:
        name, library = self._upstream.name, self._library
        terms = {
            "provider": str(self._upstream.options.get("provider", name)),
            "api_key": key,
            "api_base": self._upstream.base_url or None,
            "unified_exceptions": True,
        }
        try:
            try:
                return library.AnyLLM.create(**terms, max_retries=0)
            except library.UnsupportedParameterError:
                return library.AnyLLM.create(**terms)
        except (library.AnyLLMError, ImportError) as failed:
            raise ConfigError(
                f"upstream {name} cannot be used through any-llm: {harmless(str(failed))}"
            ) from failed

    # What a stream asks of its provider.

    async def more(self, events: AsyncIterator[Any], total_at: float) -> bytes:
        """The next event, empty at the end."""
        try:
            return await self._in_time(_next(events), total_at, total_at)
        except self._library.AnyLLMError as failed:
            what = f"broke its stream off: {harmless(str(failed))}"
            raise self._failure(Fate.TRUNCATED, what) from failed

    def ended(self, events: AsyncIterator[Any]) -> None:
        """A stream is over, or given up: its connection and its place are free."""
        self._places.release()
        task = asyncio.ensure_future(_close(events))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Stream:
    """Implements `core.ports.Reply` over the library's chunks, told as events.

    `[DONE]` follows where a choice has ended: a stream that just stops is not whole, and the
    library does not say so.
    """

    def __init__(
        self, provider: AnyLlmProvider, events: AsyncIterator[Any], first: bytes, total_at: float
    ) -> None:
        self._provider, self._events, self._first = provider, events, first
        self._total_at = total_at
        self._over = False

    @property
    def status(self) -> int:
        """HTTP status."""
        return 200

    @property
    def headers(self) -> Headers:
        """What the body is."""
        return [EVENTS]

    @property
    def relay(self) -> None:
        """Chunks come from the library, and can only be waited for."""
        return

    def whole_body(self) -> None:
        """Most of it is still to come."""
        return

    async def read(self) -> bytes:
        """The whole stream."""
        return b"".join([event async for event in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """Event for event, and `[DONE]` once the vendor has ended."""
        finished = False
        try:
            event = self._first
            while event and not self._over:
                finished = finished or b'"finish_reason":"' in event
                yield event
                event = await self._provider.more(self._events, self._total_at)
            if finished and not self._over:
                yield DONE
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Give the rest up."""
        if not self._over:
            self._over = True
            self._provider.ended(self._events)


def _check(upstream: Upstream) -> None:
    name = upstream.name
    if upstream.wires != (Wire.CHAT,):
        raise ConfigError(
            f"upstream {name} is of the kind any-llm, which speaks chat alone; write "
            'wires = ["chat"], other formats are translated'
        )
    set_ones = [field for field in _NOT_HEEDED if getattr(upstream, field)]
    set_ones += ["verify_tls"] if not upstream.verify_tls else []
    if set_ones:
        raise ConfigError(
            f"upstream {name} sets {', '.join(set_ones)}, which any-llm does not heed; take it out"
        )


def _load(upstream: Upstream) -> Any:
    try:
        return import_module("any_llm")
    except ImportError as missing:
        raise ConfigError(
            f"upstream {upstream.name} is of the kind any-llm and needs the extra `any-llm`; "
            "install stillhouse[any-llm]"
        ) from missing


def _read(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _text(answer: Any) -> bytes:
    """A completion or a chunk as JSON, with what was set in it and no more."""
    text: str = answer.model_dump_json(exclude_unset=True)
    return text.encode()


async def _next(events: AsyncIterator[Any]) -> bytes:
    """The next chunk as an event; empty at the end."""
    try:
        return b"data: %s\n\n" % _text(await anext(events))
    except StopAsyncIteration:
        return b""


async def _close(events: Any) -> None:
    """Let a stream's connection go; a stream that is at its end has done so."""
    close = getattr(events, "aclose", None)
    if close is not None:
        with suppress(Exception):
            await close()


def _names(failed: BaseException) -> list[str]:
    """The names of an exception's kinds and of those behind it."""
    names: list[str] = []
    seen: list[BaseException] = []
    behind: BaseException | None = failed
    while behind is not None and behind not in seen:
        seen.append(behind)
        names += [kind.__name__ for kind in type(behind).__mro__]
        original = getattr(behind, "original_exception", None)
        behind = original or behind.__cause__ or behind.__context__
    return names
