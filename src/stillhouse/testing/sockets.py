"""A socket that says exactly what it is told: for answers that no real server would give."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import Enum
from types import TracebackType


class Then(Enum):
    """How a script may end; without one, the connection waits for its next request."""

    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


Step = bytes | float | Then
"""Bytes to send as one write, seconds to rest, or an end."""


class ScriptedSocket:
    """Listens on a loopback port, and answers the n-th request by the n-th script.

    The last script holds for all further requests. `heads` and `bodies` are the requests seen,
    `connections` how often somebody connected, `sent_bytes` what the sockets have taken. A script
    is begun as soon as the request's headers are here, if `early`; otherwise with its body.
    """

    def __init__(
        self,
        *scripts: Sequence[Step],
        tls: ssl.SSLContext | None = None,
        early: bool = False,
    ) -> None:
        self.scripts = [*scripts] or [(Then.HANG,)]
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.sent_bytes = 0
        self.port = 0
        self._tls = tls
        self._early = early
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are served now."""
        return len(self._serving)

    async def __aenter__(self) -> ScriptedSocket:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self._tls, limit=1 << 20
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def quiet(self) -> None:
        """Wait until every connection has ended."""
        while self._serving:
            await asyncio.wait(self._serving)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served outside of a task")
        self._serving.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self._serving.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether another one may follow."""
        head = await reader.readuntil(b"\r\n\r\n")
        place = len(self.heads)
        self.heads.append(head)
        self.bodies.append(b"")
        if not self._early:
            self.bodies[place] = await reader.readexactly(_length(head))
        for step in self.scripts[min(place, len(self.scripts) - 1)]:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
                self.sent_bytes += len(step)
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif step is Then.HANG:
                await reader.read()
                return False
            elif step is Then.RESET:
                reset(writer)
                return False
            else:
                return False
        return True


def reset(writer: asyncio.StreamWriter | asyncio.Transport) -> None:
    """Close with a reset, as a process that is killed does."""
    transport = writer.transport if isinstance(writer, asyncio.StreamWriter) else writer
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
    transport.abort()


def answer(body: bytes, *, status: int = 200, headers: Iterable[str] = ()) -> bytes:
    """A plain HTTP/1.1 answer with its length.

    >>> answer(b"ok", headers=["x-a: 1"])
    b'HTTP/1.1 200 OK\\r\\nx-a: 1\\r\\ncontent-length: 2\\r\\n\\r\\nok'
    """
    lines = [f"HTTP/1.1 {status} OK", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def closed_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
