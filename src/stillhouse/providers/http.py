"""Speaks HTTP/1.1 to one upstream over its own pool of kept connections.

Nothing is followed, retried or cached here: one call is one request, and what the upstream says is
what the caller of this gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Upstream
from stillhouse.core.errors import ConfigError
from stillhouse.core.ports import Reply
from stillhouse.providers.connection import Connection
from stillhouse.providers.dialling import Dialler
from stillhouse.providers.heads import Heads
from stillhouse.providers.pool import Pool
from stillhouse.providers.reply import HttpReply

MAX_ANSWER_BYTES = 64 * 1024 * 1024
IDLE_SECONDS = 20.0


class HttpProvider:
    """One upstream that speaks HTTP/1.1, by TLS where its base URL says https.

    `key` is sent as a bearer token, or as `x-api-key` to an upstream that speaks Anthropic
    Messages; a header of the same name in `upstream.headers` takes its place. `max_answer_bytes`
    holds for a body on the wire and again for what it unfolds to. Use it from one event loop.
    Raises ConfigError where the upstream cannot be used as it is written.
    """

    def __init__(
        self,
        upstream: Upstream,
        key: str | None = None,
        *,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        if upstream.http2:
            raise ConfigError(
                f"upstream {upstream.name} asks for HTTP/2, which this client does not speak; "
                "take http2 out"
            )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dialler = Dialler(upstream)
        self._heads = Heads(upstream, self._dialler.place, self._dialler.proxy, key)
        self._pool = Pool(upstream.name, self._dial, upstream.max_concurrency, idle_seconds)
        self._name = upstream.name
        self._timeouts = upstream.timeouts
        self._limit = max_answer_bytes

    @property
    def pool(self) -> Pool:
        """The connections, for those who watch them."""
        return self._pool

    async def send(
        self, call: UpstreamCall, sending: Callable[[], Awaitable[None] | None]
    ) -> Reply:
        """Put a call; returns at the answer's headers, whatever its status.

        A call that waits for its turn under `max_concurrency` waits as long as it would for a
        first byte. The first byte is waited for from just before the request is written; the time
        in all counts from here. Raises UpstreamError.
        """
        head = self._heads.head(call)
        loop = self._loop
        if loop is None:  # kept, because asking for it is a system call until Python 3.12
            loop = self._loop = asyncio.get_running_loop()
        pool, timeouts = self._pool, self._timeouts
        now = loop.time()
        total_at = now + timeouts.total_seconds
        connection = pool.try_take()
        if connection is None:
            patience = min(timeouts.first_byte_seconds, timeouts.total_seconds)
            connection = await pool.take(patience)
            now = loop.time()
        try:
            waited = sending()
            if waited is not None:
                await waited
        except BaseException:
            pool.free(connection, connection.open)
            raise
        if waited is not None:  # time has passed: its peer may have left, and not a byte has
            connection = await pool.ready(connection)
            now = loop.time()
        limit = call.max_answer_bytes or self._limit
        reply = HttpReply(connection, limit, now + timeouts.first_byte_seconds, total_at, loop)
        reply.waiter = headed = loop.create_future()
        connection.put(head, call.body, reply, call.method == "HEAD")
        try:
            await headed
        except BaseException:
            reply.cancel()  # an answer that is whole has let its connection go to another call
            raise
        if not reply.status and reply.error is not None:
            raise reply.error
        if reply.status >= 400:  # some quote the key that they refuse
            reply.secret = self._heads.secret(call)
        return reply

    async def close(self) -> None:
        """Let resting connections go, and wait for calls under way."""
        await self._pool.close()

    async def _dial(self, pool: Pool) -> Connection:
        loop = asyncio.get_running_loop()
        made: list[Connection] = []

        def make() -> Connection:
            made.append(Connection(pool, self._name, loop))
            return made[-1]

        try:
            return await self._dialler.dial(make)
        except BaseException:
            for connection in made:  # cancelled after it was made; uvloop tells nobody of its end
                connection.close()
                pool.gone(connection)
            raise
