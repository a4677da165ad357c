"""Connections that end well: nobody is cut off by a drain, nobody takes up more than a share.

HTTP has no way to say to an idle caller that its connection is about to go: whoever sends just then
loses a request. So a draining worker leaves idle connections open for a moment more, answers what
still comes with `connection: close`, and only then lets go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from stillhouse.gateway.writing import extensions

_BODY = b'{"error":{"message":"%s","type":"%s","code":"%s"}}'
_REFUSAL = (
    b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"connection: close\r\n\r\n%s"
)


def refusal(status: bytes, code: bytes, sentence: bytes) -> bytes:
    """An answer that ends its connection, for what never becomes a request.

    >>> refusal(b"408 Request Timeout", b"slow", b"too slow").splitlines()[0]
    b'HTTP/1.1 408 Request Timeout'
    """
    kind = b"server_error" if status[:1] == b"5" else b"invalid_request_error"
    body = _BODY % (sentence, kind, code)
    return _REFUSAL % (status, len(body), body)


FULL = refusal(
    b"503 Service Unavailable",
    b"too_many_connections",
    b"this worker has all the connections it takes; try again soon",
)
SLOW = refusal(b"408 Request Timeout", b"timeout", b"the request's head took too long to arrive")
LARGE = refusal(
    b"431 Request Header Fields Too Large",
    b"headers_too_large",
    b"the request's header fields are too large; send fewer or shorter ones",
)
BROKEN = refusal(b"400 Bad Request", b"invalid_http", b"this is no HTTP request")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker allows its callers; seconds, bytes and connections."""

    max_connections: int = 4096
    max_header_bytes: int = 64 * 2**10
    header_seconds: float = 10.0
    write_seconds: float = 60.0
    keep_alive_seconds: float = 75.0
    drain_seconds: float = 30.0


class Sharing(ServerState):
    """What a worker's connections share; `linger_seconds` is None until the worker drains."""

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        self.terms = terms
        self.linger_seconds: float | None = None


class Connection(HttpToolsProtocol):
    """A caller's connection: uvicorn's own, with the limits that it leaves to others."""

    server_state: Sharing

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._large = False
        self._head_bytes = 0
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a caller in, or say that there is no room."""
        if len(self.connections) >= self.server_state.terms.max_connections:
            self.transport = transport
            self._refuse(FULL)
            return
        super().connection_made(transport)
        self._late = self._after(self.server_state.terms.header_seconds, SLOW)
        if self.server_state.linger_seconds is not None:
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a caller."""
        self._in_time()
        self._unstall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes come in; a head in many pieces is counted, a large piece is looked at."""
        large = self.server_state.terms.max_header_bytes
        self._large = len(data) > large
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > large:
                self._refuse(LARGE)
            elif self._late is None:
                self._late = self._after(self.server_state.terms.header_seconds, SLOW)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Begin to answer; the last answer of a draining worker says that it is the last."""
        self._in_head = False
        self._in_time()
        if self._large and self._head_size() > self.server_state.terms.max_header_bytes:
            self._refuse(LARGE)
            raise ValueError  # the parser takes in no more
        super().on_headers_complete()
        self.scope["extensions"] = extensions(self.cycle)
        if self.server_state.linger_seconds is not None:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP."""
        self._refuse(BROKEN)

    def shutdown(self) -> None:
        """End after the answer under way, or linger for a request that may be on its way."""
        linger = self.server_state.linger_seconds or 0.0
        self.timeout_keep_alive = linger  # type: ignore[assignment]
        if self.cycle is not None and not self.cycle.response_complete:
            # An answer that has begun has promised to keep the connection: it lingers when done.
            if not self.cycle.response_started:
                self.cycle.keep_alive = False
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(linger, self.timeout_keep_alive_handler)

    def pause_writing(self) -> None:
        """The caller does not read: it has so long to begin again."""
        super().pause_writing()
        if self._stalled is None:
            seconds = self.server_state.terms.write_seconds
            self._stalled = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The caller reads again."""
        self._unstall()
        super().resume_writing()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _after(self, seconds: float, said: bytes) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self._refuse, said)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _unstall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _refuse(self, said: bytes) -> None:
        """Say so and end; nothing is said in the midst of an answer."""
        if not self.transport.is_closing():
            cycle = self.cycle
            if cycle is None or cycle.response_complete or not cycle.response_started:
                self.transport.write(said)
            self.transport.close()
