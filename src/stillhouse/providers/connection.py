"""One HTTP/1.1 connection to an upstream: writes a request, reads its answer, is used again.

Bytes go from the socket to the parser and from there to the reply; there is no stream object in
between, and one timer serves all calls of a connection. The parser is passed by where it stands
between two chunks and a read is one whole chunk.
"""

from __future__ import annotations

import asyncio
import select
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from stillhouse.core.calls import Fate, Headers
from stillhouse.core.errors import UpstreamError
from stillhouse.providers.framing import OF_CONNECTION, only_chunk, promised_seconds
from stillhouse.providers.reply import HIGH_WATER, HttpReply
from stillhouse.providers.sipping import Sips

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256


class Owner(Protocol):
    """Who lends connections, and is told when one is free or gone."""

    def came(self, connection: Connection) -> None:
        """The socket is open, and may be written to."""
        ...

    def free(self, connection: Connection, keep: bool) -> None:
        """A call has ended; `keep` says whether the connection may be used again."""
        ...

    def gone(self, connection: Connection) -> None:
        """The socket is closed."""
        ...


class Connection(asyncio.Protocol):
    """Carries one call at a time; `open` is False once it cannot carry another.

    `peek(0)` is not empty where something has arrived that the event loop has yet to read: while
    nothing is under way, an end most likely.
    """

    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_between",
        "_chunk_over",
        "_close_delimited",
        "_complete",
        "_fields",
        "_head_bytes",
        "_interim",
        "_keep",
        "_loop",
        "_named",
        "_no_body",
        "_owner",
        "_parser",
        "_reply",
        "_sipping",
        "_transport",
        "_upstream",
        "keep_seconds",
        "open",
        "peek",
        "rested_at",
    )

    def __init__(self, owner: Owner, upstream: str, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._upstream = upstream
        self._loop = loop
        self._parser = HttpResponseParser(self)
        self._reply: HttpReply | None = None
        self._fields: Headers | None = None
        self._transport: asyncio.Transport | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._sipping = False
        self.open = False
        self.rested_at = 0.0
        self.keep_seconds: float | None = None

    def put(self, head: bytes, body: bytes, reply: HttpReply, no_body: bool) -> None:
        """Write a request; its answer goes into `reply`. `no_body`: it will be headers alone."""
        self._reply = reply
        self._fields = reply.headers  # until the head is over
        self._no_body = no_body
        self._head_bytes = 0
        self._complete = self._interim = self._keep = False
        self._between = self._chunk_over = False
        self._close_delimited = True
        self._named = b""
        total_at, first_at = reply.total_at, reply.first_byte_at
        at = first_at if first_at < total_at else total_at
        if self._alarm is None or at < self._alarm_at:
            self._arm(at)
        transport = self._transport
        assert transport is not None
        if len(body) <= MAX_HEAD_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    def pause(self) -> None:
        """Leave in the socket what comes next, and after that read it in sips."""
        if self.open and self._transport is not None:
            self._transport.pause_reading()
            if not self._sipping:
                self._sipping = True
                self._transport.set_protocol(Sips(self))

    def resume(self) -> None:
        """Read on after a pause."""
        if self.open and self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once; the answer under way, if any, ends as interrupted."""
        self._fail(Fate.INTERRUPTED, "was given up before its answer was whole")

    def close(self) -> None:
        """Let a resting connection go."""
        self.open = False
        if self._transport is not None:
            self._transport.close()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self.peek = poll.poll
        self.open = True
        self._owner.came(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came; bytes that nobody asked for close the connection."""
        reply = self._reply
        if reply is None:
            self.close()
            return
        if self._between and (chunk := only_chunk(data)) is not None:
            size = len(chunk)
            reply.received += size
            if reply.received > reply.limit:
                self._break(self._too_long(reply))
                return
            sink = reply.sink
            if sink is not None and not reply.parts:
                if not sink(chunk):
                    reply.refuse()
                return
            reply.parts.append(chunk)
            reply.buffered += size
        else:
            before = reply.received
            try:
                self._parser.feed_data(data)
            except (HttpParserError, HttpParserUpgrade) as error:
                if not self._complete:
                    self._unreadable(error)
                    return
                self._keep = False  # the answer is whole; what follows it is nobody's
            if self._complete:
                self._finish(reply)
                return
            if not self._goes_on(data, told=reply.received != before):
                return
        if reply.status:
            if reply.buffered > HIGH_WATER and not (reply.whole or reply.paused):
                reply.paused = True
                self.pause()
            reply.wake()

    def _goes_on(self, data: bytes, *, told: bool) -> bool:
        """Note a read that did not end the answer; False where too much of it told no body."""
        self._between = self._chunk_over and data.endswith(b"\r\n")
        if told:
            self._head_bytes = 0
            return True
        self._head_bytes += len(data)  # a head, or what may stand behind a body
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fail(Fate.TOO_LARGE, f"sent more than {MAX_HEAD_BYTES} bytes of headers")
            return False
        return True

    def eof_received(self) -> None:
        """The upstream has closed its side."""
        self._lost(torn=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, by whomever."""
        self._lost(torn=exc is not None)
        self._transport = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._owner.gone(self)

    # Called by the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; trailers are let fall."""
        fields = self._fields
        if fields is None:
            return
        name = name.lower()
        if name not in OF_CONNECTION:
            fields.append((name, value))
            if len(fields) > MAX_HEADERS:
                raise self._error(Fate.TOO_LARGE, f"sent more than {MAX_HEADERS} header fields")
        elif name == b"content-length":  # all that most answers have of these
            self._close_delimited = False
        else:
            self._framing(name, value)

    def on_headers_complete(self) -> None:
        """The status is known."""
        reply = self._reply
        if reply is None:
            return
        status = self._parser.get_status_code()
        if not 100 <= status < 600:
            raise self._error(Fate.GARBAGE, f"sent the status {status}, which means nothing")
        if status < 200:
            if status == 101:
                raise self._error(Fate.GARBAGE, "switched protocols, which nobody asked for")
            self._interim = True
            return
        self._fields = None
        self._keep = self._parser.should_keep_alive() and not self._close_delimited
        if self._named:
            named = {name.strip().lower() for name in self._named.split(b",")}
            reply.headers = [field for field in reply.headers if field[0] not in named]
        if self._no_body or status in (204, 304):
            self._close_delimited = False
            self._keep = self._keep and not self._no_body  # the parser waits for a body here
            self._complete = True
        reply.status = status

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        reply = self._reply
        if reply is None or self._no_body:
            return
        reply.parts.append(data)
        size = len(data)
        reply.buffered += size
        reply.received += size
        if reply.received > reply.limit:
            raise self._too_long(reply)

    def on_chunk_header(self) -> None:
        """A chunk begins; the last one, which is empty, too."""
        self._chunk_over = False

    def on_chunk_complete(self) -> None:
        """A chunk is whole."""
        self._chunk_over = True

    def on_message_begin(self) -> None:
        """Refuse an answer to a question that was not put."""
        if self._reply is None or self._complete:
            raise self._error(Fate.GARBAGE, "sent an answer that nobody asked for")

    def on_message_complete(self) -> None:
        """The answer is whole; or it was an interim one, and the true one follows."""
        if self._interim:
            self._interim = False
            self._close_delimited = True
            self._named = b""
            if self._reply is not None:
                self._reply.headers.clear()
                self._reply.coding = ""
        else:
            self._complete = True

    # Own affairs.

    def _framing(self, name: bytes, value: bytes) -> None:
        if name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise self._error(Fate.GARBAGE, "uses a transfer coding other than chunked")
            self._close_delimited = False
        elif name == b"content-encoding":
            coding, reply = value.decode("latin-1").strip(), self._reply
            assert reply is not None
            reply.coding = f"{reply.coding}, {coding}" if reply.coding else coding
        elif name == b"connection":
            if value.lower() not in (b"keep-alive", b"close"):
                self._named = self._named + b"," + value
        elif name == b"keep-alive":
            self.keep_seconds = promised_seconds(value)

    def _finish(self, reply: HttpReply) -> None:
        """Hand the whole answer over, and the connection back."""
        self._reply = None
        keep = self._keep and self.open
        transport = self._transport
        if transport is not None:
            if keep and transport.get_write_buffer_size():
                keep = False  # it answered before it had read all; the rest would garble the next
            if keep and self._sipping:
                self._gulp(transport, paused=reply.paused)
            if not keep:
                self.open = False
                _let_go(transport)
        reply.end()
        self.rested_at = self._loop.time()
        self._owner.free(self, keep)

    def _gulp(self, transport: asyncio.Transport, paused: bool) -> None:
        """Read as much at a time as there is, as at first."""
        self._sipping = False
        if not paused:  # how to read is settled when reading begins
            transport.pause_reading()
        transport.set_protocol(self)
        transport.resume_reading()

    def _fail(self, fate: Fate, what: str) -> None:
        self._break(self._error(fate, what))

    def _break(self, error: UpstreamError) -> None:
        """End the answer under way with an error, and the connection with it."""
        reply, self._reply = self._reply, None
        self.open = False
        if self._transport is not None:
            self._transport.abort()
        if reply is not None:
            reply.end(error)
            self._owner.free(self, False)

    def _lost(self, torn: bool) -> None:
        self.open = False
        reply = self._reply
        if reply is None:
            return
        if reply.status and self._close_delimited and not torn:
            self._keep = False
            self._finish(reply)
        elif reply.status:
            self._fail(Fate.TRUNCATED, "closed the connection in the middle of its answer")
        else:
            self._fail(Fate.DROPPED, "closed the connection before it answered")

    def _unreadable(self, error: Exception) -> None:
        cause = error.__context__
        if isinstance(cause, UpstreamError):
            self._break(cause)
        else:
            self._fail(Fate.GARBAGE, f"sent what is no HTTP: {error}")

    def _too_long(self, reply: HttpReply) -> UpstreamError:
        return self._error(
            Fate.TOO_LARGE, f"sent more than {reply.limit} bytes; raise max_answer_bytes"
        )

    def _error(self, fate: Fate, what: str) -> UpstreamError:
        return UpstreamError(fate, f"upstream {self._upstream} {what}")

    def _arm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        """See whose time is up. The timer is not moved with each call; it looks again instead."""
        self._alarm = None
        reply = self._reply
        if reply is None:
            return
        now = self._loop.time() + 0.001  # timers of the loop count whole milliseconds
        if now >= reply.total_at:
            self._fail(Fate.TOTAL_TIMEOUT, "took longer in all than timeouts.total_seconds")
        elif reply.status:
            self._arm(reply.total_at)
        elif now >= reply.first_byte_at:
            self._fail(Fate.FIRST_BYTE_TIMEOUT, "sent no answer within timeouts.first_byte_seconds")
        else:
            self._arm(min(reply.first_byte_at, reply.total_at))


def _let_go(transport: asyncio.Transport) -> None:
    """Close a socket whose answer is here; what is still unsent need not leave any more."""
    if transport.get_write_buffer_size():
        transport.abort()
    else:
        transport.close()
