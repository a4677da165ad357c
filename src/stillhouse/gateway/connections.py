"""Connections that end well: nobody is cut off by a drain, nobody takes up more than a share.

HTTP has no way to say to an idle caller that its connection is about to go: whoever sends just then
loses a request. So a draining worker leaves idle connections open for a moment more, answers what
still comes with `connection: close`, and only then lets go.
"""

from __future__ import annotations

import asyncio
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from stillhouse.gateway.terms import Terms
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
LATE = refusal(b"408 Request Timeout", b"timeout", b"the request's body took too long to arrive")

MOST_FIELDS = 256
"""Header fields of a request; short ones cost far more memory than they have bytes."""

MOST_PIPELINED = 16
"""Requests that may wait on a connection for the answer before theirs."""

MOST_UNWRITTEN = 32 * 2**10
"""Bytes of an answer that may wait here for a caller before no more of it is asked for."""

_OF_UPGRADES = (b"connection", b"upgrade", b"http2-settings")


class Sharing(ServerState):
    """What a worker's connections share.

    `linger_seconds` is None until the worker drains. `resting` are the connections that wait for
    nothing of ours, the one that has done so for longest first.
    """

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        self.terms = terms
        self.linger_seconds: float | None = None
        self.resting: dict[Connection, None] = {}


class Connection(HttpToolsProtocol):
    """A caller's connection: uvicorn's own, with the limits that it leaves to others."""

    server_state: Sharing

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._in_body = False
        self._upgrading = False
        self._large = False
        self._hosts = 0
        self._idle_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a caller in, for one that rests if need be; or say that there is no room."""
        state = self.server_state
        if len(self.connections) >= state.terms.max_connections:
            oldest = next(iter(state.resting), None)
            if oldest is None:
                self.transport = transport
                self._refuse(FULL)
                return
            del state.resting[oldest]
            oldest.transport.close()
        super().connection_made(transport)
        transport.set_write_buffer_limits(MOST_UNWRITTEN)
        state.resting[self] = None
        self._late = self.loop.call_later(state.terms.header_seconds, self._refuse, SLOW)
        if state.linger_seconds is not None:
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a caller; nobody is left to answer, whichever of its requests is next."""
        self._in_time()
        self._unstall()
        self.server_state.resting.pop(self, None)
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes come in; those that are no part of a body are counted, and what is late is told."""
        terms = self.server_state.terms
        self._large = len(data) > terms.max_header_bytes
        self._idle_bytes += len(data)
        self._parse(data)
        if self.transport.is_closing():
            return
        if self._idle_bytes > terms.max_header_bytes:
            self._refuse(LARGE)
        elif self._late is None:
            if self._in_head:
                self._late = self.loop.call_later(terms.header_seconds, self._refuse, SLOW)
            elif self._in_body:
                self._late = self.loop.call_later(terms.body_seconds, self._overdue)

    def _parse(self, data: bytes) -> None:
        """Feed the parser; where it would leave HTTP for another protocol, another parser goes on.

        An upgrade that is not offered is to be ignored. The parser takes what follows the head for
        the other protocol, and after that for the next request, which a body is not.
        """
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            head = self._plain_head()
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._parse(head + data[upgrade.args[0] :])
        except HttpParserError:
            self._refuse(BROKEN)

    def _plain_head(self) -> bytes:
        """The head that was read, without its wish for another protocol."""
        self._upgrading = False
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % field for field in self.headers if field[0] not in _OF_UPGRADES]
        if not self.parser.should_keep_alive():
            lines.append(b"connection: close")
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._hosts = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of a head; those behind a body are let fall."""
        if not self._in_head:
            return
        super().on_header(name, value)
        fields = self.headers
        if fields[-1][0] == b"host":
            self._hosts += 1
        if self._hosts > 1:
            raise ValueError  # whoever looks at the other one sees another request
        if len(fields) > MOST_FIELDS:
            self._refuse(LARGE)
            raise ValueError

    def on_headers_complete(self) -> None:
        """Begin to answer; the last answer of a draining worker says that it is the last."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError  # there is no way through here
            self._upgrading = True
            return
        self._in_head = False
        self._in_time()
        most = self.server_state.terms.max_header_bytes
        if (self._large or self._idle_bytes > most) and self._head_size() > most:
            self._refuse(LARGE)
            raise ValueError  # the parser takes in no more
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError
        self._idle_bytes = 0
        self._in_body = True
        super().on_headers_complete()
        self.scope["extensions"] = extensions(self.cycle)
        if self.server_state.linger_seconds is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._upgrading:
            return
        self._in_body = False
        self._idle_bytes = 0
        self._in_time()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        self.server_state.resting.pop(self, None)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """An answer is given: the next one's turn, or a rest."""
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self.server_state.resting[self] = None

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

    def _overdue(self) -> None:
        """A body is late, unless it is we who have not read it: it waits for another's answer."""
        self._late = None
        if self.pipeline:
            self._late = self.loop.call_later(self.server_state.terms.body_seconds, self._overdue)
        else:
            self._refuse(LATE)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _unstall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _refuse(self, said: bytes) -> None:
        """Say so and end; nothing is said in the midst of an answer, nor after a request's own."""
        if not self.transport.is_closing():
            last = self._answering
            answered = last is not None and last.response_started
            if not answered or (last.response_complete and not self._in_body):  # type: ignore[union-attr]
                self.transport.write(said)
            self.transport.close()
