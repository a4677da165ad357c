"""The caller's side of one request, over ASGI: what it is given, and whether it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from stillhouse.core.calls import Headers
from stillhouse.gateway.writing import PIECE, WHOLE, Piece, Whole

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PATIENCE_SECONDS = 0.05
"""How long a request runs before its caller is watched: most failures and hits need no watch."""


class AsgiCaller:
    """Writes answers, and notices when nobody reads them any more."""

    __slots__ = (
        "_interrupts",
        "_over",
        "_receive",
        "_send",
        "_timer",
        "_watcher",
        "_whole",
        "gone",
        "push",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._receive, self._send = receive, send
        extensions = scope.get("extensions")
        self._whole: Whole | None = extensions.get(WHOLE) if extensions else None
        self.push: Piece | None = extensions.get(PIECE) if extensions else None
        self._over = False
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False
        self._interrupts: asyncio.Task[Any] | None = None
        self._timer = loop.call_later(PATIENCE_SECONDS, self._look)

    def _look(self) -> None:
        self._watcher = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._over:
            self.gone = True
            if self._interrupts is not None:
                self._interrupts.cancel()

    def interrupt(self, task: asyncio.Task[Any] | None) -> None:
        """Which task to cancel as soon as the caller has gone; None while none may be."""
        self._interrupts = task

    def release(self) -> None:
        """The request is over: stop watching."""
        self._over = True
        self._timer.cancel()
        if self._watcher is not None and not self._watcher.done():
            self._watcher.cancel()

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Give a whole answer."""
        self._over = True
        if self._whole is not None and self._whole(status, headers, body):
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

    async def end(self, chunk: bytes) -> None:
        """End a stream with its last piece."""
        self._over = True
        await self._send({"type": "http.response.body", "body": chunk})
