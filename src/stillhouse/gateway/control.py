"""The line between the supervisor and a process of its own: settings down, readiness up.

The line is a pair of sockets. The supervisor writes what the process is to know, then `drain` when
it is to end; its own end, however sudden, closes the line, and the process drains all the same.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import msgspec

from stillhouse.gateway.terms import Terms

READY = b"ready\n"
ALIVE = b"alive\n"
FAILED = b"failed "
FAILURE = 3
"""Exit code of a process that has said why it cannot start."""

_LENGTH = 8


class Handed(NamedTuple):
    """What a process is given at its start: `payload` is read by the function that it runs."""

    terms: Terms
    payload: bytes


def packed(handed: Handed) -> bytes:
    """What is handed down, as bytes on the line."""
    body = msgspec.json.encode(handed)
    return len(body).to_bytes(_LENGTH, "big") + body


def receive(line: socket.socket) -> Handed:
    """What the supervisor hands down; EOFError where it has died meanwhile."""
    body = _exactly(line, int.from_bytes(_exactly(line, _LENGTH), "big"))
    return msgspec.json.decode(body, type=Handed)


def failure(error: Exception) -> bytes:
    """Why a process ends, as one line of bytes.

    >>> failure(ValueError("one\\ntwo"))
    b'failed one; two\\n'
    """
    return FAILED + "; ".join(str(error).splitlines()).encode() + b"\n"


def drain_order(linger_seconds: float) -> bytes:
    """The order to end, as bytes on the line."""
    return b"drain %g\n" % linger_seconds


def linger_of(order: bytes, otherwise: float) -> float:
    """For how long idle callers stay, by the supervisor's order or by its silence.

    >>> linger_of(drain_order(5.0), 1.0), linger_of(b"", 1.0)
    (5.0, 1.0)
    """
    word, _, seconds = order.partition(b" ")
    return float(seconds) if word == b"drain" else otherwise


def named(place: str) -> Callable[..., Any]:
    """The function that stands at `module:name`.

    >>> named("stillhouse.gateway.control:named").__name__
    'named'
    """
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def told_to_end(line: socket.socket, seconds: float) -> bool:
    """Wait up to so many seconds for the order to end, or for the supervisor's death."""
    ready, _, _ = select.select([line], [], [], max(0.0, seconds))
    return bool(ready)


def _exactly(line: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        more = line.recv(length - len(parts))
        if not more:
            raise EOFError
        parts += more
    return bytes(parts)
