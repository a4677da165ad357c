"""Keep-alive connections to one upstream: the last one used is lent first, and there is a limit.

A request is put at most once. A resting connection that its peer has closed is found out before a
request is written, and another one is taken in its place. Once bytes have left, nobody can tell
whether the upstream has acted on them, and POST is not idempotent (RFC 9110 section 9.2.2), so a
connection that dies then ends the call as dropped. Whether to try again is up to whoever books
attempts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from stillhouse.core.calls import Fate
from stillhouse.core.errors import UpstreamError
from stillhouse.providers.connection import Connection

Dial = Callable[["Pool"], Awaitable[Connection]]


class Pool:
    """Lends connections of one upstream within one event loop."""

    def __init__(self, upstream: str, dial: Dial, limit: int, idle_seconds: float) -> None:
        self._upstream = upstream
        self._dial = dial
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._busy = 0
        self._living: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closing = False
        self._emptied: asyncio.Future[None] | None = None

    @property
    def busy(self) -> int:
        """Calls under way."""
        return self._busy

    @property
    def living(self) -> int:
        """Sockets that are open, resting ones included."""
        return len(self._living)

    def try_take(self) -> Connection | None:
        """A resting connection whose peer is still there; None where `take` has to be asked."""
        if self._idle and not self._waiting and self._busy < self._limit:
            connection = self._idle[-1]
            if connection.open and not connection.peek(0):
                self._idle.pop()
                self._busy += 1
                return connection
        return None

    async def take(self, patience_seconds: float) -> Connection:
        """A connection that is open, new if need be; waits its turn under the limit of calls."""
        if self._waiting or self._busy >= self._limit:
            await self._turn(patience_seconds)
        else:
            self._busy += 1
        return await self.ready(None)

    async def ready(self, connection: Connection | None) -> Connection:
        """This connection if its peer is still there, else another one; the turn is had already.

        Gives the turn back where there is none.
        """
        try:
            while connection is not None or self._idle:
                if connection is None:
                    connection = self._idle.pop()
                if connection.open and connection.peek(0):
                    # Two turns: the first may only learn of the socket, the second reads it.
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                if connection.open:
                    return connection
                connection = None
            connection = await self._dial(self)
            if not connection.open:
                raise UpstreamError(
                    Fate.REFUSED, f"upstream {self._upstream} closed a connection before its use"
                )
        except BaseException:
            if connection is not None:
                connection.close()
            self._give_turn_back()
            raise
        return connection

    def came(self, connection: Connection) -> None:
        """Remember a new connection until it is gone."""
        self._living.add(connection)

    def free(self, connection: Connection, keep: bool) -> None:
        """Take a connection back after its call."""
        if keep and connection.open:
            if self._closing:
                connection.close()
            else:
                self._idle.append(connection)
                if self._sweeper is None:
                    self._sweep_later()
        if self._waiting or self._closing:
            self._give_turn_back()
        else:  # as that does where nobody waits, neither for a turn nor for the end
            self._busy -= 1

    def gone(self, connection: Connection) -> None:
        """Forget a connection whose socket is closed."""
        self._living.discard(connection)
        self._see_whether_empty()

    async def close(self) -> None:
        """Close resting connections, and wait for those in use."""
        self._closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        while self._idle:
            self._idle.pop().close()
        if self._living or self._busy:
            if self._emptied is None:
                self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._emptied)

    def _give_turn_back(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1
        self._see_whether_empty()

    def _see_whether_empty(self) -> None:
        if self._emptied is not None and not self._living and not self._busy:
            if not self._emptied.done():
                self._emptied.set_result(None)
            self._emptied = None

    async def _turn(self, patience_seconds: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(patience_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give_turn_back()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise UpstreamError(
                    Fate.CONNECT_TIMEOUT,
                    f"upstream {self._upstream} has {self._limit} calls under way, and none ended "
                    f"within {patience_seconds:g} s; raise max_concurrency",
                ) from None
            raise

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(self._idle_seconds / 2, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = None
        now = loop.time()
        kept = []
        for connection in self._idle:
            patience = self._idle_seconds
            if connection.keep_seconds is not None:
                patience = min(patience, connection.keep_seconds - 1)
            if not connection.open:
                continue
            if now - connection.rested_at < patience:
                kept.append(connection)
            else:
                connection.close()
        self._idle = kept
        if kept:
            self._sweep_later()
