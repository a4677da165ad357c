"""How an entry stands in a journal: a frame that says how long it is and whether it is whole.

A segment begins with `MAGIC`. A frame is 12 bytes (two of `SYNC`, the kind, a reserved byte, the
length and the CRC-32 of the payload, little-endian) and the payload in MessagePack. A reader that
loses its place finds the next frame by `SYNC`, a length that fits and a CRC that agrees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from stillhouse.core.calls import Ended, Entry, Started
from stillhouse.core.nouns import Noun

MAGIC = b"STILLJ1\n"
SUFFIX = ".journal"
MOST_BYTES = 2**30
"""No payload is longer: a larger length is damage."""

SYNC = 0xF51A
HEADER = Struct("<HBBII")
_SYNC_BYTES = SYNC.to_bytes(2, "little")

Place = tuple[int, int]
"""A segment of a run, and how many of its bytes lie before."""


class Kind:
    """What a frame holds: plain numbers, for speed. ROTATED and CLOSED finish a segment."""

    STARTED = 1
    ENDED = 2
    PRICE = 3
    ROTATED = 4
    CLOSED = 5


class PriceFacts(NamedTuple):
    """The facts, as JSON, of a price that entries name: a journal explains itself."""

    price_id: str
    facts: str


class Frame(Noun):
    """A whole frame: the bytes from `start` up to `end` of its segment."""

    start: int
    end: int
    kind: int
    payload: bytes


_encode, _pack = msgspec.msgpack.Encoder().encode, HEADER.pack
_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {
    Kind.STARTED: msgspec.msgpack.Decoder(Started),
    Kind.ENDED: msgspec.msgpack.Decoder(Ended),
    Kind.PRICE: msgspec.msgpack.Decoder(PriceFacts),
}


def framed(kind: int, content: Entry | PriceFacts | None) -> bytes:
    """Encode a frame; a text that is no Unicode has its odd signs replaced.

    >>> [frame.kind for frame in frames(framed(Kind.CLOSED, None), 0)]
    [5]
    """
    try:
        payload = _encode(content)
    except UnicodeEncodeError:
        payload = _encode(_unicode(msgspec.to_builtins(content)))
    return _pack(SYNC, kind, 0, len(payload), crc32(payload, kind)) + payload


def _unicode(content: object) -> object:
    if isinstance(content, str):
        return content.encode(errors="replace").decode()
    if isinstance(content, dict):
        return {name: _unicode(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_unicode(value) for value in content]
    return content


def decoded(frame: Frame) -> Started | Ended | PriceFacts:
    """What a frame holds. Raises ValueError where this version cannot read it."""
    decoder = _decoders.get(frame.kind)
    if decoder is None:
        raise ValueError(f"a frame of kind {frame.kind} holds nothing")
    found: Started | Ended | PriceFacts = decoder.decode(frame.payload)
    return found


def frames(data: bytes, offset: int) -> Iterator[Frame]:
    """The whole frames at the beginning of some bytes that stand at `offset` of a segment."""
    at = 0
    while (frame := frame_at(data, at, offset)) is not None:
        yield frame
        at = frame.end - offset


def frame_at(data: bytes, at: int, offset: int) -> Frame | None:
    """The frame that begins at `data[at]`; None where there is no whole one."""
    length = length_at(data, at)
    if length is None or len(data) < at + HEADER.size + length:
        return None
    _, kind, _, _, checksum = HEADER.unpack_from(data, at)
    end = at + HEADER.size + length
    payload = data[at + HEADER.size : end]
    if crc32(payload, kind) != checksum:
        return None
    return Frame(offset + at, offset + end, kind, payload)


def length_at(data: bytes, at: int) -> int | None:
    """The length of the payload that the header at `data[at]` speaks of; None for no header."""
    if len(data) < at + HEADER.size:
        return None
    sync, _, reserved, length, _ = HEADER.unpack_from(data, at)
    return length if sync == SYNC and reserved == 0 and length <= MOST_BYTES else None


def next_frame(data: bytes, offset: int) -> Frame | None:
    """The first whole frame after the first byte: where reading goes on behind damage."""
    for found in re.finditer(re.escape(_SYNC_BYTES), data):
        if found.start() and (frame := frame_at(data, found.start(), offset)) is not None:
            return frame
    return None
