"""Writes a whole answer in one piece: uvicorn sends head and body apart, in two system calls.

Offered to the app as the ASGI extension `stillhouse.whole`; without it the app uses plain ASGI.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from stillhouse.core.calls import Headers

EXTENSION = "stillhouse.whole"

Whole = Callable[[int, Headers, bytes], bool]
"""Writes status, headers and body; False where plain ASGI has to do it."""


def extensions(cycle: RequestResponseCycle) -> dict[str, Whole]:
    """What a request's scope has under `extensions`."""
    return {EXTENSION: partial(_write, cycle)}


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
