"""Writes answers without a detour: a whole one in one system call, a stream's piece at once.

Offered to the app as the ASGI extensions `stillhouse.whole` and `stillhouse.piece`; without them
the app uses plain ASGI, where head and body are two system calls and a piece needs a task.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from stillhouse.core.calls import Headers

WHOLE = "stillhouse.whole"
PIECE = "stillhouse.piece"

Whole = Callable[[int, Headers, bytes], bool]
"""Writes status, headers and body; False where plain ASGI has to do it."""


Piece = Callable[[bytes], bool]
"""Writes a piece of a stream that has begun; False while the caller is slow to read."""


def extensions(cycle: RequestResponseCycle) -> dict[str, Whole | Piece]:
    """What a request's scope has under `extensions`."""
    return {WHOLE: partial(_write, cycle), PIECE: partial(_write_piece, cycle)}


def _write_piece(cycle: RequestResponseCycle, piece: bytes) -> bool:
    if cycle.disconnected:
        return True
    cycle.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    return not cycle.flow.write_paused


def _write(cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes) -> bool:
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
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True
