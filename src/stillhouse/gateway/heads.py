"""Heads of requests that were read before: a caller sends the very same one again and again.

What a head means follows from its bytes alone, so what the parser has read once it need not read
again. A head is remembered without the digits of its length, which differ from body to body.
Heads hold callers' tokens. They are found by the hash of all their bytes, with a seed that nobody
outside knows, so the time that it takes to look for one tells nothing of any other; and nothing
here is ever printed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from stillhouse.dialects.paths import SERVED

if TYPE_CHECKING:
    from stillhouse.gateway.door import Visitor

EXTENSION = "stillhouse.head"

LONGEST = 4 * 2**10
"""Bytes of a head that is remembered; few clients send more than a fourth of it."""

MOST_FIELDS = 64
"""Header fields of one, because short ones take up far more memory than they have bytes."""

MOST = 1024
"""Heads that a worker remembers."""

LONGEST_BODY = HIGH_WATER_LIMIT
"""Bytes of a body that a remembered head may have; for longer ones reading has to pause."""

_MOST_DIGITS = len(str(LONGEST_BODY))

_END = b"\r\n\r\n"
LENGTH = b"content-length"
_NOT_PLAIN = (
    b"content-encoding",
    b"expect",
    b"http2-settings",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
)
_OF_ONE_REQUEST = (b"idempotency-key", b"traceparent", b"x-client-request-id")
_NEVER_KEPT = frozenset((*_NOT_PLAIN, *_OF_ONE_REQUEST))
_OF_A_CONNECTION = ("client", "extensions", "headers", "scheme", "server", "state")

Around = tuple[bytes, bytes]
"""What stands in a head before `: `, its length and the end of that line, and what after it."""


class Head:
    """What a head says: the fields, the scope but for the connection's part, who was let in by it.

    `visitor` is None until the door has let somebody in by it; `keys` are those that were in force
    then, and `until_us` when that visitor's own is no more, None for never.
    """

    __slots__ = ("fields", "keys", "place", "scope", "until_us", "visitor")

    def __init__(self, scope: dict[str, Any], fields: list[tuple[bytes, bytes]]) -> None:
        self.scope, self.fields = scope, fields
        self.place = [name for name, _ in fields].index(LENGTH)
        self.visitor: Visitor | None = None
        self.keys: object = None
        self.until_us: int | None = None

    def __repr__(self) -> str:
        return "Head()"  # no token


class Heads(dict[Around, Head]):
    """The heads by which somebody was let in lately."""

    def keep(self, around: Around, head: Head) -> None:
        """Remember one more."""
        if len(self) >= MOST:
            self.clear()
        self[around] = head

    def __repr__(self) -> str:
        return f"Heads({len(self)})"


def divide(data: bytes) -> tuple[Around, bytes, bytes] | None:
    r"""Around the length, the length and the body, where the bytes may be one whole request.

    The length is not read but foretold: only a head that names just as many bytes as follow it is
    looked for at all. Whether that is its length, and what else it says, is known only for a head
    that the parser has read.

    >>> divide(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nhost: a\r\n\r\n{}")
    ((b'POST / HTTP/1.1\r\nContent-Length', b'host: a'), b'2', b'{}')
    >>> divide(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nhost: a\r\n\r\n{}")
    """
    end = data.find(_END, 0, LONGEST)
    if end < 0 or len(data) - end > LONGEST_BODY:
        return None
    body = data[end + 4 :]
    said = b": %d\r\n" % len(body)
    at = data.find(said, 0, end + 2)
    if at < 0:
        return None
    return (data[:at], data[at + len(said) : end]), said[2:-2], body


def head_of(around: Around, length: bytes, scope: dict[str, Any], most: int) -> Head | None:
    """What may be remembered of a head that the parser has read, at most so many bytes of it.

    Only a plain call of a model is: none with a wish of its own for its connection or its body, and
    none that another number of digits could make too long.
    """
    before, after = around
    if len(before) + len(after) + _MOST_DIGITS + 8 > most:
        return None
    if scope["method"] != "POST" or scope["http_version"] != "1.1" or scope["path"] not in SERVED:
        return None
    if before[:5] != b"POST " or before[-16:].lower() != b"\r\n" + LENGTH:
        return None
    fields: list[tuple[bytes, bytes]] = scope["headers"]
    names = [name for name, _ in fields]
    if len(names) > MOST_FIELDS or not _NEVER_KEPT.isdisjoint(names):
        return None
    lines = before.count(b"\r\n") + (after.count(b"\r\n") + 1 if after else 0)
    if len(names) != lines:  # the fields are not those that were sent
        return None
    if names.count(LENGTH) != 1 or (LENGTH, length) not in fields or names.count(b"host") != 1:
        return None
    if any(name == b"connection" and value.lower() != b"keep-alive" for name, value in fields):
        return None
    kept = {name: said for name, said in scope.items() if name not in _OF_A_CONNECTION}
    return Head(kept, fields.copy())
