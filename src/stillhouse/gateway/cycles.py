"""The server's side of a request whose head is remembered and whose body came with it."""

from __future__ import annotations

import asyncio
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

if TYPE_CHECKING:
    from stillhouse.gateway.caller import AsgiCaller
    from stillhouse.gateway.connections import Connection

UNHEARD = asyncio.Event()
"""Stands for the event of a request that nobody waits for; it is set, and never looked at."""


def _nothing() -> None:
    """What is done at the end of an answer that nobody waits for any more."""


class ShortCycle(RequestResponseCycle):
    """uvicorn's own, without what a call that is answered at once has no use for.

    What most requests leave as it is stands in the class. `scope` is what uvicorn asks of it: a
    scope that leads to its cycle must not be led to by it, or each request would have to be
    collected.
    """

    scope: Any = MappingProxyType({"method": "POST"})
    logger = logging.getLogger("uvicorn.error")
    access_logger = logging.getLogger("uvicorn.access")
    access_log = False
    message_event = UNHEARD
    disconnected = False
    keep_alive = True
    waiting_for_100_continue = False
    more_body = False
    response_started = False
    response_complete = False
    chunked_encoding = None
    expected_content_length = 0
    caller: AsgiCaller | None = None
    """Who is told when the caller leaves: nobody has to wait for it."""

    def __init__(self, connection: Connection, body: bytes) -> None:
        # Not uvicorn's: the attributes that it would set stand in the class.
        self.loop = connection.loop
        self.began = connection.loop.time()
        self.transport = connection.transport
        self.flow = connection.flow
        self.default_headers = connection.server_state.default_headers
        self.on_response = connection.on_response_complete
        self.body = body  # type: ignore[assignment]

    def take(self) -> bytes:
        """The body, as `receive` gives it; ConnectionError where the caller has left."""
        if self.disconnected:
            raise ConnectionError
        if self.flow.read_paused:
            self.flow.resume_reading()
        body, self.body = self.body, None  # type: ignore[assignment]
        return body  # type: ignore[return-value]

    async def receive(self) -> Any:
        """The body, and then the caller's leaving or the end of the answer."""
        if not self.disconnected and not self.response_complete:
            if self.body is not None:
                return {"type": "http.request", "body": self.take(), "more_body": False}
            self.flow.resume_reading()
            if self.message_event is UNHEARD:
                self.message_event = asyncio.Event()
            await self.message_event.wait()
        return {"type": "http.disconnect"}

    def lost(self) -> None:
        """The caller has left; nobody cares where it has its answer."""
        if self.response_complete:
            return
        self.disconnected = True
        self.message_event.set()
        if self.caller is not None:
            self.caller.left()


class Answering:
    """Lets the app answer the remembered requests of a connection, in one task that stays.

    They come one after another, and a task for each would cost more than its way in. The task is
    among the server's while a request is under way. What an app leaves open, or how it fails, is
    told to uvicorn, which ends the answer as it does any other.
    """

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop, tasks: set[Any]) -> None:
        self._app, self._loop, self._tasks = app, loop, tasks
        self._next: tuple[ShortCycle, dict[str, Any]] | None = None
        self._idle: tuple[asyncio.Future[None], asyncio.Task[None]] | None = None
        self._over = False

    def begin(self, cycle: ShortCycle, scope: dict[str, Any]) -> None:
        """Begin with a request; the one before it has its answer."""
        self._next = cycle, scope
        if self._idle is None:
            task = self._loop.create_task(self._answer())
            task.add_done_callback(self._tasks.discard)  # should it be cancelled before it begins
        else:
            idle, task = self._idle
            self._idle = None
            idle.set_result(None)
        self._tasks.add(task)

    def end(self) -> None:
        """The connection is lost: no other request comes."""
        self._over = True
        if self._idle is not None:
            self._idle[0].cancel()

    async def _answer(self) -> None:
        app, loop, tasks = self._app, self._loop, self._tasks
        task = asyncio.current_task(loop)
        assert task is not None
        while self._next is not None:
            (cycle, scope), self._next = self._next, None
            failing = None
            try:
                try:
                    returned = await app(scope, cycle.receive, cycle.send)
                    if returned is not None or not cycle.response_complete:
                        failing = _returning(returned)
                except BaseException as fault:  # as uvicorn does: it is logged, and answered to
                    failing = _raising(fault)
                if failing is not None:
                    await cycle.run_asgi(failing)
            finally:
                cycle.on_response = _nothing
                tasks.discard(task)
            if failing is not None or self._over or self._idle is not None:
                return  # another one waits already where an app went on after its answer
            del cycle, scope
            idle = loop.create_future()
            self._idle = idle, task
            try:
                await idle
            finally:
                self._idle = None


def _returning(value: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> Any:
        return value

    return app


def _raising(fault: BaseException) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise fault

    return app
