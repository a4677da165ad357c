"""Reads a socket a little at a time, for a protocol that is used to take what there is."""

from __future__ import annotations

import asyncio

SIP_BYTES = 32 * 1024


class Sips(asyncio.BufferedProtocol):
    """Reads for a connection a little at a time.

    Once a caller was slow: what is read has to be kept, and else a read is up to 250 kB.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._room = memoryview(bytearray(SIP_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        """The room for the next sip."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Hand a sip on."""
        self._protocol.data_received(bytes(self._room[:nbytes]))

    def eof_received(self) -> None:
        """The peer has closed its side."""
        self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._protocol.connection_lost(exc)
