"""What answering needs, put together once by the wiring: upstreams, journal, prices, quotas."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, Task, ensure_future
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from stillhouse.core.calls import Ask, Entry, Headers
from stillhouse.core.catalogue import Catalogue, Route
from stillhouse.core.errors import StoreError
from stillhouse.core.ports import Desk, Journal, Provider, TokenCounter, Watch
from stillhouse.core.traffic import Tags
from stillhouse.ledger.book import PriceBook
from stillhouse.routing.health import Health

_REMEMBERED = 4096


class Asked(NamedTuple):
    """A request that has passed the door: who asks what of which route.

    `headers` are those that may go on to the upstream. `caller_key` is the caller's own provider
    key, empty where none was sent. `own_team` is the team of the caller's key, whatever team its
    calls are booked under.
    """

    exchange_id: str
    at_us: int
    began: float
    ask: Ask
    body: bytes
    route: Route
    key_id: str
    tags: Tags
    headers: tuple[tuple[bytes, bytes], ...] = ()
    caller_key: str = ""
    traceparent: str = ""
    own_team: str = ""

    def __repr__(self) -> str:
        return f"Asked({self.exchange_id!r}, model={self.route.name!r})"  # no body, no key


class Caller(Protocol):
    """The side that waits for the answer; writing to one that has left does nothing."""

    @property
    def gone(self) -> bool:
        """Whether the caller has hung up."""
        ...

    @property
    def push(self) -> Callable[[bytes], bool] | None:
        """Passes a piece on at once; False while the caller is slow. None: use `piece`."""
        ...

    async def ready(self) -> None:
        """Wait until a slow caller reads again."""
        ...

    def interrupt(self, task: Task[Any] | None) -> None:
        """Which task to cancel when the caller goes; None while none may be."""
        ...

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Give a whole answer."""
        ...

    async def begin(self, status: int, headers: Headers) -> None:
        """Begin a stream."""
        ...

    async def piece(self, chunk: bytes) -> None:
        """Pass a piece of a stream on; waits while the caller is slow."""
        ...

    async def end(self, chunk: bytes) -> None:
        """End a stream with its last piece."""
        ...


class Keeper:
    """Writes the journal; what a full disk refuses is kept in memory and written first later.

    While something waits, `blocked` says so and no new call may go upstream: what cannot be booked
    is not bought.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[Entry] = []

    @property
    def blocked(self) -> bool:
        """Try again to write what waits, and say whether something still does."""
        while self._waiting:
            try:
                written = self._journal.append(self._waiting[0])
            except StoreError:
                return True
            entry = self._waiting.pop(0)
            if written is not None:
                ensure_future(written).add_done_callback(partial(self._doubt, entry))
        return False

    def _doubt(self, entry: Entry, written: Future[None]) -> None:
        """Let an entry that the disk did not confirm wait again."""
        if not written.cancelled() and written.exception() is not None:
            self._waiting.append(entry)

    def start(self, entry: Entry) -> Awaitable[None] | None:
        """Write an entry before the event it speaks of; StoreError where that cannot be done."""
        return self._journal.append(entry)

    async def close(self, entry: Entry) -> None:
        """Write an entry about what has happened already: it is never given up."""
        if self._waiting:
            self._waiting.append(entry)
            return
        try:
            written = self._journal.append(entry)
            if written is not None:
                await written
        except StoreError:
            self._waiting.append(entry)


class Remembered(NamedTuple):
    """An answer in the cache: what it looked like, and what it cost when it was bought.

    `cost_pico` is None where the call was unpriced.
    """

    status: int
    headers: Headers
    pieces: tuple[bytes, ...]
    model: str
    host: str
    cost_pico: int | None


class Cache(Protocol):
    """Answers by the digest of their request and tenant."""

    def get(self, key: bytes, now: float) -> Remembered | None:
        """An answer that is not too old."""
        ...

    def put(self, key: bytes, answer: Remembered, until: float) -> None:
        """Keep an answer until an instant."""
        ...


@dataclass(slots=True)
class House:
    """Everything that answering leans on; `catalogue` and `providers` are exchanged by a reload."""

    catalogue: Catalogue
    providers: Mapping[str, Provider]
    keeper: Keeper
    desk: Desk
    prices: PriceBook
    health: Health
    watch: Watch
    counter: TokenCounter
    now_us: Callable[[], int]
    seconds: Callable[[], float]
    draw: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    keep_body: Callable[[Route, bytes], str]
    cache: Cache
    expected_output: dict[str, int] = field(default_factory=dict)
    loop: AbstractEventLoop | None = None

    def learn_output(self, route: str, tokens: int) -> None:
        """Remember how long a route's answers are: what an answer nobody heard is taken to have."""
        before = self.expected_output.get(route)
        if before is None and len(self.expected_output) >= _REMEMBERED:  # callers may name any
            self.expected_output.clear()
        self.expected_output[route] = tokens if before is None else (7 * before + tokens) // 8
