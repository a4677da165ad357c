"""How an answer is framed: what its head says of that, and bodies in chunks where they are plain.

Models send an event at a time, and so most reads of a stream hold one chunk from its first byte to
its last. Such a read need not go through a parser that calls back for each part of it.
"""

from __future__ import annotations

from functools import lru_cache

OF_CONNECTION = frozenset(
    (
        b"connection",
        b"content-encoding",
        b"content-length",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Fields that speak of this connection, or of codings that are undone here."""


def only_chunk(data: bytes) -> bytes | None:
    r"""What is in a read that is one chunk and nothing else; None for whatever else it is.

    Sizes with leading zeros, with extensions or in mixed case are left to a parser, as is the empty
    chunk that ends a body.

    >>> only_chunk(b"5\r\nhello\r\n"), only_chunk(b"5\r\nhello\r\n5\r\n")
    (b'hello', None)
    """
    heads = _heads(len(data))
    if data.startswith(heads) and data.endswith(b"\r\n"):
        return data[len(heads[0]) : -2]
    return None


@lru_cache(maxsize=4096)
def _heads(size: int) -> tuple[bytes, ...]:
    """How a read of so many bytes begins if it is one chunk: its size, in small or large letters.

    >>> _heads(21 + 4 + 2), _heads(5), _heads(21)
    ((b'15\\r\\n', b'15\\r\\n'), (), ())
    """
    for digits in range(1, 8):
        content = size - digits - 4
        if content > 0 and len(f"{content:x}") == digits:
            return b"%x\r\n" % content, b"%X\r\n" % content
    return ()


def promised_seconds(value: bytes) -> float | None:
    """How long the peer keeps an idle connection, by its `Keep-Alive: timeout=5`.

    >>> promised_seconds(b"timeout=5, max=100")
    5.0
    """
    for part in value.split(b","):
        name, _, number = part.partition(b"=")
        if name.strip().lower() == b"timeout" and number.strip().isdigit():
            return float(number)
    return None
