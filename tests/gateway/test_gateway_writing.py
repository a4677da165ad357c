from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvicorn

from stillhouse.gateway.caller import AsgiCaller
from stillhouse.gateway.connections import Sharing
from stillhouse.gateway.supervisor import bound
from stillhouse.gateway.terms import Terms
from stillhouse.gateway.worker import config

BODY = b'{"whole": true}'
LARGE = b"x" * 4_000_000
FIELDS = [(b"content-type", b"application/json"), (b"x-request-id", b"r1")]

Run = Callable[[Coroutine[Any, Any, None]], None]


class Gateway:
    """Answers through an AsgiCaller, as the endpoint does; what was seen of the caller is kept."""

    def __init__(self) -> None:
        self.callers: list[AsgiCaller] = []
        self.fallbacks = 0
        self.written = asyncio.Event()
        self.released = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return

        async def sent(message: Any) -> None:
            self.fallbacks += message["type"] == "http.response.start"
            await send(message)

        await receive()
        caller = AsgiCaller(scope, receive, sent)
        self.callers.append(caller)
        try:
            await self._answer(scope["path"], caller)
        finally:
            caller.release()
            self.released.set()

    async def _answer(self, path: str, caller: AsgiCaller) -> None:
        if path in ("/whole", "/large", "/odd"):
            body = LARGE if path == "/large" else BODY
            status = 529 if path == "/odd" else 200
            length = (b"content-length", b"%d" % len(body))
            await caller.whole(status, [*FIELDS, length], body)
            return
        caller.watch()
        caller.interrupt(asyncio.current_task())
        await caller.begin(200, [(b"content-type", b"text/event-stream")])
        try:
            await self._stream(path, caller)
        except asyncio.CancelledError:
            assert caller.gone
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()

    async def _stream(self, path: str, caller: AsgiCaller) -> None:
        if path == "/pushed":
            assert caller.push is not None
            for _ in range(3):
                assert caller.push(b"data: 1\n\n")
            await caller.end(b"data: [DONE]\n\n")
            return
        while path == "/endless":
            assert caller.push is not None
            if not caller.push(b"x" * 65536):
                self.written.set()
                await caller.ready()


class Served:
    """The gateway on a port, and connections to it."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway, self.port = gateway, port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, *requests: bytes) -> bytes:
        """All that is answered to some requests, until the connection is closed."""
        reader, writer = await self.connect()
        for request in requests:
            writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


def get(path: str, *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "host: localhost", *fields, "", ""]
    return "\r\n".join(lines).encode()


CLOSE = "connection: close"


@pytest.fixture
def serve() -> Callable[..., None]:
    """Runs a story against a gateway on a loopback port."""

    def run(
        story: Callable[[Served], Coroutine[Any, Any, None]], terms: Terms | None = None
    ) -> None:
        async def whole() -> None:
            used = terms or Terms()
            gateway = Gateway()
            made = config(gateway, used)
            made.lifespan = "off"
            server = uvicorn.Server(made)
            server.server_state = Sharing(used)
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            listener = bound(socket.AF_INET, ("127.0.0.1", 0))
            await server.startup(sockets=[listener])
            try:
                served = Served(gateway, listener.getsockname()[1])
                await asyncio.wait_for(story(served), 20)
            finally:
                for connection in list(server.server_state.connections):
                    connection.transport.abort()
                for listening in server.servers:
                    listening.close()
                while server.server_state.connections or server.server_state.tasks:
                    await asyncio.sleep(0.001)

        asyncio.run(whole())

    return run


def test_a_whole_answer_is_what_plain_asgi_would_have_given(serve: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        answer = await served.ask(get("/whole", CLOSE))
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        assert (lines[0], body) == (b"http/1.1 200 ok", BODY)
        for name, value in [*FIELDS, (b"content-length", b"15"), (b"connection", b"close")]:
            assert name + b": " + value in lines
        assert served.gateway.fallbacks == 0

    serve(story)


def test_a_status_that_has_no_name_is_written_too(serve: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        assert (await served.ask(get("/odd", CLOSE))).startswith(b"HTTP/1.1 529")

    serve(story)


def test_a_connection_is_kept_and_requests_in_a_row_are_answered_in_order(
    serve: Callable[..., None],
) -> None:
    async def story(served: Served) -> None:
        answer = await served.ask(get("/whole"), get("/odd"), get("/whole", CLOSE))
        assert answer.count(BODY) == 3
        assert answer.find(b"200") < answer.find(b"529") < answer.rfind(b"200")
        assert served.gateway.fallbacks == 0
        assert len(served.gateway.callers) == 3

    serve(story)


def test_a_head_has_no_body(serve: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        answer = await served.ask(get("/whole", CLOSE, method="HEAD"))
        assert answer.endswith(b"\r\n\r\n")
        assert b"content-length: 15" in answer.lower()
        assert served.gateway.fallbacks == 1

    serve(story)


def test_an_old_client_gets_its_answer_and_the_end_of_the_connection(
    serve: Callable[..., None],
) -> None:
    async def story(served: Served) -> None:
        answer = await served.ask(get("/whole", version="1.0"))
        assert answer.endswith(BODY)

    serve(story)


def test_pieces_are_framed_like_those_of_plain_asgi(serve: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        answer = await served.ask(get("/pushed", CLOSE))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        piece, last = b"9\r\ndata: 1\n\n\r\n", b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
        assert body == 3 * piece + last

    serve(story)


def test_a_large_answer_arrives_whole_at_a_slow_reader(serve: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(get("/large") + get("/whole", CLOSE))
        await served.gateway.released.wait()
        answer = await reader.read()
        assert answer.count(b"HTTP/1.1 200") == 2
        assert LARGE in answer
        assert answer.endswith(BODY)
        writer.close()
        await writer.wait_closed()

    serve(story)


def test_a_caller_that_leaves_is_noticed_while_it_is_written_to(serve: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        _, writer = await served.connect()
        writer.write(get("/endless"))
        await served.gateway.written.wait()
        writer.transport.abort()
        await served.gateway.released.wait()
        assert served.gateway.callers[0].gone

    serve(story)


def test_a_reader_that_reads_no_more_is_cut_off_in_time(serve: Callable[..., None]) -> None:
    async def story(served: Served) -> None:
        reader, writer = await served.connect()
        writer.write(get("/endless"))
        await reader.readexactly(1000)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await served.gateway.released.wait()
        assert served.gateway.callers[0].gone
        writer.transport.abort()

    serve(story, Terms(write_seconds=0.2))


def test_what_is_written_to_one_who_has_left_goes_nowhere_and_raises_nothing(
    serve: Callable[..., None],
) -> None:
    async def story(served: Served) -> None:
        _, writer = await served.connect()
        writer.write(get("/endless"))
        await served.gateway.written.wait()
        writer.transport.abort()
        await served.gateway.released.wait()
        caller = served.gateway.callers[0]
        assert caller.push is not None
        assert caller.push(b"x")
        await caller.whole(200, FIELDS, BODY)
        await caller.end(b"x")

    serve(story)
