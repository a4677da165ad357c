"""An answer on its way in: what has arrived waits here, and no more of it than is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from stillhouse.core.calls import Headers
from stillhouse.core.errors import UpstreamError
from stillhouse.providers.decoding import decoder_for

HIGH_WATER = 64 * 1024
"""Bytes that may wait for a slow reader before the socket is read no further."""


_SECRET_BYTES = 8
"""What is shorter is a word that stands in for a key, and may stand in any text."""

Sink = Callable[[bytes], bool]
"""Takes a part of a body; False says that it wants no more for now. It does not raise."""


class Line(Protocol):
    """The connection that an answer comes over, as its answer knows it."""

    def pause(self) -> None:
        """Read no further."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class HttpReply:
    """Implements `core.ports.Reply` over one connection, which writes into it.

    The connection is free for the next call as soon as the body is whole, whether or not it has
    been fetched from here.
    """

    __slots__ = (
        "buffered",
        "coding",
        "ended",
        "error",
        "first_byte_at",
        "headers",
        "limit",
        "line",
        "loop",
        "parts",
        "paused",
        "received",
        "secret",
        "sink",
        "status",
        "total_at",
        "waiter",
        "whole",
    )

    def __init__(
        self,
        line: Line,
        limit: int,
        first_byte_at: float,
        total_at: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.loop = loop
        self.status = 0
        self.headers: Headers = []
        self.coding = ""
        self.parts: list[bytes] = []
        self.buffered = 0
        self.received = 0
        self.secret = b""
        self.sink: Sink | None = None
        self.ended = False
        self.whole = False
        self.paused = False
        self.error: UpstreamError | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.line = line
        self.limit = limit
        self.first_byte_at = first_byte_at
        self.total_at = total_at

    def whole_body(self) -> bytes | None:
        """The body where all of it is here, and as it was meant; else None, and `read` it."""
        if not self.ended or self.error is not None or self.coding or self.secret:
            return None
        parts = self.parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read(self) -> bytes:
        """The whole body, decoded; an error's without the key that it may quote."""
        self.whole = True
        self._read_on()
        if not self.ended:
            await self._arrival()
        if self.error is not None:
            raise self.error
        body = self._fetch()
        if self.coding:
            decoder = decoder_for(self.coding, self.limit)
            if decoder is not None:
                body = b"".join(decoder.slices(body))
                decoder.end()
        if len(self.secret) >= _SECRET_BYTES:
            body = body.replace(self.secret, b"[removed]")
        return body

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, decoded; what waits here already comes as one chunk."""
        if self.coding:
            return self._decoded()
        return _Chunks(self)

    async def relay(self, sink: Sink) -> bool:
        """Hand each part to `sink` as soon as it is here, until it answers False or the body ends.

        True at the end. A part goes from the upstream's socket into the sink within one callback:
        no task is woken for it.
        """
        while True:
            while self.parts:
                if not sink(self._fetch()):
                    self._hold_back()
                    return False
            if self.error is not None:
                raise self.error
            if self.ended:
                return True
            self.sink = sink
            self._read_on()
            try:
                await self._arrival()
                if self.sink is None:
                    return False
            finally:
                self.sink = None

    def cancel(self) -> None:
        """Close the connection if anything is still to come."""
        if not self.ended:
            self.line.abort()

    async def next_part(self) -> bytes:
        """What has arrived since the last asking; empty at the end of the body."""
        while not self.parts:
            if self.error is not None:
                raise self.error
            if self.ended:
                return b""
            await self._arrival()
        return self._fetch()

    def wake(self) -> None:
        """Tell whoever waits that there is something to see."""
        sink = self.sink
        if sink is not None:
            if not self.parts or sink(self._fetch()):
                if not self.ended:
                    return
            else:
                self._hold_back()
        waiter = self.waiter
        if waiter is not None and (not self.whole or self.ended):
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def refuse(self) -> None:
        """The sink wants no more for now: tell who waits."""
        self._hold_back()
        self.wake()

    def end(self, error: UpstreamError | None = None) -> None:
        """Nothing more will come; with an error, something was missing."""
        self.paused = False
        self.ended = True
        self.error = error
        self.wake()

    async def _arrival(self) -> None:
        self.waiter = self.loop.create_future()
        try:
            await self.waiter
        except BaseException:
            self.cancel()
            raise

    def _fetch(self) -> bytes:
        parts = self.parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.buffered = 0
        self._read_on()
        return data

    def _hold_back(self) -> None:
        """The sink wants no more: what comes before it is asked for again stays in the socket."""
        self.sink = None
        if not (self.ended or self.paused):
            self.paused = True
            self.line.pause()

    def _read_on(self) -> None:
        if self.paused:
            self.paused = False
            self.line.resume()

    async def _decoded(self) -> AsyncIterator[bytes]:
        decoder = decoder_for(self.coding, self.limit)
        try:
            while part := await self.next_part():
                if decoder is None:
                    yield part
                    continue
                for unfolded in decoder.slices(part):
                    yield unfolded
            if decoder is not None:
                decoder.end()
        finally:
            self.cancel()


class _Chunks:
    """An async iterator without the cost of an async generator."""

    __slots__ = ("_reply",)

    def __init__(self, reply: HttpReply) -> None:
        self._reply = reply

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        part = await self._reply.next_part()
        if not part:
            raise StopAsyncIteration
        return part
