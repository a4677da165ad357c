"""Bodies in chunks, however they are cut: through the parser or past it, they are the same."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.providers.connection import Connection
from stillhouse.providers.framing import only_chunk
from stillhouse.providers.http import HttpProvider
from stillhouse.providers.reply import HIGH_WATER, HttpReply
from stillhouse.testing.sockets import ScriptedSocket

Run = Callable[[Coroutine[Any, Any, None]], None]
CALL = UpstreamCall(Wire.CHAT, "POST", "/chat/completions", "m", b'{"model":"m"}')
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def framed(part: bytes, large: bool = False) -> bytes:
    size = b"%X" if large else b"%x"
    return size % len(part) + b"\r\n" + part + b"\r\n"


class Wired(asyncio.Transport):
    """A transport that takes everything, over a socket that nothing comes from."""

    def __init__(self) -> None:
        super().__init__()
        self.socket = socket.socket(socket.AF_UNIX)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.socket

    def write(self, data: object) -> None:
        """Take it."""

    def get_write_buffer_size(self) -> int:
        return 0


class Lender:
    """Who the connection belongs to."""

    def __init__(self) -> None:
        self.kept: list[bool] = []

    def came(self, connection: Connection) -> None:
        """It is open."""

    def free(self, connection: Connection, keep: bool) -> None:
        self.kept.append(keep)

    def gone(self, connection: Connection) -> None:
        """It is closed."""


@given(st.binary(min_size=1, max_size=600), st.booleans())
def test_a_read_of_one_chunk_gives_what_is_in_it(part: bytes, large: bool) -> None:
    assert only_chunk(framed(part, large)) == part


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
def test_a_read_of_more_or_less_than_one_chunk_is_left_to_the_parser(
    one: bytes, other: bytes
) -> None:
    whole = framed(one)
    assert only_chunk(whole + framed(other)) is None
    assert only_chunk(whole[:-1]) is None
    assert only_chunk(b"0" + whole) is None
    assert only_chunk(b"0\r\n\r\n") is None


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"b" * 300])),
    st.lists(st.integers(0, 3000), max_size=12),
    st.booleans(),
)
def test_a_relayed_body_is_the_same_however_it_is_cut(
    parts: list[bytes], cuts: list[int], plainly: bool
) -> None:
    pieces = [*map(framed, parts), b"0\r\n\r\n"]
    if not plainly:
        text = b"".join(pieces)
        places = sorted({0, len(text), *(cut % len(text) for cut in cuts)})
        pieces = [text[a:b] for a, b in pairwise(places)]
    heard: list[bytes] = []
    lender, transport = Lender(), Wired()

    async def story() -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(lender, "acme", loop)
        connection.connection_made(transport)
        at = loop.time() + 60
        reply = HttpReply(connection, 1 << 20, at, at, loop)
        connection.put(b"", b"", reply, no_body=False)
        connection.data_received(CHUNKED)

        def sink(part: bytes) -> bool:
            heard.append(part)
            return True

        relaying = asyncio.ensure_future(reply.relay(sink))
        await asyncio.sleep(0)
        for piece in pieces:
            connection.data_received(piece)
        assert await relaying is True
        connection.connection_lost(None)

    with transport.socket:
        asyncio.run(story())
    assert b"".join(heard) == b"".join(parts)
    assert lender.kept == [True]


def test_a_sink_that_wants_no_more_holds_the_upstream_back_and_misses_nothing(run: Run) -> None:
    async def story() -> None:
        size, pieces = 1 << 20, 24
        body = [framed(b"a" * size)] * pieces
        answers = [CHUNKED, *body, b"0\r\n\r\n"]
        async with ScriptedSocket(answers, [CHUNKED, framed(b"next"), b"0\r\n\r\n"]) as upstream:
            provider = HttpProvider(
                Upstream("acme", base_url=upstream.url, allow_private=True), idle_seconds=60
            )
            reply = await provider.send(CALL, lambda: None)
            assert isinstance(reply, HttpReply)
            heard: list[int] = []

            def sink(part: bytes) -> bool:
                heard.append(len(part))
                return False

            refusals = 0
            while not await reply.relay(sink):
                refusals += 1
                if refusals == 3:
                    for _ in range(20):
                        await asyncio.sleep(0.005)
                    assert len(heard) == 3
                    assert reply.buffered <= HIGH_WATER
            assert sum(heard) == size * pieces
            following = await provider.send(CALL, lambda: None)
            assert await following.read() == b"next"
            assert upstream.connections == 1
            await provider.close()

    run(story())
