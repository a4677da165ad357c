"""Undoes content codings (gzip, deflate, brotli) as bytes arrive, none of them without end."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from stillhouse.core.calls import Fate
from stillhouse.core.errors import UpstreamError

SLICE_BYTES = 256 * 1024
"""Most that is unfolded at once: a chunk that swells a thousandfold is handed on in slices."""


_PIECE_BYTES = 64 * 1024
_MOST_MEMBERS = 10_000
"""Of one gzip body: empty ones cost time and have no bytes to count."""


class Decoder(Protocol):
    """Undoes one content coding."""

    def slices(self, data: bytes) -> Iterator[bytes]:
        """What these bytes unfold to, at most about SLICE_BYTES at a time."""
        ...

    def end(self) -> None:
        """Check that the coded data came to its own end."""
        ...


def decoder_for(coding: str, limit: int) -> Decoder | None:
    """The decoder of a `content-encoding`; None where there is nothing to undo.

    `limit` is the most bytes that a whole body may unfold to. Raises UpstreamError (GARBAGE) for
    a coding that nobody asked for and that is not known here.

    >>> decoder_for("identity", 100) is None
    True
    >>> import gzip
    >>> b"".join(decoder_for("gzip", 100).slices(gzip.compress(b"sun")))
    b'sun'
    """
    name = coding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip"):
        return _Zlib(name, 16 + zlib.MAX_WBITS, limit)
    if name == "deflate":
        return _Zlib(name, zlib.MAX_WBITS, limit)
    if name == "br":
        return _Brotli(limit)
    raise UpstreamError(
        Fate.GARBAGE,
        f"the answer's content-encoding is {name[:40]!r}, and gzip, deflate and br are known; "
        "set the upstream to send none",
    )


class _Zlib:
    """gzip with any number of members, and deflate with or without its zlib header."""

    def __init__(self, name: str, window: int, limit: int) -> None:
        self._name = name
        self._window = window
        self._left = limit
        self._members = 1
        self._inner = zlib.decompressobj(window)
        self._begun = False

    def slices(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _PIECE_BYTES):  # what is left over is copied each time
            yield from self._of_piece(data[start : start + _PIECE_BYTES])

    def _of_piece(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inner.eof:
                self._members += 1
                if self._members > _MOST_MEMBERS:
                    raise _broken(self._name)
                self._inner = zlib.decompressobj(self._window)
            unfolded = self._unfold(data)
            self._left -= len(unfolded)
            if self._left < 0:
                raise _swollen(self._name)
            if unfolded:
                yield unfolded
            data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail

    def _unfold(self, data: bytes) -> bytes:
        try:
            unfolded = self._inner.decompress(data, SLICE_BYTES)
        except zlib.error as error:
            if self._begun or self._window != zlib.MAX_WBITS:
                raise _broken(self._name) from error
            self._window = -zlib.MAX_WBITS  # many servers send deflate without its header
            self._inner = zlib.decompressobj(self._window)
            try:
                unfolded = self._inner.decompress(data, SLICE_BYTES)
            except zlib.error:
                raise _broken(self._name) from error
        self._begun = True
        return unfolded

    def end(self) -> None:
        if self._begun and not self._inner.eof:
            raise _cut(self._name)


class _Brotli:
    def __init__(self, limit: int) -> None:
        import brotli

        self._left = limit
        self._inner = brotli.Decompressor()
        self._error: type[Exception] = brotli.error
        self._begun = False

    def slices(self, data: bytes) -> Iterator[bytes]:
        if self._begun and self._inner.is_finished():
            raise _broken("br")
        self._begun = True
        while True:
            try:
                unfolded: bytes = self._inner.process(data, output_buffer_limit=SLICE_BYTES)
            except self._error as error:
                raise _broken("br") from error
            self._left -= len(unfolded)
            if self._left < 0:
                raise _swollen("br")
            if unfolded:
                yield unfolded
            if len(unfolded) < SLICE_BYTES and self._inner.can_accept_more_data():
                return  # nothing is held back: neither of the input nor of the output
            data = b""

    def end(self) -> None:
        if self._begun and not self._inner.is_finished():
            raise _cut("br")


def _swollen(name: str) -> UpstreamError:
    return UpstreamError(
        Fate.TOO_LARGE,
        f"the answer's {name} data unfolds to more than an answer may have; raise "
        "max_answer_bytes if the upstream is to be trusted",
    )


def _broken(name: str) -> UpstreamError:
    return UpstreamError(Fate.GARBAGE, f"the answer's {name} data cannot be read")


def _cut(name: str) -> UpstreamError:
    return UpstreamError(Fate.TRUNCATED, f"the answer's {name} data ends in the middle")
