"""An upstream on a real socket that fails on demand, and remembers each attempt that it saw.

A request says how it wants to be failed: by the header `x-fault`, by a model named `fault-NAME`, or
by `[fault-NAME]` anywhere in its body. With `-first` at the end of the name only first attempts
fail, as `x-stillhouse-attempt` tells them apart. The names are `FAULTS`.

    python -m stillhouse.testing.faulty --port 9901 --log seen.jsonl

`GET /__seen` gives what was seen as JSON, `DELETE /__seen` forgets it.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import ssl
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import httptools
import orjson

from stillhouse.core.catalogue import Wire
from stillhouse.core.errors import CallerError
from stillhouse.dialects.paths import SERVED
from stillhouse.testing.answering import answered, read_said
from stillhouse.testing.faults import FAULTS, Good, Plan, failed, listing, plain, plan
from stillhouse.testing.sockets import Step, Then, reset

_IN_BODY = re.compile(rb"\[fault-([a-z0-9-]+)\]")
_LATER_ATTEMPT = re.compile(r".*-\d+")
MODELS = ["faulty-1", *(f"fault-{name}" for name in FAULTS)]


@dataclass(slots=True)
class SeenCall:
    """One attempt as the upstream saw it.

    `usage` are the leaf counts of the whole answer, `text` its text; whether they reached anybody
    follows from `ended`: `whole`, `cut` (by the fault), `hung`, `caller_gone`, or `open` while it
    lasts. `sent_bytes` of `answer_bytes` were given to the socket. `counted`: the answer says its
    usage, and truly.
    """

    number: int
    attempt: str
    path: str
    model: str
    fault: str
    stream: bool = False
    status: int = 0
    usage: dict[str, int] = field(default_factory=dict)
    counted: bool = False
    text: str = ""
    asked_bytes: int = 0
    answer_bytes: int = 0
    sent_bytes: int = 0
    ended: str = "open"


class FaultyUpstream:
    """Listens on a loopback port; `seen` are the attempts in the order of their arrival.

    `pause_seconds` lies between the events of every stream. With `log`, each attempt is written as
    a line of JSON once it has ended.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        pause_seconds: float = 0.0,
        log: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = port
        self.pause_seconds = pause_seconds
        self.seen: list[SeenCall] = []
        self.connections = 0
        self.living: set[_Caller] = set()
        self._tls = tls
        self._log: IO[bytes] | None = None if log is None else log.open("ab")
        self._server: asyncio.Server | None = None
        self._numbers = 0

    @property
    def url(self) -> str:
        """Where it listens, without the `/v1` that its paths begin with."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> FaultyUpstream:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Caller(self, loop), "127.0.0.1", self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        for caller in list(self.living):
            caller.abort()
        while self.living:
            await asyncio.sleep(0.001)
        if self._server is not None:
            await self._server.wait_closed()
        if self._log is not None:
            self._log.close()

    def note(self, attempt: str, path: str, model: str, fault: str) -> SeenCall:
        """Remember that a request has arrived."""
        self._numbers += 1
        call = SeenCall(self._numbers, attempt, path, model, fault)
        self.seen.append(call)
        return call

    def ended(self, call: SeenCall) -> None:
        """Write an attempt down."""
        if self._log is not None:
            self._log.write(orjson.dumps(asdict(call)) + b"\n")
            self._log.flush()


class _Caller(asyncio.Protocol):
    """One connection of a client: parses requests, and puts plans on the socket step by step."""

    def __init__(self, upstream: FaultyUpstream, loop: asyncio.AbstractEventLoop) -> None:
        self._upstream = upstream
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._steps: Iterator[Step] = iter(())
        self._plan: Plan | None = None
        self._call: SeenCall | None = None
        self._later: asyncio.TimerHandle | None = None
        self._full = False
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._upstream.connections += 1
        self._upstream.living.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._later is not None:
            self._later.cancel()
        self._end("caller_gone")
        self._upstream.living.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:  # TLS on a plain port, for one
            if self._transport is not None:
                self._transport.write(b"HTTP/1.1 400 Bad\r\nconnection: close\r\n\r\n")
                self._transport.close()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._plan is not None and self._later is None:
            self._go_on()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        path = self._url.partition(b"?")[0].decode("latin-1")
        chosen = self._choose(method, path, b"".join(self._body))
        if not self._parser.should_keep_alive():
            chosen = chosen._replace(close=True)
        self._plan = chosen
        self._steps = iter(chosen.steps)
        if self._call is not None:
            self._call.status = chosen.status
            self._call.answer_bytes = sum(len(s) for s in chosen.steps if isinstance(s, bytes))
        self._go_on()

    # Own affairs.

    def _choose(self, method: str, path: str, body: bytes) -> Plan:
        """The plan for a request; what is no call of a model is not remembered."""
        if path == "/__seen":
            return self._tell_seen(method)
        wire = SERVED.get(path)
        if method == "GET" and path.startswith("/v1/models"):
            return listing(path[len("/v1/models/") :], MODELS)
        if path == "/v1/messages/count_tokens":
            return plain({"input_tokens": max(1, len(body) // 4)})
        if wire is None or method != "POST":
            return failed(Wire.CHAT, 404, message=f"{method} {path} is nothing that is served")
        try:
            return self._answer(wire, path, body)
        except CallerError as error:
            return failed(wire, 400, message=str(error))

    def _answer(self, wire: Wire, path: str, body: bytes) -> Plan:
        attempt = self._headers.get(b"x-stillhouse-attempt", b"").decode("latin-1")
        call = self._call = self._upstream.note(attempt, path, "", "")
        call.asked_bytes = len(body)
        said = read_said(body)
        call.model = str(said.get("model", ""))
        call.fault = fault = self._fault(call.model, attempt, body)
        answer = answered(wire, said, body, call.number, fault != "usage-missing")
        call.stream, call.text = answer.stream, answer.text
        call.usage = answer.usage.leaves()
        call.counted = answer.counted and fault != "usage-contradictory"
        good = Good(wire, answer.parts, call.stream, self._upstream.pause_seconds)
        chosen = plan(fault, good)
        if chosen is None:
            raise CallerError(f"the fault {fault!r} is not known; use one of {', '.join(FAULTS)}")
        return chosen

    def _fault(self, model: str, attempt: str, body: bytes) -> str:
        fault = self._headers.get(b"x-fault", b"").decode("latin-1")
        if not fault and model.startswith("fault-"):
            fault = model.removeprefix("fault-")
        if not fault and (found := _IN_BODY.search(body)):
            fault = found[1].decode("ascii")
        if fault.endswith("-first"):
            later = _LATER_ATTEMPT.fullmatch(attempt)
            fault = "" if later else fault.removesuffix("-first")
        return fault

    def _tell_seen(self, method: str) -> Plan:
        if method == "DELETE":
            self._upstream.seen.clear()
        return plain([asdict(call) for call in self._upstream.seen])

    def _go_on(self) -> None:
        """Take steps until one of them waits, the socket is full, or the plan is done."""
        self._later = None
        transport, call = self._transport, self._call
        if transport is None or self._plan is None:
            return
        while not self._full:
            step = next(self._steps, None)
            if step is None:
                self._done(transport)
                return
            if isinstance(step, bytes):
                transport.write(step)
                if call is not None:
                    call.sent_bytes += len(step)
            elif isinstance(step, float):
                self._later = self._loop.call_later(step, self._go_on)
                return
            else:
                self._stop(step, transport)
                return

    def _done(self, transport: asyncio.Transport) -> None:
        chosen, self._plan = self._plan, None
        self._end("whole" if chosen is not None and chosen.whole else "cut")
        if chosen is not None and chosen.close:
            transport.close()

    def _stop(self, then: Then, transport: asyncio.Transport) -> None:
        self._plan = None
        self._end("hung" if then is Then.HANG else "cut")
        if then is Then.CLOSE:
            transport.close()
        elif then is Then.RESET:
            reset(transport)

    def _end(self, how: str) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.ended = how
            self._upstream.ended(call)


async def _serve(port: int, pause_seconds: float, log: Path | None) -> None:
    async with FaultyUpstream(port, pause_seconds=pause_seconds, log=log) as upstream:
        sys.stdout.write(f"faulty upstream on {upstream.url}/v1\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main(words: list[str] | None = None) -> None:
    """Run until interrupted."""
    asks: Any = argparse.ArgumentParser(prog="python -m stillhouse.testing.faulty")
    asks.add_argument("--port", type=int, default=9901, help="loopback port; 0 for any")
    asks.add_argument("--event-ms", type=float, default=0.0, help="pause between events")
    asks.add_argument("--log", type=Path, default=None, help="file for the attempts seen")
    said = asks.parse_args(words)
    import uvloop

    try:
        uvloop.run(_serve(said.port, said.event_ms / 1000, said.log))
    except KeyboardInterrupt:
        sys.stdout.write("stopped\n")


if __name__ == "__main__":
    main()
