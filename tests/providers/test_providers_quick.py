"""What is kept or passed by to be quick says the same as the long way."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.errors import CallerError, UpstreamError
from stillhouse.core.ports import Reply
from stillhouse.providers import heads
from stillhouse.providers.connection import Connection
from stillhouse.providers.dialling import Dialler, place_of
from stillhouse.providers.heads import Heads
from stillhouse.providers.http import HttpProvider
from stillhouse.providers.reply import HttpReply
from stillhouse.testing.sockets import ScriptedSocket, Step, Then, answer

Run = Callable[[Coroutine[Any, Any, None]], None]
CALL = UpstreamCall(Wire.CHAT, "POST", "/chat/completions", "m", b'{"model":"m"}')
UPSTREAM = Upstream("acme", base_url="http://127.0.0.1", allow_private=True)


def heads_of(**changed: Any) -> Heads:
    upstream = Upstream("acme", base_url="http://127.0.0.1", **changed)
    return Heads(upstream, place_of(upstream), None, "sk-1")


NAMES = [b"anthropic-version", b"user-agent", b"x-client-request-id", b"idempotency-key", b"host"]
CALLS = st.builds(
    UpstreamCall,
    st.sampled_from([Wire.CHAT, Wire.MESSAGES]),
    st.sampled_from(["POST", "GET"]),
    st.sampled_from(["/chat/completions", "/models"]),
    st.just("m"),
    st.sampled_from([b"", b"{}", b"x" * 1000]),
    headers=st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from([b"1", b"2", b"x" * 5000])), max_size=3
    ).map(tuple),
    caller_key=st.sampled_from(["", "sk-own"]),
    attempt_id=st.sampled_from(["", "a" * 32, "b" * 32 + "-2"]),
)


@given(st.lists(CALLS, max_size=12), st.booleans())
def test_a_head_that_is_kept_is_the_one_that_would_be_put_together(
    calls: list[UpstreamCall], passes: bool
) -> None:
    used = heads_of(pass_caller_key=passes)
    for call in calls:
        assert used.head(call) == heads_of(pass_caller_key=passes).head(call)


def test_only_so_many_heads_are_kept_and_no_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_MOST_KEPT", 4)
    used = heads_of()
    for number in range(20):
        field = (b"idempotency-key", b"%d" % number)
        path = f"/batches/{number}"
        call = CALL._replace(path=path, headers=(field,))
        assert b"idempotency-key: %d\r\n" % number in used.head(call)
        assert used.head(call).startswith(b"POST /batches/%d HTTP/1.1\r\n" % number)
        assert len(used._kept) <= 4
        assert len(used._bare) <= 4
    before = dict(used._kept)
    assert b"x" * 5000 in used.head(CALL._replace(headers=((b"openai-beta", b"x" * 5000),)))
    assert used._kept == before


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("key", ["", "sk-own"])
@pytest.mark.parametrize("headers", [(), ((b"user-agent", b"theirs/1"),)])
def test_every_head_has_its_attempt_once(
    method: str, key: str, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    used = heads_of(pass_caller_key=True)
    forged = (*headers, (b"x-stillhouse-attempt", b"forged"))
    call = CALL._replace(method=method, caller_key=key, headers=forged)
    for attempt_id in ("a1", "a1-2", ""):
        lines = used.head(call._replace(attempt_id=attempt_id)).decode().split("\r\n")
        told = [line for line in lines if line.startswith("x-stillhouse")]
        assert told == ([f"x-stillhouse-attempt: {attempt_id}"] if attempt_id else [])
        assert lines[-2:] == ["", ""]


@given(st.text(min_size=1))
def test_no_attempt_breaks_out_of_its_line(attempt_id: str) -> None:
    try:
        head = heads_of().head(CALL._replace(attempt_id=attempt_id))
    except CallerError:
        return
    assert head.count(b"\r\n") == heads_of().head(CALL).count(b"\r\n") + 1
    assert not set(head.replace(b"\r\n", b"")) & {*range(32), 127}


class Wired(asyncio.Transport):
    """A transport that takes everything, over a socket that nothing comes from."""

    def __init__(self) -> None:
        super().__init__()
        self.socket, self.other = socket.socketpair()
        self.written: list[bytes] = []
        self.aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.socket

    def write(self, data: Any) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.aborted = True

    def __enter__(self) -> Wired:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.other.close()


class Lender:
    """Who the connection belongs to."""

    def came(self, connection: Connection) -> None:
        """It is open."""

    def free(self, connection: Connection, keep: bool) -> None:
        """It is done with."""

    def gone(self, connection: Connection) -> None:
        """It is closed."""


@settings(deadline=None)
@given(st.binary(max_size=40), st.lists(st.integers(1, 120), max_size=6), st.booleans())
def test_a_body_that_is_here_is_the_one_that_is_read(
    body: bytes, cuts: list[int], chunked: bool
) -> None:
    raw = answer(body)
    if chunked:
        raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        raw += b"".join(b"1\r\n%c\r\n" % sign for sign in body) + b"0\r\n\r\n"
    places = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})

    async def story() -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(Lender(), "acme", loop)
        connection.connection_made(transport)
        reply = HttpReply(connection, 1 << 20, loop.time() + 60, loop.time() + 60, loop)
        connection.put(b"", b"", reply, no_body=False)
        for start, stop in pairwise(places):
            assert reply.whole_body() is None
            connection.data_received(raw[start:stop])
        assert reply.whole_body() == reply.whole_body() == body
        assert await reply.read() == body
        connection.connection_lost(None)

    with Wired() as transport:
        asyncio.run(story())


async def sent(script: list[Step], **settings: Any) -> tuple[Reply, bytes | None]:
    """An answer, and what of its body was here a moment later."""
    async with ScriptedSocket(script) as upstream:
        provider = HttpProvider(
            Upstream("acme", base_url=upstream.url, allow_private=True), "sk-secret-1", **settings
        )
        reply = await provider.send(CALL, lambda: None)
        await asyncio.sleep(0.02)
        here = reply.whole_body()
        reply.cancel()
        await provider.close()
        return reply, here


def test_a_plain_answer_is_here_at_once(run: Run) -> None:
    async def story() -> None:
        reply, here = await sent([answer(b"hello")])
        assert (here, await reply.read()) == (b"hello", b"hello")
        reply, here = await sent([answer(b"", status=204)])
        assert (here, await reply.read()) == (b"", b"")

    run(story())


CODED = answer(gzip.compress(b"hello"), headers=["content-encoding: gzip"])
REFUSED = answer(b"the key sk-secret-1 is wrong", status=401)


@pytest.mark.parametrize(
    ("raw", "read"), [(CODED, b"hello"), (REFUSED, b"the key [removed] is wrong")]
)
def test_a_body_that_is_not_yet_as_it_was_meant_is_left_to_be_read(
    raw: bytes, read: bytes, run: Run
) -> None:
    async def story() -> None:
        reply, here = await sent([raw])
        assert (here, await reply.read()) == (None, read)

    run(story())


@pytest.mark.parametrize("end", [Then.CLOSE, Then.HANG])
def test_a_body_that_is_cut_off_is_never_here(end: Then, run: Run) -> None:
    async def story() -> None:
        reply, here = await sent([answer(b"hello")[:-2], end])
        assert here is None
        assert reply.whole_body() is None
        with pytest.raises(UpstreamError):
            await reply.read()

    run(story())


def test_who_leaves_with_its_answer_here_does_not_end_the_next_call(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dial(self: Dialler, make: Callable[[], Connection]) -> Connection:
        connections.append(make())
        connections[-1].connection_made(transport)
        return connections[-1]

    async def story() -> None:
        provider = HttpProvider(UPSTREAM)
        first = asyncio.create_task(provider.send(CALL, lambda: None))
        await asyncio.sleep(0)
        connections[0].data_received(answer(b"a"))
        second = provider.send(CALL, lambda: None)
        waiting = second.send(None)  # it has taken the connection, and has written
        assert isinstance(waiting, Awaitable)
        assert len(transport.written) == 2
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not transport.aborted
        connections[0].data_received(answer(b"b"))
        with pytest.raises(StopIteration) as returned:
            second.send(None)
        assert returned.value.value.whole_body() == b"b"
        assert (len(connections), provider.pool.busy) == (1, 0)
        closing = asyncio.create_task(provider.close())
        await asyncio.sleep(0)
        connections[0].connection_lost(None)
        await closing

    connections: list[Connection] = []
    monkeypatch.setattr(Dialler, "dial", dial)
    with Wired() as transport:
        run(story())
