"""A worker: one process that answers callers on the socket that it was given.

Started by the supervisor as `python -m stillhouse.gateway.worker APP NAME LINE LISTENER...`: the
place of a function `(payload, name) -> ASGI app`, the worker's name, inherited descriptors.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from stillhouse.core.errors import StillhouseError
from stillhouse.gateway.connections import Connection, Sharing
from stillhouse.gateway.control import ALIVE, FAILURE, READY, failure, linger_of, named, receive
from stillhouse.gateway.terms import Terms

STOP_LINGER_SECONDS = 1.0
"""How long idle callers stay when the whole endpoint ends."""

UNSENT_BYTES = 16 * 2**10
"""Of an answer, what the kernel may hold beyond what it has sent."""

TRIM_TICKS = 100
"""Ticks of a tenth of a second between two times that memory is given back."""

CANCELLED_SECONDS = 5.0
"""How long calls that were cut off at the end of a drain have to be booked."""


class Worker(uvicorn.Server):
    """uvicorn's server, told to end over a line and not by the terminal."""

    server_state: Sharing

    def __init__(self, config: uvicorn.Config, terms: Terms, line: socket.socket) -> None:
        super().__init__(config)
        self.server_state = Sharing(terms)
        self._line = line
        self._linger = STOP_LINGER_SECONDS

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the door, and say so to the supervisor."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is here now stays: the collector need not walk it again
        loop = asyncio.get_running_loop()
        loop.add_reader(self._line.fileno(), self._obey)
        self._line.send(READY)

    async def on_tick(self, counter: int) -> bool:
        """Give the supervisor a sign of life every second."""
        if counter % 10 == 0:
            with suppress(OSError):
                self._line.send(ALIVE)
        if counter % TRIM_TICKS == TRIM_TICKS - 1:
            _give_memory_back()
        return await super().on_tick(counter)

    def _obey(self) -> None:
        """End: on the supervisor's order, or because it is gone."""
        try:
            order = self._line.recv(64)
        except OSError:
            order = b""
        asyncio.get_running_loop().remove_reader(self._line.fileno())
        self._linger = linger_of(order, STOP_LINGER_SECONDS)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nobody new, let calls end, cut what takes too long, close the app."""
        state = self.server_state
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        state.linger_seconds = self._linger
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(state.terms.drain_seconds):
                while state.connections or state.tasks:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self._cut()
        await self.lifespan.shutdown()

    async def _cut(self) -> None:
        state = self.server_state
        for connection in list(state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        late = set(state.tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCELLED_SECONDS)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A terminal's signals go to the whole group: the supervisor alone decides on them."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Somebody ends this one worker: it drains."""
        self.should_exit = True


def config(app: Callable[..., Any], terms: Terms) -> uvicorn.Config:
    """uvicorn as the endpoint wants it: no access log, no middleware, no second parser."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=max(1, round(terms.keep_alive_seconds)),
    )


def _give_memory_back() -> None:
    """Return what is free to the system, where the C library knows how; a few milliseconds.

    It keeps what lies between pieces in use, and after a rush of large answers that is most.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _keep_little_unsent(listener: socket.socket) -> None:
    """Let the kernel take in no more of an answer than will leave soon.

    It would take megabytes for a caller that reads nothing, and whatever it takes is kept here for
    the record. What is on its way is not counted, so that long lines stay as fast. Connections have
    this from the socket that they came through.
    """
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and listener.family in (socket.AF_INET, socket.AF_INET6):
        listener.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


def main(place: str, name: str, line_fd: int, *listener_fds: int) -> int:
    """Serve until told to end; the exit code."""
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # what callers send is no news
    line = socket.socket(fileno=line_fd)
    listeners = [socket.socket(fileno=one) for one in listener_fds]
    for listener in listeners:
        _keep_little_unsent(listener)
    try:
        handed = receive(line)
        app = named(place)(handed.payload, name)
    except EOFError:
        return 0
    except StillhouseError as failed:
        line.send(failure(failed))
        return FAILURE
    line.setblocking(False)
    worker = Worker(config(app, handed.terms), handed.terms, line)
    worker.run(sockets=listeners)
    return 0 if worker.started else FAILURE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
