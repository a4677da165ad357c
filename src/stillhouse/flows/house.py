"""What answering needs, put together once by the wiring: upstreams, journal, prices, quotas."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, Task, ensure_future
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stillhouse.core.calls import Ask, Entry, Headers
from stillhouse.core.catalogue import Catalogue, Route, Upstream, Wire
from stillhouse.core.errors import StoreError
from stillhouse.core.nouns import Noun
from stillhouse.core.ports import Desk, Journal, Provider, TokenCounter, Watch
from stillhouse.core.serving import Consultation
from stillhouse.core.traffic import AttemptKind, Tags
from stillhouse.dialects.translate import Translation
from stillhouse.ledger.book import PriceBook
from stillhouse.routing.health import Health

if TYPE_CHECKING:  # which stands on this module
    from stillhouse.flows.consulting import Staff

_REMEMBERED = 4096


class Asked(Noun, frozen=True):
    """A request that has passed the door: who asks what of which route.

    `headers` are those that may go on to the upstream. `caller_key` is the caller's own provider
    key, empty where none was sent. `own_team` is the team of the caller's key, whatever team its
    calls are booked under. `students` says whether one may answer. `kind` is what the first call is
    booked as, and `consultation` what a student was asked before it, for `student_seconds`. `more`
    says that the exchange stays open whatever comes of its calls: another one may follow.
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
    students: bool = True
    kind: AttemptKind = AttemptKind.TEACHER
    consultation: Consultation | None = None
    more: bool = False
    student_seconds: float = 0.0

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
        self.waiting: list[Entry] = []
        """What is still to be written."""
        self.start = journal.append
        """Writes an entry before the event it speaks of; StoreError where that cannot be done."""

    @property
    def blocked(self) -> bool:
        """Try again to write what waits, and say whether something still does."""
        while self.waiting:
            try:
                written = self._journal.append(self.waiting[0])
            except StoreError:
                return True
            entry = self.waiting.pop(0)
            if written is not None:
                ensure_future(written).add_done_callback(partial(self._doubt, entry))
        return False

    def _doubt(self, entry: Entry, written: Future[None]) -> None:
        """Let an entry that the disk did not confirm wait again."""
        if not written.cancelled() and written.exception() is not None:
            self.waiting.append(entry)

    def end(self, entry: Entry) -> Awaitable[None] | None:
        """Write an entry about what has happened already: it is never given up.

        What is returned, if anything, has to be awaited: the disk has not confirmed it yet.
        """
        if self.waiting:
            self.waiting.append(entry)
            return None
        try:
            written = self._journal.append(entry)
        except StoreError:
            self.waiting.append(entry)
            return None
        return None if written is None else self._confirmed(entry, written)

    async def close(self, entry: Entry) -> None:
        """As `end`, and wait for the disk where there is something to wait for."""
        unsure = self.end(entry)
        if unsure is not None:
            await unsure

    async def _confirmed(self, entry: Entry, written: Awaitable[None]) -> None:
        try:
            await written
        except StoreError:
            self.waiting.append(entry)


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


class Way(NamedTuple):
    """How an upstream is spoken to for callers of one wire: in which, and by what translation."""

    upstream: Upstream
    wire: Wire
    translation: Translation | None


class Ways:
    """The ways that were found in one catalogue."""

    __slots__ = ("catalogue", "found")

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self.catalogue = catalogue
        self.found: dict[tuple[str, Wire], Way] = {}


@dataclass(slots=True)
class House:
    """Everything that answering leans on; `catalogue` and `providers` are exchanged by a reload.

    `staff` are the students at work, exchanged when the policy changes; None while there are none.
    `ways` is a memory that belongs to one catalogue, see `speaking.way`.
    """

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
    staff: Staff | None = None
    ways: Ways = field(default_factory=Ways)

    def learn_output(self, route: str, tokens: int) -> None:
        """Remember how long a route's answers are: what an answer nobody heard is taken to have."""
        before = self.expected_output.get(route)
        if before is None and len(self.expected_output) >= _REMEMBERED:  # callers may name any
            self.expected_output.clear()
        self.expected_output[route] = tokens if before is None else (7 * before + tokens) // 8
