"""What workers and the process of the students say to each other: questions, replies, frames.

A frame is four bytes of length and so much msgpack. Nothing here loads numpy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

MOST_BYTES = 4 * 2**20
"""Of a frame."""

MOST_TEXTS = 256
"""Of a question; who has more asks again."""

MOST_CHARACTERS = 100_000
"""Of a text. A longer one is asked of no student: it would keep all others waiting."""

FILE = "students.sock"
"""The socket's name in the folder of the journal."""

_LENGTH = 4
_ADDRESS_BYTES = 100
"""What fits into the address of a unix socket on every system, with a little to spare."""


class Refused(StrEnum):
    """Why a question has no answer."""

    MISSING = "missing"
    BROKEN = "broken"
    LOADING = "loading"
    BUSY = "busy"
    TOO_LONG = "too_long"


class Question(NamedTuple):
    """Texts for one student, a digest; `odds` asks for all labels' probabilities as well.

    One that is `patient` gives way to all others and waits while the student is loaded. Another is
    not answered after `within_seconds`: nobody waits for it any more.
    """

    number: int
    student: str
    texts: tuple[str, ...]
    odds: bool = False
    patient: bool = False
    within_seconds: float = 0.0


class Reply(NamedTuple):
    """Labels and scores in the order of the texts, or why there are none."""

    number: int
    said: tuple[tuple[str, float], ...] = ()
    labels: tuple[str, ...] = ()
    odds: tuple[tuple[float, ...], ...] = ()
    refused: str = ""


class FrameError(ValueError):
    """The other side does not speak this language."""


class Frames:
    """Cuts what arrives into frames.

    >>> frames = Frames()
    >>> sent = framed(Reply(7, refused="loading"))
    >>> list(frames.cut(sent[:5])), [reply_in(body) for body in frames.cut(sent[5:])]
    ([], [Reply(number=7, said=(), labels=(), odds=(), refused='loading')])
    """

    def __init__(self) -> None:
        self._heard = bytearray()

    def cut(self, data: bytes) -> Iterator[bytes]:
        """The frames that are whole now. Raises FrameError where one is longer than allowed."""
        self._heard += data
        start = 0
        try:
            while len(self._heard) - start >= _LENGTH:
                body = start + _LENGTH
                length = int.from_bytes(self._heard[start:body], "big")
                if length > MOST_BYTES:
                    raise FrameError(f"a frame of {length:,} bytes; {MOST_BYTES:,} are allowed")
                if len(self._heard) - body < length:
                    return
                start = body + length
                yield bytes(self._heard[body:start])
        finally:
            del self._heard[:start]


def framed(said: Question | Reply) -> bytes:
    """A question or reply as a frame."""
    body = _encoder.encode(said)
    return len(body).to_bytes(_LENGTH, "big") + body


def question_in(body: bytes) -> Question:
    """The question in a frame; FrameError where there is none."""
    try:
        return _questions.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError("this is no question to a student") from error


def reply_in(body: bytes) -> Reply:
    """The reply in a frame; FrameError where there is none."""
    try:
        return _replies.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError("this is no student's reply") from error


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A path as the address of a unix socket, which has room for about a hundred bytes."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.msgpack.Decoder(Question)
_replies = msgspec.msgpack.Decoder(Reply)
