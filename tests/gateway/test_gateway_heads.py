"""A request whose head was read before is the same request as one that the parser reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.gateway import heads
from stillhouse.gateway.caller import PATIENCE_SECONDS, AsgiCaller
from stillhouse.gateway.connections import Connection, Sharing
from stillhouse.gateway.cycles import ShortCycle
from stillhouse.gateway.door import Door
from stillhouse.gateway.heads import Head, Heads, divide
from stillhouse.gateway.keys import KeyRing, make_key
from stillhouse.gateway.terms import Terms
from stillhouse.gateway.worker import config
from stillhouse.gateway.writing import EXTENSION

KEY, TOKEN = make_key("Rosa", 0, draw=lambda n: bytes(range(n)))
BODY = b'{"model":"m"}'


def head(*fields: bytes, line: bytes = b"POST /v1/messages HTTP/1.1", token: str = TOKEN) -> bytes:
    said = (line, b"host: localhost", b"authorization: Bearer " + token.encode(), *fields)
    return b"\r\n".join((*said, b"", b""))


def request(body: bytes = BODY, *fields: bytes, token: str = TOKEN) -> bytes:
    return head(*fields, b"Content-Length: %d" % len(body), b"x-a: b", token=token) + body


class Wire(asyncio.Transport):
    """What is written to a caller that is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.said, self.closed, self.paused = b"", False, False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@dataclass
class House:
    """An app behind a door, which keeps what it was asked, and a caller's connection to it."""

    ring: KeyRing = field(default_factory=lambda: KeyRing([KEY]))
    terms: Terms = field(default_factory=Terms)
    now_us: int = 1
    plain: bool = False
    fails: bool = False
    mute: bool = False
    slow: asyncio.Event | None = None
    asked: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)
    short: list[bool] = field(default_factory=list)
    callers: list[AsgiCaller] = field(default_factory=list)

    def open(self) -> Connection:
        """Another caller's connection."""
        made = config(self, self.terms)
        made.load()
        connection = Connection(made, self.sharing, {"kept": 1})
        connection.connection_made(Wire())
        return connection

    def __post_init__(self) -> None:
        self.sharing = Sharing(self.terms)
        self.door = Door(self.ring, lambda: self.now_us, lambda: not len(self.ring))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        told = scope["extensions"]
        self.short.append(type(told[EXTENSION]) is ShortCycle)
        visitor = self.door.enter(scope["headers"], told.get(heads.EXTENSION))
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        self.asked.append(({k: v for k, v in scope.items() if k != "extensions"}, body))
        caller = AsgiCaller(scope, receive, send)
        self.callers.append(caller)
        caller.interrupt(asyncio.current_task())
        if self.slow is not None:
            await self.slow.wait()
        if self.fails:
            raise KeyError("fails")
        if self.mute:
            return
        status = 401 if visitor is None else 200
        fields = [(b"content-length", b"%d" % len(body))]
        if self.plain:
            await send({"type": "http.response.start", "status": status, "headers": fields})
            await send({"type": "http.response.body", "body": body})
        else:
            await caller.whole(status, fields, body)
        caller.release()


@asynccontextmanager
async def called(house: House) -> AsyncIterator[tuple[Connection, Wire]]:
    connection = house.open()
    wire: Any = connection.transport
    try:
        yield connection, wire
    finally:
        connection.connection_lost(None)
        await settled()
        assert not house.sharing.tasks
        assert not house.sharing.resting


async def settled() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


async def say(connection: Connection, *pieces: bytes) -> None:
    for piece in pieces:
        if connection.transport.is_closing():
            return
        connection.data_received(piece)
        await settled()


def heard(pieces: Sequence[bytes], patient: Sequence[bool], *, plain: bool) -> tuple[Any, ...]:
    """What an app was asked by these pieces, and what the caller heard of it."""
    house = House(plain=plain)

    async def story() -> tuple[bytes, bool]:
        async with called(house) as (connection, wire):
            for piece, waits in zip(pieces, patient, strict=True):
                if not wire.closed:
                    connection.data_received(piece)
                if waits:
                    await settled()
            await settled()
            return wire.said, wire.closed

    return asyncio.run(story()), house.asked, house.short


def assert_same(pieces: Sequence[bytes], patient: Sequence[bool], *, plain: bool) -> None:
    """Nobody can tell whether heads are remembered."""
    remembering = heard(pieces, patient, plain=plain)
    with patch.object(heads, "divide", lambda data: None):
        reading = heard(pieces, patient, plain=plain)
    assert True not in reading[2]
    assert remembering[:2] == reading[:2]


def test_the_third_of_equal_heads_passes_the_parser_by_and_any_length_may_follow() -> None:
    bodies = [BODY, b"", BODY, b"", b"x" * 70, BODY]
    _, asked, short = heard([request(body) for body in bodies], [True] * 6, plain=False)
    assert short == [False, False, True, True, True, True]
    assert [body for _, body in asked] == bodies
    lengths = [dict(scope["headers"])[b"content-length"] for scope, _ in asked]
    assert lengths == [b"%d" % len(body) for body in bodies]
    assert len({str(sorted(scope)) for scope, _ in asked}) == 1


TOKENS = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"0", b"00", b"+", b"-", b":", b",", b"\r\n "),
    *(b"content-length: 13\r\n", b"Content-length:13\r\n", b"content-length : 13\r\n"),
    *(b"transfer-encoding: chunked\r\n", b"expect: 100-continue\r\n", b"host: b\r\n", b": 13\r\n"),
    *(b"connection: close\r\n", b"connection: keep-alive\r\n", b"connection: upgrade\r\n"),
    *(b"upgrade: h2c\r\n", b"content-encoding: gzip\r\n", b"x-content-length: 13\r\n", b"\xff"),
    *(b"\r\n\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"1.0", b"CONNECT", b"x" * 5000),
)


@st.composite
def spoken(draw: st.DrawFn) -> list[bytes]:
    """Requests with equal heads, some of which were tampered with, cut into pieces anyhow."""
    pieces = [request()] * 3
    for _ in range(draw(st.integers(1, 4))):
        sent = request(draw(st.sampled_from([BODY, b"", b"0", b"\r\n\r\n", BODY * 9])))
        for _ in range(draw(st.integers(0, 2))):
            lines = [at for at in range(len(sent)) if sent[at : at + 2] == b"\r\n"]
            place = draw(st.sampled_from([*lines, *(at + 2 for at in lines), 0, len(sent)]))
            place = max(0, place + draw(st.sampled_from([0, 0, 0, -1, 1, -3, 5])))
            gone = draw(st.sampled_from([0, 0, 0, 1, 2, 9]))
            sent = sent[:place] + draw(st.sampled_from([b"", *TOKENS])) + sent[place + gone :]
        cuts = draw(st.lists(st.integers(0, len(sent)), max_size=2).map(sorted))
        bounds = [0, *cuts, len(sent)]
        pieces += [sent[a:b] for a, b in pairwise(bounds) if a < b]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(pieces) - 2))
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return [*pieces, request(b"last")]


@given(spoken(), st.data(), st.booleans())
def test_an_app_and_a_caller_cannot_tell_that_heads_are_remembered(
    pieces: list[bytes], data: st.DataObject, plain: bool
) -> None:
    waits = st.sampled_from([True, True, True, False])
    patient = data.draw(st.lists(waits, min_size=len(pieces), max_size=len(pieces)))
    assert_same(pieces, patient, plain=plain)


CHUNKED = head(b"transfer-encoding: chunked") + b"d\r\n%b\r\n0\r\n" % BODY


@pytest.mark.parametrize(
    "between",
    [
        [CHUNKED + b"connection: close\r\n\r\n"],
        [CHUNKED + b"x-a: b\r\n\r\n"],
        [CHUNKED, b"\r\n"],
        [b"\r\n"],
        [b"\r"],
        [b"\n", b"\n"],
        [request()[:-1], request()[-1:]],
        [request()[:30], request()[30:]],
        [request() + request()[:1], request()[1:]],
        [request() + request()],
        [request() + b"\r\n"],
        [b"\r\n" + request()],
        [request().replace(b"\r\n", b"\n")],
        [request().replace(b": 13\r\n", b": 13\r\n: 13\r\n")],
        [request().replace(b"x-a: b", b"x-content-length: 13")],
        [request().replace(b"Content-Length: 13", b"Content-Length: 12")],
        [request().replace(b"Content-Length: 13", b"Content-Length: 14"), b"x"],
        [request().replace(b"Content-Length: 13", b"Content-Length: 13\r\n ")],
        [request().replace(b"Content-Length: 13", b"Content-Length: 13\r\nContent-Length: 13")],
        [head(b"x-count: 13", b"content-length: 13", b"x-a: b") + BODY] * 3,
        [head(b"x-count: 13", b"content-length: 5", b"x-a: b") + BODY] * 3,
        [
            *[head(b"x-count: 13", b"content-length: 13", b"x-a: b") + BODY] * 3,
            head(b"x-count: 14", b"content-length: 13", b"x-a: b") + BODY + b"P",
        ],
        [request() + b"POST /v1/messages HTTP/1.1\r\nx: ", request()],
        [head(b"x-content-length: 13", b"content-length: 5", b"x-a: b") + BODY] * 3,
        [head(b"Content-Length: 13", b"connection: close") + BODY],
        [head(b"Content-Length: 13", line=b"POST /v1/messages HTTP/1.0") + BODY],
        [head(b"Content-Length: 13", b"connection: upgrade", b"upgrade: h2c") + BODY] * 3,
        [head(b"Content-Length: 13", b"proxy-connection: close") + BODY] * 3,
    ],
)
def test_what_comes_between_two_equal_heads_changes_neither(between: list[bytes]) -> None:
    pieces = [request(), request(), request(), *between, request(), request(b"last")]
    assert_same(pieces, [True] * len(pieces), plain=False)


@pytest.mark.parametrize(
    "other",
    [
        head(b"Content-Length: 13", b"x-a: b", line=b"POST /v1/models HTTP/1.1"),
        head(b"Content-Length: 13", b"x-a: b", line=b"PUT /v1/messages HTTP/1.1"),
        head(b"Content-Length: 13", b"x-a: b", line=b"POST /v1/messages HTTP/1.0"),
        head(b"Content-Length: 13", b"connection: close"),
        head(b"Content-Length: 13", b"connection: upgrade", b"upgrade: h2c"),
        head(b"Content-Length: 13", b"expect: 100-continue"),
        head(b"Content-Length: 13", b"content-encoding: identity"),
        head(b"Content-Length: 13", b"traceparent: 00-1-1-01"),
        head(b"Content-Length: 13", *(b"x-%d: y" % n for n in range(heads.MOST_FIELDS))),
        head(b"Content-Length: 13", b"x: " + b"y" * heads.LONGEST),
        head(b"Content-Length:  13"),
        head(b"Content-Length: 013"),
        head(b"x-content-length: 13", b"transfer-encoding: chunked"),
        head(b"Content-Length: 13", b"x-a: b", token="sh-nobody"),
        head(b"Content-Length: 13", b"x-a: b", token=""),
    ],
)
def test_only_plain_calls_of_callers_who_were_let_in_are_remembered(other: bytes) -> None:
    house = House()

    async def story() -> None:
        for _ in range(2):
            async with called(house) as (connection, _):
                await say(connection, *[other + BODY] * 4)

    asyncio.run(story())
    assert len(house.sharing.heads) == 0
    assert True not in house.short


def test_a_head_is_remembered_for_every_connection_and_printed_nowhere() -> None:
    house = House()

    async def story() -> None:
        async with called(house) as (connection, _):
            await say(connection, *[request()] * 3)
        async with called(house) as (connection, wire):
            await say(connection, request())
            assert wire.said.startswith(b"HTTP/1.1 200")

    asyncio.run(story())
    assert house.short == [False, False, True, True]
    assert repr(house.sharing.heads) == "Heads(1)"
    assert [repr(one) for one in house.sharing.heads.values()] == ["Head()"]


def test_heads_have_an_end() -> None:
    found = divide(request())
    assert found is not None
    scope = {"headers": [(b"content-length", b"1")]}
    kept, one = Heads(), Head(scope, scope["headers"])
    for number in range(heads.MOST + 3):
        kept.keep((found[0][0], b"%d" % number), one)
    assert len(kept) == 3


def test_a_head_that_more_digits_would_make_too_long_is_not_remembered() -> None:
    size = len(request()) - len(BODY)
    for most, remembered in ((size + 3, True), (size + 2, False)):
        house = House(terms=Terms(max_header_bytes=most))

        async def story(house: House = house) -> None:
            async with called(house) as (connection, wire):
                await say(connection, *[request()] * 3)
                assert wire.said.count(b"200 OK") == 3

        asyncio.run(story())
        assert house.short == [False, False, remembered]


def test_a_body_that_reading_has_to_pause_for_goes_through_the_parser() -> None:
    bodies = [BODY, BODY, b"x" * (heads.LONGEST_BODY - 4), b"x" * (heads.LONGEST_BODY + 1)]
    _, asked, short = heard([request(body) for body in bodies], [True] * 4, plain=False)
    assert short == [False, False, True, False]
    assert [body for _, body in asked] == bodies


def test_a_key_that_is_taken_away_or_expires_opens_no_more_at_once() -> None:
    expiring = replace(KEY, expires_us=10)
    house = House(ring=KeyRing([expiring]))

    async def story() -> None:
        async with called(house) as (connection, wire):
            await say(connection, *[request()] * 3)
            house.now_us = 10
            await say(connection, request())
            house.now_us = 9
            await say(connection, request())
            house.ring.replace([replace(KEY, key_id="other")])
            await say(connection, request())
            house.ring.replace([KEY])
            await say(connection, request())
            statuses = [said[:3] for said in wire.said.split(b"HTTP/1.1 ")[1:]]
            assert statuses == [b"200"] * 3 + [b"401", b"200", b"401", b"200"]

    asyncio.run(story())
    assert house.short == [False] * 2 + [True] * 5


@pytest.mark.parametrize("how", ["fails", "mute"])
@pytest.mark.parametrize("short", [False, True])
def test_an_app_that_fails_or_forgets_its_answer_is_answered_for(how: str, short: bool) -> None:
    house, log = House(), logging.getLogger("uvicorn.error")

    async def story() -> None:
        async with called(house) as (connection, wire):
            await say(connection, request(), *[request()] * (2 * short))
            setattr(house, how, True)
            with patch.object(log, "error") as told:
                await say(connection, request() if short else b"\r\n" + request())
            assert len(told.mock_calls) == 1
            assert wire.said.count(b"HTTP/1.1 500") == 1
            assert wire.said.endswith(b"Internal Server Error")
            assert wire.closed

    asyncio.run(story())
    assert house.short[-1] is short


def test_a_task_under_way_is_the_servers_and_what_comes_meanwhile_waits() -> None:
    house = House()

    async def story() -> None:
        async with called(house) as (connection, wire):
            await say(connection, *[request()] * 3)
            house.slow = asyncio.Event()
            await say(connection, request(b"1"), request(b"2"), request(b"3"))
            assert len(house.sharing.tasks) == 1
            assert wire.said.count(b"200 OK") == 3
            house.slow.set()
            await settled()
            assert wire.said.count(b"200 OK") == 6
            assert not house.sharing.tasks
            await say(connection, request(b"4"))

    asyncio.run(story())
    assert [body for _, body in house.asked[3:]] == [b"1", b"2", b"3", b"4"]
    assert house.short == [False, False, True, True, False, False, True]


def test_a_task_that_is_cut_off_is_no_longer_the_servers() -> None:
    house = House()

    async def story() -> None:
        async with called(house) as (connection, _):
            await say(connection, *[request()] * 3)
            connection.data_received(request())
            (task,) = house.sharing.tasks
            task.cancel()
            await settled()
            assert not house.sharing.tasks

    asyncio.run(story())


@pytest.mark.parametrize("short", [False, True])
def test_a_draining_worker_says_that_this_answer_is_the_last(short: bool) -> None:
    house = House()

    async def story() -> None:
        async with called(house) as (connection, wire):
            await say(connection, request(), *[request()] * (2 * short))
            house.sharing.linger_seconds = 1.0
            connection.shutdown()
            await say(connection, request())
            assert wire.said.count(b"connection: close") == 1
            assert wire.closed

    asyncio.run(story())


@pytest.mark.parametrize("seconds", [0.0, PATIENCE_SECONDS * 1.2])
def test_a_caller_that_leaves_is_noticed_as_soon_as_if_it_were_watched(seconds: float) -> None:
    house = House()

    async def story() -> None:
        connection = house.open()
        await say(connection, *[request()] * 3)
        house.slow = asyncio.Event()
        await say(connection, request())
        caller = house.callers[-1]
        await asyncio.sleep(seconds)
        with patch.object(logging.getLogger("uvicorn.error"), "error"):
            connection.connection_lost(None)
            if not seconds:
                assert not caller.gone
                await asyncio.sleep(PATIENCE_SECONDS * 1.2)
            assert caller.gone
            await settled()
        assert not house.sharing.tasks

    asyncio.run(story())
    assert house.short[-1]


def test_a_connection_of_which_the_first_head_is_known_has_its_time_and_its_room() -> None:
    house = House(terms=Terms(max_connections=1, header_seconds=0.05))

    async def story() -> None:
        async with called(house) as (connection, _):
            await say(connection, *[request()] * 3)
        async with called(house) as (connection, wire):
            house.slow = asyncio.Event()
            await say(connection, request())
            turned_away: Any = house.open().transport
            assert turned_away.said.startswith(b"HTTP/1.1 503")
            house.slow.set()
            await say(connection, b"\r\n")
            await asyncio.sleep(0.1)
            assert wire.said.startswith(b"HTTP/1.1 200")
            assert not wire.closed
            next_one = house.open()
            assert wire.closed
            next_one.connection_lost(None)

    asyncio.run(story())
    assert house.short == [False, False, True, True]


def test_who_rests_for_too_long_is_let_go_and_who_begins_to_speak_is_not() -> None:
    house = House(terms=Terms(keep_alive_seconds=1))

    async def story() -> None:
        first, second, third = (house.open() for _ in range(3))
        wires: list[Any] = [one.transport for one in (first, second, third)]
        await say(first, request())
        await say(second, request())
        await say(third, request())
        await asyncio.sleep(0.6)
        await say(second, request())
        await say(third, request()[:9])
        await asyncio.sleep(0.6)
        assert [wire.closed for wire in wires] == [True, False, False]
        await asyncio.sleep(0.6)
        assert [wire.closed for wire in wires] == [True, True, False]
        for one in (first, second, third):
            one.connection_lost(None)
        await settled()

    asyncio.run(story())
