"""The caller's side of one request, over ASGI: what it is given, and whether it is there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from stillhouse.core.calls import Headers
from stillhouse.core.catalogue import Wire
from stillhouse.dialects.faults import error_body
from stillhouse.gateway.cycles import ShortCycle
from stillhouse.gateway.writing import EXTENSION, write_piece, write_whole

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PATIENCE_SECONDS = 0.05
"""How long a request runs before its caller is watched: most failures and hits need no watch."""


class Patience:
    """Begins to watch the callers whose requests take long: one timer for all of them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, AsgiCaller]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, caller: AsgiCaller) -> None:
        """Watch this caller, should its request still run after a while."""
        loop = self._loop
        if loop is None:  # kept, because asking for it is a system call until Python 3.12
            loop = self._loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(PATIENCE_SECONDS, self._look, loop)
        self._waiting.append((loop.time() + PATIENCE_SECONDS, caller))

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, waiting = loop.time(), self._waiting
        while waiting and waiting[0][0] <= now:
            waiting.popleft()[1].watch()
        if waiting:
            loop.call_at(waiting[0][0], self._look, loop)


class AsgiCaller:
    """Writes answers, and notices when nobody reads them any more."""

    __slots__ = ("_cycle", "_interrupts", "_over", "_receive", "_send", "_watcher", "gone")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        extensions = scope.get("extensions")
        self._cycle: Any = extensions.get(EXTENSION) if extensions else None
        self._over = self.gone = False
        self._watcher: asyncio.Task[None] | None = None
        self._interrupts: asyncio.Task[Any] | None = None
        if type(self._cycle) is ShortCycle:
            self._cycle.caller = self

    @property
    def push(self) -> Callable[[bytes], bool] | None:
        """Passes a piece on at once; None where the server cannot."""
        return None if self._cycle is None else partial(write_piece, self._cycle)

    def watch(self) -> None:
        """Notice from now on when the caller goes."""
        if not self._over:
            self._watcher = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def left(self) -> None:
        """The server says that the caller has gone: it counts as if it had been watched."""
        early = self._cycle.began + PATIENCE_SECONDS - self._cycle.loop.time()
        if early > 0:
            self._cycle.loop.call_later(early, self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        if not self._over and not self.gone:
            self.gone = True
            if self._interrupts is not None:
                self._interrupts.cancel()

    def interrupt(self, task: asyncio.Task[Any] | None) -> None:
        """Which task to cancel as soon as the caller has gone; None while none may be."""
        self._interrupts = task

    def release(self) -> None:
        """The request is over: stop watching."""
        self._over = True
        if self._watcher is not None and not self._watcher.done():
            self._watcher.cancel()
        if type(self._cycle) is ShortCycle:
            self._cycle.caller = None

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Give a whole answer."""
        self._over = True
        if self._cycle is not None and write_whole(self._cycle, status, headers, body):
            return
        send = self._send
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def begin(self, status: int, headers: Headers) -> None:
        """Begin a stream."""
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, chunk: bytes) -> None:
        """Pass a piece of a stream on; waits while the caller is slow."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def ready(self) -> None:
        """Wait until the caller reads again."""
        await self.piece(b"")

    async def fault(self, wire: Wire) -> None:
        """Say that the endpoint itself has failed; an answer that has begun is broken off."""
        if self._cycle is not None and self._cycle.response_started:
            self._cycle.transport.abort()
            return
        body = error_body(
            wire, 500, "internal", "the endpoint failed on this request; its log says where"
        )
        length = (b"content-length", b"%d" % len(body))
        await self.whole(500, [(b"content-type", b"application/json"), length], body)

    async def end(self, chunk: bytes) -> None:
        """End a stream with its last piece."""
        self._over = True
        await self._send({"type": "http.response.body", "body": chunk})
