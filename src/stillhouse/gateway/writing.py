"""Writes answers without a detour: a whole one in one system call, a stream's piece at once.

The app finds the server's side of a request as the ASGI extension `stillhouse.cycle`; without it
it uses plain ASGI, where head and body are two system calls and a piece needs a task.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from stillhouse.core.calls import Headers
from stillhouse.gateway.cycles import UNHEARD

EXTENSION = "stillhouse.cycle"

_LONG = 16 * 2**10


def write_piece(cycle: RequestResponseCycle, piece: bytes) -> bool:
    """Write a piece of a stream that has begun; False while the caller is slow to read."""
    if cycle.disconnected:
        return True
    if len(piece) < _LONG:
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    else:  # it is kept for the record too, and two of it would be one too many
        cycle.transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
    return not cycle.flow.write_paused


def write_whole(cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes) -> bool:
    """Write an answer that has a content-length; False while the caller is slow, and for HEAD."""
    if cycle.flow.write_paused or cycle.response_started or cycle.scope["method"] == "HEAD":
        return False
    if cycle.disconnected:
        return True
    parts = [STATUS_LINE[status]]
    for name, value in cycle.default_headers:
        parts += (name, b": ", value, b"\r\n")
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)
    cycle.waiting_for_100_continue = False
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(b"".join(parts))
    if cycle.message_event is not UNHEARD:
        cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def cut(cycle: RequestResponseCycle) -> None:
    """Break an answer off, so that nobody takes its part for the whole."""
    cycle.transport.abort()
