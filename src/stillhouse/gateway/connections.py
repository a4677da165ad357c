"""Connections that end well: nobody is cut off by a drain, nobody takes up more than a share.

HTTP has no way to say to an idle caller that its connection is about to go: whoever sends just then
loses a request. So a draining worker leaves idle connections open for a moment more, answers what
still comes with `connection: close`, and only then lets go.

A request goes one of two ways. The first of its kind goes through the parser; one with a head by
which somebody was let in before, and with its whole body behind it, passes the parser by. The app
cannot tell them apart.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from stillhouse.gateway import heads
from stillhouse.gateway.cycles import Answering, ShortCycle
from stillhouse.gateway.heads import Around, Head, Heads
from stillhouse.gateway.refusals import BROKEN, FULL, LARGE, LATE, SLOW
from stillhouse.gateway.terms import Terms
from stillhouse.gateway.writing import EXTENSION

MOST_FIELDS = 256
"""Header fields of a request; short ones cost far more memory than they have bytes."""

MOST_PIPELINED = 16
"""Requests that may wait on a connection for the answer before theirs."""

MOST_UNWRITTEN = 32 * 2**10
"""Bytes of an answer that may wait here for a caller before no more of it is asked for."""

NEVER = math.inf
"""When a connection is closed that rests no longer, or has a timer of its own."""

_OF_UPGRADES = (b"connection", b"upgrade", b"http2-settings")


class Sharing(ServerState):
    """What a worker's connections share.

    `linger_seconds` is None until the worker drains. `resting` are the connections that wait for
    nothing of ours, the one that has done so for longest first, and when they have done so for too
    long. `heads` are those that the parser need not see again.
    """

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        self.terms = terms
        self.linger_seconds: float | None = None
        self.resting: dict[Connection, float] = {}
        self.heads = Heads()
        self.watched = False

    def watch(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Look after a while at who has rested for too long: one timer for all of them."""
        self.watched = True
        loop.call_later(seconds, self._close_rested, loop)

    def _close_rested(self, loop: asyncio.AbstractEventLoop) -> None:
        self.watched, now = False, loop.time()
        for connection, until in list(self.resting.items()):
            if until <= now:
                connection.timeout_keep_alive_handler()
            elif until != NEVER:
                self.watch(loop, until - now)
                return


class Connection(HttpToolsProtocol):
    """A caller's connection: uvicorn's own, with the limits that it leaves to others."""

    server_state: Sharing

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._between = True
        self._leaving = False
        self._in_head = True
        self._in_body = False
        self._upgrading = False
        self._large = False
        self._hosts = 0
        self._idle_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._answered = Answering(self.app, self.loop, self.tasks)
        self._mark = 0
        self._met: dict[Around, Head] = {}

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
        state.resting[self] = NEVER
        self._late = self.loop.call_later(state.terms.header_seconds, self._refuse, SLOW)
        if state.linger_seconds is not None:
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a caller; nobody is left to answer, whichever of its requests is next."""
        self._in_time()
        self._unstall()
        self.server_state.resting.pop(self, None)
        self.pipeline.clear()
        self._answered.end()
        last = self._answering
        if isinstance(last, ShortCycle):
            last.lost()
        elif last is not None and not last.response_complete:
            last.disconnected = True
            last.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes come in: a request that is known by its head, or something to read."""
        last, divided = self.cycle, None
        free = last is None or (last.response_complete and last.keep_alive)
        if self._between and free and not self._leaving:
            divided = heads.divide(data)
        if divided is None:
            self._read(data)
            return
        around, length, body = divided
        head = self.server_state.heads.get(around) or self._let_in(around)
        if head is not None:
            self._begin(head, length, body)
            return
        self._read(data)
        self._meet(around, length, body)

    def _begin(self, head: Head, length: bytes, body: bytes) -> None:
        """A request begins that is whole already; the parser stays between two messages."""
        if self._late is not None:
            self._in_time()
        self._in_head = False
        self.server_state.resting.pop(self, None)
        cycle = self.cycle = self._answering = ShortCycle(self, body)
        fields = head.fields.copy()
        fields[head.place] = (heads.LENGTH, length)
        scope = {
            **head.scope,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "headers": fields,
            "state": {**self.app_state},
            "extensions": {EXTENSION: cycle, heads.EXTENSION: head},
        }
        self._answered.begin(cycle, scope)

    def _let_in(self, around: Around) -> Head | None:
        """The head of the request before, if it is the same and somebody was let in by it."""
        head = self._met.pop(around, None)
        if head is None or head.visitor is None:
            return None
        self.server_state.heads.keep(around, head)
        return head

    def _meet(self, around: Around, length: bytes, body: bytes) -> None:
        """Keep the head that was read, where these bytes were one request and nothing else.

        It is looked at when it comes a second time in a row, and remembered for all when it comes a
        third, if somebody was let in by it: neither what strangers send nor what differs from
        request to request takes up time or room.
        """
        self._met.clear()
        mark, self._mark = self._mark, hash(around)
        if mark != self._mark:
            return
        cycle = self.cycle
        if not self._between or self.pipeline or self.access_log or self.limit_concurrency:
            return
        if cycle is None or cycle.more_body or cycle.body != body:
            return
        scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]
        head = heads.head_of(around, length, scope, self.server_state.terms.max_header_bytes)
        if head is not None:
            scope["extensions"][heads.EXTENSION] = head
            self._met[around] = head

    def _read(self, data: bytes) -> None:
        """Read; bytes that are no part of a body are counted, and what is late is told."""
        self._between = False
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
        self._between = False
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
        self.scope["extensions"] = {EXTENSION: self.cycle}  # type: ignore[dict-item]
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
        self._between = self.parser.should_keep_alive()  # a trailer may have said that it ends
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        self.server_state.resting.pop(self, None)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """An answer is given: the next one's turn, or a rest."""
        state = self.server_state
        state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._leaving:
            self._linger()
        else:
            state.resting[self] = self.loop.time() + self.timeout_keep_alive
            if not state.watched:
                state.watch(self.loop, self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        super()._unset_keepalive_if_required()
        if self in self.server_state.resting:
            self.server_state.resting[self] = NEVER

    def _linger(self) -> None:
        """Rest as long as a drain allows."""
        self._unset_keepalive_if_required()
        self.server_state.resting.setdefault(self, NEVER)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP."""
        self._refuse(BROKEN)

    def shutdown(self) -> None:
        """End after the answer under way, or linger for a request that may be on its way."""
        self._leaving = True
        linger = self.server_state.linger_seconds or 0.0
        self.timeout_keep_alive = linger  # type: ignore[assignment]
        if self.cycle is not None and not self.cycle.response_complete:
            # An answer that has begun has promised to keep the connection: it lingers when done.
            if not self.cycle.response_started:
                self.cycle.keep_alive = False
            return
        self._linger()

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
