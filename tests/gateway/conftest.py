"""What the tests of this room lean on: the real endpoint on a loopback port, and upstreams."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple, TypeVar

import pytest
import uvicorn
import uvloop

from stillhouse.core.calls import Ended, Entry
from stillhouse.core.quotas import Quota, VirtualKey
from stillhouse.gateway.connections import Sharing
from stillhouse.gateway.keys import make_key
from stillhouse.gateway.terms import Terms
from stillhouse.gateway.worker import config
from stillhouse.settings.reading import parse_settings
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.testing.batching import BatchUpstream
from stillhouse.testing.faulty import FaultyUpstream, SeenCall
from stillhouse.wiring.books import access_of
from stillhouse.wiring.endpoint import Application

T = TypeVar("T")


class Pier(uvicorn.Server):
    """uvicorn as a worker has it, on a thread of the tests."""

    def __init__(self, app: Callable[..., Any], terms: Terms) -> None:
        super().__init__(config(app, terms))
        self.server_state = Sharing(terms)
        self.opened = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.opened.set()


class Quay:
    """An event loop on a thread, where endpoint and upstreams live while tests call them."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self.complaints: list[str] = []
        self._loop.set_exception_handler(lambda _, about: self.complaints.append(str(about)))
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        """Run something there, and wait for it."""
        return asyncio.run_coroutine_threadsafe(story, self._loop).result(30)

    def close(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Heard(NamedTuple):
    """A request as a vendor got it."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


Said = tuple[int, dict[str, str], Sequence[bytes]]
"""What a vendor answers: status, header fields, the pieces of the body."""


class Vendor:
    """An upstream that answers what a test tells it to, in the vendor's own bytes.

    `answer` is called with each request; a piece of the body that is empty holds the rest back
    until the caller has gone.
    """

    def __init__(self, answer: Callable[[Heard], Said]) -> None:
        self._answer = answer
        self.heard: list[Heard] = []
        self.left = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        fields = {name.decode(): value.decode() for name, value in scope["headers"]}
        heard = Heard(scope["path"], fields, json.loads(body or b"{}"))
        self.heard.append(heard)
        status, headers, pieces = self._answer(heard)
        said = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": said})
        for piece in pieces:
            if not piece:
                await receive()
                self.left.set()
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@dataclass
class Served:
    """A running endpoint: where it is, its keys, and what its journal holds."""

    url: str
    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def v1(self) -> str:
        """The base URL of OpenAI's clients."""
        return f"{self.url}/v1"

    @property
    def token(self) -> str:
        """The token of a key that may do everything except administer."""
        return self.tokens["plain"]

    def say(self, *pieces: bytes, seconds: float = 10.0) -> bytes:
        """What is heard of a connection that these bytes are written to, one piece after another.

        It is read to its end, so the last of the pieces should ask for one, or be no HTTP.
        """
        place = ("127.0.0.1", int(self.url.rpartition(":")[2]))
        heard = b""
        with socket.create_connection(place, timeout=seconds) as caller, suppress(ConnectionError):
            for piece in pieces:
                caller.sendall(piece)
                sleep(0.01)
            while some := caller.recv(1 << 16):
                heard += some
        return heard

    def entries(self) -> list[Entry]:
        """What the journal holds by now."""
        journals = JournalFolder(self.folder / "journal")
        return [entry for run in journals.runs() for _, entry in journals.read(run, (0, 0))]

    def ended(self, exchange_id: str) -> list[Ended]:
        """The calls of an exchange as they were booked."""
        return [
            entry
            for entry in self.entries()
            if isinstance(entry, Ended) and entry.exchange_id == exchange_id
        ]


class Harbour:
    """Starts endpoints and upstreams, and ends them when the tests are through."""

    def __init__(self, quay: Quay, ships: AsyncExitStack, folders: Callable[[], Path]) -> None:
        self._quay, self._ships, self._folders = quay, ships, folders

    def moor(self, made: AbstractAsyncContextManager[T]) -> T:
        """Begin something on the quay that ends when the tests are through."""
        return self._quay.run(self._ships.enter_async_context(made))

    def faulty(self, pause_seconds: float = 0.0) -> FaultyUpstream:
        """The upstream that fails on demand."""
        made = FaultyUpstream(pause_seconds=pause_seconds)
        self._quay.run(self._ships.enter_async_context(made))
        return made

    def batching(self) -> BatchUpstream:
        """The upstream that runs batches."""
        made = BatchUpstream()
        self._quay.run(self._ships.enter_async_context(made))
        return made

    def vendor(self, answer: Callable[[Heard], Said]) -> tuple[str, Vendor]:
        """The base URL of a vendor that answers so, and the vendor."""
        vendor = Vendor(answer)
        return f"{self._quay.run(self._open(vendor, 'off'))[0]}/v1", vendor

    def serve(
        self,
        toml: str,
        env: Mapping[str, str] | None = None,
        *,
        quotas: Sequence[Quota] = (),
        models: tuple[str, ...] = (),
        prices: Path | None = None,
        beside: Served | None = None,
        keys: Sequence[VirtualKey] = (),
        usual_keys: bool = True,
        terms: Terms | None = None,
    ) -> Served:
        """An endpoint with a plain key, an admin key, a key for `quotas` and `models`, and `keys`.

        `beside` another one it is a second worker, with the same books, keys and journal's folder.
        """
        folder = beside.folder if beside is not None else self._folders()
        own = (
            f'[journal]\nfolder = "{folder}/journal"\n'
            f'[logging]\nlevel = "all"\nfile = "{folder}/lines.jsonl"\n'
            f'[books]\ndatabase = "{folder}/books.db"\n'
        )
        own += f'prices = "{prices}"\n' if prices is not None else ""
        settings = parse_settings(own + toml, env or {}, "test.toml")
        tokens = dict(beside.tokens) if beside is not None else {}
        with access_of(settings.books.database) as access:
            for key in keys:
                access.add_key(key)
            usual = ("plain", "admin", "narrow") if usual_keys and beside is None else ()
            for name in usual:
                narrow = name == "narrow"
                key, tokens[name] = make_key(
                    name,
                    0,
                    admin=name == "admin",
                    quotas=tuple(quotas) if narrow else (),
                    models=models if narrow else (),
                )
                access.add_key(key)
        app = Application(settings, "worker-1" if beside is None else "worker-2", env or {})
        url, _ = self._quay.run(self._open(app, "on", terms))
        return Served(url, folder, tokens)

    async def _open(
        self, app: Callable[..., Any], lifespan: str, terms: Terms | None = None
    ) -> tuple[str, Pier]:
        pier = Pier(app, terms or Terms())
        pier.config.lifespan = lifespan  # type: ignore[assignment]
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(pier.serve(sockets=[listener]))

        async def close() -> None:
            pier.should_exit = True
            await serving

        self._ships.push_async_callback(close)
        opened = asyncio.create_task(pier.opened.wait())
        await asyncio.wait({opened, serving}, return_when=asyncio.FIRST_COMPLETED)
        assert pier.started, "the server did not start"
        return url, pier


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@contextmanager
def _quiet_uvicorn() -> Iterator[list[str]]:
    """What uvicorn has to say of exceptions that an app did not catch."""
    errors, log = _Errors(), logging.getLogger("uvicorn.error")
    before = log.level, log.propagate
    log.setLevel(logging.ERROR)
    log.propagate = False
    log.addHandler(errors)
    try:
        yield errors.said
    finally:
        log.removeHandler(errors)
        log.level, log.propagate = before


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    """Starts endpoints and upstreams; in the end nothing may have gone wrong unnoticed."""
    with ExitStack() as stack:
        unhandled = stack.enter_context(_quiet_uvicorn())
        stack.enter_context(_without_proxies())
        quay = Quay()
        stack.callback(quay.close)
        ships = AsyncExitStack()
        try:
            yield Harbour(quay, ships, lambda: tmp_path_factory.mktemp("endpoint"))
        finally:
            quay.run(ships.aclose())
        assert unhandled == []
        assert quay.complaints == []


@contextmanager
def _without_proxies() -> Iterator[None]:
    """Clients must not look for the machine's proxy."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


__all__ = ["Harbour", "Heard", "Said", "SeenCall", "Served", "Vendor"]
