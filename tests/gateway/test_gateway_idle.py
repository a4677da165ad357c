from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn

from stillhouse.core.calls import Ended, Fate
from stillhouse.core.traffic import Evidence
from stillhouse.gateway.connections import Sharing
from stillhouse.gateway.supervisor import bound
from stillhouse.gateway.terms import Terms
from stillhouse.gateway.worker import config
from stillhouse.settings.reading import parse_settings
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.testing.faults import LARGE_BYTES
from stillhouse.testing.faulty import FaultyUpstream
from stillhouse.wiring.endpoint import Application

TOML = """
[books]
database = "{folder}/books.db"
[journal]
folder = "{folder}/journal"
[upstreams.faulty]
base_url = "{url}/v1"
host = "openai"
allow_private = true
models = ["*"]
"""


class Talk:
    """One caller's connection, with the beginning of its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def read_no_more(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def rest(self) -> bytes:
        """What is still to come, up to the end of the connection, however it ends."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]
        parts = []
        with suppress(ConnectionError):
            while part := await self._reader.read(1 << 20):
                parts.append(part)
        await self.leave()
        return b"".join(parts)

    async def leave(self) -> None:
        self._writer.transport.abort()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


class Endpoint:
    """The whole endpoint on a loopback port, before an upstream that fails on demand."""

    def __init__(self, port: int, folder: Path, upstream: FaultyUpstream) -> None:
        self._port, self.upstream, self._folder = port, upstream, folder

    async def call(self, words: str, *, stream: bool) -> Talk:
        """Ask something on a connection of its own; returns once the answer has begun."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        turns = [{"role": "user", "content": words}]
        body = json.dumps({"model": "gpt-4o-mini", "messages": turns, "stream": stream})
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        return Talk(reader, writer)

    def ended(self) -> list[Ended]:
        """The calls that the journal says are over."""
        journals = JournalFolder(self._folder / "journal")
        entries = (entry for run in journals.runs() for _, entry in journals.read(run, (0, 0)))
        return [entry for entry in entries if isinstance(entry, Ended)]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something to be so."""
        while not holds():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(folder: Path, terms: Terms) -> AsyncIterator[Endpoint]:
    async with FaultyUpstream() as upstream:
        settings = parse_settings(TOML.format(folder=folder, url=upstream.url), {}, "test.toml")
        app = Application(settings, "worker-1", {})
        made = config(app, terms)
        made.lifespan = "off"
        server = uvicorn.Server(made)
        server.server_state = Sharing(terms)
        made.load()
        server.lifespan = made.lifespan_class(made)
        listener = bound(socket.AF_INET, ("127.0.0.1", 0))
        await app.begin()
        await server.startup(sockets=[listener])
        try:
            yield Endpoint(listener.getsockname()[1], folder, upstream)
        finally:
            for listening in server.servers:
                listening.close()
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            while server.server_state.connections or server.server_state.tasks:
                await asyncio.sleep(0.001)
            await app.end()


def test_calls_are_answered_while_a_hundred_streams_hang(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, Terms()) as endpoint:
            hanging = [await endpoint.call("[fault-hang-midway]", stream=True) for _ in range(100)]
            for _ in range(20):
                talk = await endpoint.call("hello", stream=False)
                assert b'"choices"' in await talk.rest()
            assert [call.fate for call in endpoint.ended()] == [Fate.OK] * 20
            for talk in hanging:
                await talk.leave()
            await endpoint.until(lambda: len(endpoint.ended()) == 120)
            left = [call for call in endpoint.ended() if call.fate is Fate.CALLER_GONE]
            assert len(left) == 100
            assert {call.attempt.evidence for call in left} == {Evidence.ESTIMATED}
            assert all(call.last for call in left)

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_stream_that_nobody_reads_is_cut_off_in_time_and_booked(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, Terms(write_seconds=0.3)) as endpoint:
            deaf = await endpoint.call("[fault-large]", stream=True)
            deaf.read_no_more()
            other = await endpoint.call("hello", stream=True)
            assert b"[DONE]" in await other.rest()
            await endpoint.until(lambda: len(endpoint.ended()) == 2)
            _, cut = endpoint.ended()
            assert (cut.fate, cut.status, cut.last) == (Fate.CALLER_GONE, 200, True)
            assert cut.attempt.evidence is Evidence.ESTIMATED
            assert cut.charges[0].billed
            assert len(cut.answer) < LARGE_BYTES / 2, "the upstream is not read ahead"
            assert endpoint.upstream.seen[0].sent_bytes < LARGE_BYTES
            assert b"[DONE]" not in await deaf.rest()

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_whole_answer_that_nobody_reads_is_cut_off_too(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, Terms(write_seconds=0.3)) as endpoint:
            deaf = await endpoint.call("[fault-large]", stream=False)
            deaf.read_no_more()
            await endpoint.until(lambda: len(endpoint.ended()) == 1)
            (bought,) = endpoint.ended()
            assert (bought.fate, bought.attempt.evidence) == (Fate.OK, Evidence.REPORTED)
            await asyncio.sleep(0.5)
            assert len(await deaf.rest()) < LARGE_BYTES

    asyncio.run(asyncio.wait_for(story(), 60))
