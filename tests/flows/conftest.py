"""What the tests of the hall lean on: a stage where every part behind a Protocol follows a script.

`Stage` puts a House together out of scripted parts that all write into one list of notes, so that
the order of events across them can be read off. Nothing waits but where a script says so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pytest

from stillhouse.core.calls import Done, Ended, Entry, Fate, Headers, Started, UpstreamCall
from stillhouse.core.catalogue import Catalogue, Deployment, Route, Upstream, Wire
from stillhouse.core.errors import StoreError, UpstreamError
from stillhouse.core.learning import AnswerShape, Prediction, Target
from stillhouse.core.money import Paid
from stillhouse.core.quotas import Denied, Hold, Need
from stillhouse.core.serving import Answered, Charter, InputRange, Mode, Serving, Standing, Terms
from stillhouse.core.traffic import Completion, Tags, Usage
from stillhouse.dialects.peek import peek
from stillhouse.dialects.render import render_body, render_stream
from stillhouse.distillation.recognition import Recogniser
from stillhouse.flows.answer import answer
from stillhouse.flows.consulting import Staff
from stillhouse.flows.house import Asked, House, Keeper
from stillhouse.gateway.cache import Cache
from stillhouse.ledger.book import PriceBook
from stillhouse.ledger.prices import Price
from stillhouse.routing.health import Health
from stillhouse.store.journal_frames import Kind, framed
from stillhouse.wiring.upstreams import read_request

NOW_US = 1_795_000_000_000_000
EXCHANGE = "0123456789ab" + "c" * 20
PRICE = Price("acme", "m", {"input_tokens": 3 * 10**12, "output_tokens": 15 * 10**12})
FREE = Price("acme", "free", {"input_tokens": 0, "output_tokens": 0})
OTHER = Price("acme", "m-large", {"input_tokens": 30 * 10**12, "output_tokens": 150 * 10**12})
FAST = Price(
    "acme", "m", {"input_tokens": 6 * 10**12, "output_tokens": 30 * 10**12}, service_tier="flex"
)
USAGE = Usage(input_tokens=100, output_tokens=20)
NOBODYS = Tags()
COST = 100 * 3_000_000 + 20 * 15_000_000
"""What an answer with USAGE costs at PRICE, in pico-dollars."""

Step = Callable[[], object]
Part = bytes | Exception | Step
"""A piece of a body, a failure, or something that happens, waited for where it can be."""


class Says(NamedTuple):
    """How an upstream treats one call: before it is sent, until it answers, and its answer."""

    status: int = 200
    parts: Sequence[Part] = ()
    headers: Headers = [(b"content-type", b"application/json")]  # noqa: RUF012
    dialling: Sequence[Exception | Step] = ()
    waiting: Sequence[Exception | Step] = ()


def fails(fate: Fate) -> Says:
    """An upstream that gives no answer."""
    broken = UpstreamError(fate, f"upstream a fails: {fate.value}")
    return Says(waiting=[broken]) if fate.sent else Says(dialling=[broken])


def refuses(status: int, *headers: tuple[bytes, bytes], message: str = "no") -> Says:
    """An upstream that answers with an error."""
    body = json.dumps({"error": {"message": message, "type": "t"}}).encode()
    return Says(status, [body], [*headers])


def says(
    text: str = "sun moon",
    usage: Usage | None = USAGE,
    *,
    model: str = "m",
    wire: Wire = Wire.CHAT,
    counts: Mapping[str, object] | None = None,
    **more: Any,
) -> Says:
    """A whole answer; `counts` takes the usage's place, `more` goes beside it."""
    body = render_body(
        wire, Completion(text, finish="stop"), answer_id="a1", model=model, usage=usage, created_s=1
    )
    said = json.loads(body) | more
    if counts is not None:
        said["usage"] = counts
    return Says(200, [json.dumps(said).encode()])


def events(
    text: str = "sun moon", usage: Usage | None = USAGE, *, wire: Wire = Wire.CHAT, model: str = "m"
) -> list[bytes]:
    """The events of a stream, one by one."""
    whole = render_stream(
        wire,
        Completion(text, finish="stop"),
        answer_id="a1",
        model=model,
        usage=usage,
        created_s=1,
    )
    return [event + b"\n\n" for event in b"".join(whole).split(b"\n\n") if event]


def streams(*parts: Part) -> Says:
    """An answer that streams."""
    return Says(200, parts, [(b"content-type", b"text/event-stream")])


async def _happen(step: Exception | Step) -> None:
    if isinstance(step, Exception):
        raise step
    happened = step()
    if isinstance(happened, Awaitable):
        await happened


class ScriptedReply:
    """An answer by a script."""

    relay = None

    def __init__(self, said: Says) -> None:
        self.status, self.headers = said.status, list(said.headers)
        self._parts = said.parts
        self.cancelled = False

    def whole_body(self) -> None:
        return

    async def read(self) -> bytes:
        return b"".join([part async for part in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                await _happen(part)

    def cancel(self) -> None:
        self.cancelled = True


class ScriptedUpstream:
    """Treats the n-th call by the n-th part of its script, and the rest by the last."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self._notes = name, notes
        self.script: list[Says] = [says()]
        self.calls: list[UpstreamCall] = []
        self.replies: list[ScriptedReply] = []
        self.tried = 0

    async def send(
        self, call: UpstreamCall, sending: Callable[[], Awaitable[None] | None]
    ) -> ScriptedReply:
        said = self.script[min(self.tried, len(self.script) - 1)]
        self.tried += 1
        for step in said.dialling:
            await _happen(step)
        waited = sending()
        if waited is not None:
            await waited
        self._notes.append(f"sent {self.name}")
        self.calls.append(call)
        for step in said.waiting:
            await _happen(step)
        self.replies.append(ScriptedReply(said))
        return self.replies[-1]

    async def close(self) -> None:
        pass


class ScriptedJournal:
    """Keeps entries in a list. `refuses` are the numbers of those that the disk does not take.

    With `slow`, an entry is on disk only after a moment; `doubtful` numbers are then not confirmed,
    though they may be there.
    """

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self.entries: list[Entry] = []
        self.refuses: set[int] = set()
        self.doubtful: set[int] = set()
        self.slow = False
        self._asked = 0

    def append(self, entry: Entry) -> Awaitable[None] | None:
        number, self._asked = self._asked, self._asked + 1
        if number in self.refuses:
            raise StoreError("the disk is full; free some space")
        if self.slow:
            return asyncio.ensure_future(self._later(entry, number))
        self._write(entry)
        return None

    async def _later(self, entry: Entry, number: int) -> None:
        await asyncio.sleep(0)
        self._write(entry)
        if number in self.doubtful:
            raise StoreError("the disk does not confirm")

    def _write(self, entry: Entry) -> None:
        begins = isinstance(entry, Started)
        kind = "started" if begins else "ended"
        framed(Kind.STARTED if begins else Kind.ENDED, entry)  # what cannot be written must raise
        self._notes.append(f"{kind} {entry.attempt.attempt_id.removeprefix(EXCHANGE)}".strip())
        self.entries.append(entry)

    def close(self) -> None:
        pass

    @property
    def started(self) -> list[Started]:
        return [entry for entry in self.entries if isinstance(entry, Started)]

    @property
    def ended(self) -> list[Ended]:
        return [entry for entry in self.entries if isinstance(entry, Ended)]


class ScriptedDesk:
    """Gives a hold for every request; `denies` are the numbers of those that a quota refuses."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self.needs: list[Need] = []
        self.denies: dict[int, Denied] = {}
        self.waits = False
        self.open: dict[tuple[str, ...], Need] = {}
        self.settled: list[tuple[str, int, int]] = []

    def try_hold(self, key_id: str, tags: Tags, model: str, need: Need) -> Hold | None:
        if self.waits or len(self.needs) in self.denies:
            return None
        return self._give(need)

    async def hold(self, key_id: str, tags: Tags, model: str, need: Need) -> Hold | Denied:
        await asyncio.sleep(0)
        denied = self.denies.get(len(self.needs))
        if denied is not None:
            self.needs.append(need)
            return denied
        return self._give(need)

    def unreserved(self, key_id: str, tags: Tags, model: str) -> Hold:
        return self._give(Need(0, 0))

    def _give(self, need: Need) -> Hold:
        name = f"hold {len(self.needs)}"
        self.needs.append(need)
        self.open[name,] = need
        return Hold((name,), (need.cost_pico or 0,))

    def settle(self, hold: Hold, cost_pico: int, tokens: int) -> None:
        assert hold.counters in self.open, f"{hold} is settled twice, or was never given"
        del self.open[hold.counters]
        self._notes.append(f"settled {cost_pico}")
        self.settled.append((hold.counters[0], cost_pico, tokens))

    def release(self, hold: Hold) -> None:
        assert hold.counters in self.open, f"{hold} is freed twice, or was never given"
        del self.open[hold.counters]
        self._notes.append("released")


class Reader:
    """A caller: notes what it is given, and leaves when a script says so."""

    push = None

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._interrupts: asyncio.Task[Any] | None = None
        self.gone = False
        self.status = 0
        self.headers: Headers = []
        self.body = b""

    def interrupt(self, task: asyncio.Task[Any] | None) -> None:
        self._interrupts = task

    def leave(self) -> None:
        """Hang up, as a connection that is lost does."""
        self.gone = True
        if self._interrupts is not None:
            self._interrupts.cancel()

    async def ready(self) -> None:
        await asyncio.sleep(0)

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        self._took("whole", status, headers, body)

    async def begin(self, status: int, headers: Headers) -> None:
        self._took("begin", status, headers, b"")

    async def piece(self, chunk: bytes) -> None:
        self._took("piece", self.status, self.headers, chunk)

    async def end(self, chunk: bytes) -> None:
        self._took("end", self.status, self.headers, chunk)

    def _took(self, what: str, status: int, headers: Headers, chunk: bytes) -> None:
        self._notes.append(what)
        if not self.gone:
            self.status, self.headers, self.body = status, headers, self.body + chunk

    @property
    def told(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Words:
    """Counts words: an estimate that a test can work out in its head."""

    def count(self, text: str) -> int:
        return len(text.split())


@dataclass
class Watching:
    """Remembers what it is told."""

    seen: list[Done] = field(default_factory=list)

    def done(self, done: Done) -> None:
        self.seen.append(done)


class Stage:
    """A House of scripted parts: chat upstreams `a` and `b`, and `claude` that speaks Messages."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.journal = ScriptedJournal(self.notes)
        self.desk = ScriptedDesk(self.notes)
        self.watch = Watching()
        self.now = 50.0
        self.slept: list[float] = []
        upstreams = {name: Upstream(name, host="acme") for name in "ab"}
        upstreams["claude"] = Upstream("claude", wires=(Wire.MESSAGES,), host="acme")
        upstreams["lists"] = Upstream("lists", wires=(Wire.EMBEDDINGS,), host="acme")
        self.upstreams = {name: ScriptedUpstream(name, self.notes) for name in upstreams}
        self.a, self.b = self.upstreams["a"], self.upstreams["b"]
        self.house = House(
            catalogue=Catalogue(upstreams, {}),
            providers=self.upstreams,
            keeper=Keeper(self.journal),
            desk=self.desk,
            prices=PriceBook([PRICE, FREE, OTHER, FAST]),
            health=Health(),
            watch=self.watch,
            counter=Words(),
            now_us=lambda: NOW_US + round(self.now * 1e6),
            seconds=lambda: self.now,
            draw=lambda: 0.0,
            sleep=self._sleep,
            keep_body=lambda route, body: body.decode("utf-8", "replace"),
            cache=Cache(),
        )
        self.reader = Reader(self.notes)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    refusal = staticmethod(refuses)
    answer_of = staticmethod(says)
    failure = staticmethod(fails)
    stream_of = staticmethod(streams)
    events_of = staticmethod(events)

    nothing = Paid(0)

    def reader_leaves_unseen(self) -> None:
        """A step of a script: the caller hangs up where nobody may be interrupted."""
        self.reader.gone = True

    def pass_time(self, seconds: float) -> Step:
        """A step of a script that takes so long."""

        def passing() -> None:
            self.now += seconds

        return passing

    def change_upstream(self, name: str, **fields: Any) -> None:
        """Put other terms of an upstream in force."""
        known = dict(self.house.catalogue.upstreams)
        known[name] = replace(known[name], **fields)
        self.house.catalogue = replace(self.house.catalogue, upstreams=known)

    def add_route(self, route: Route) -> None:
        """Serve another route."""
        routes = {**self.house.catalogue.routes, route.name: route}
        self.house.catalogue = replace(self.house.catalogue, routes=routes)

    def asked(
        self,
        *deployments: str,
        wire: Wire = Wire.CHAT,
        body: Mapping[str, object] | None = None,
        key_id: str = "k1",
        tags: Tags = NOBODYS,
        caller_key: str = "",
        number: int = 0,
        **terms: Any,
    ) -> Asked:
        """A request for a route of these upstreams, `a` where none is named; `number` tells apart.

        `body` adds to a plain one; `terms` are the route's.
        """
        said: dict[str, object] = {
            "model": "m",
            "messages": [{"role": "user", "content": "hi you"}],
        }
        if wire is Wire.MESSAGES:
            said["max_tokens"] = 50
        content = json.dumps(said | dict(body or {})).encode()
        ask = peek(content, wire)
        fields: dict[str, Any] = {"max_attempts": 3, **terms}
        to = tuple(Deployment(name, ask.model) for name in deployments or ("a",))
        exchange = EXCHANGE if not number else f"{number:032x}"
        at_us = self.house.now_us()
        route = Route(ask.model, to, **fields)
        return Asked(exchange, at_us, self.now, ask, content, route, key_id, tags, (), caller_key)

    async def answer(self, asked: Asked) -> Done:
        """Answer it, and see that the story ended well."""
        done = await answer(self.house, asked, self.reader)
        assert self.watch.seen[-1] is done
        return done

    def new_reader(self) -> Reader:
        """Another caller takes the place of the last one."""
        self.reader = Reader(self.notes)
        return self.reader

    def leave(self) -> None:
        """A step of a script: the caller of now hangs up."""
        self.reader.leave()

    def check_books(self) -> None:
        """Every attempt began once and ended once, every exchange closed once, every hold too."""
        while self.house.keeper.blocked:
            pass
        check_books(self.journal.entries, self.desk)


def check_books(entries: Iterable[Entry], desk: ScriptedDesk) -> None:
    """What holds of any journal whose calls are all over; see `Stage.check_books`."""
    assert not desk.open, f"holds were never settled: {desk.open}"
    begun: dict[str, Started] = {}
    ended: dict[str, Ended] = {}
    closed: dict[str, str] = {}
    for entry in entries:
        attempt_id = entry.attempt.attempt_id
        if isinstance(entry, Started):
            assert begun.setdefault(attempt_id, entry) == entry, f"{attempt_id} began in two ways"
            continue
        assert attempt_id in begun, f"{attempt_id} ended before it began"
        again = ended.setdefault(attempt_id, entry)
        assert again._replace(last=entry.last) == entry, f"{attempt_id} ended in two ways"
        if entry.last:
            closer = closed.setdefault(entry.exchange_id, attempt_id)
            assert closer == attempt_id, f"{entry.exchange_id} is closed by two calls"
    assert begun.keys() == ended.keys(), "a call that began has not ended"
    left = {entry.exchange_id for entry in ended.values()} - closed.keys()
    story = [(entry.fate, entry.last) for entry in ended.values() if entry.exchange_id in left]
    assert not left, f"an exchange is open: {story}"
    costs = sum(
        charge.billed.pico
        for entry in ended.values()
        for charge in entry.charges
        if charge.billed is not None
    )
    assert sum(cost for _, cost, _ in desk.settled) == costs


class ScriptedStudents:
    """Says the same of every text; None for one that is late. Remembers whom it was asked about."""

    def __init__(self) -> None:
        self.says: Answered | None = Answered(Prediction("cards", 0.97))
        self.asked: list[tuple[str, str, bool]] = []

    async def ask(
        self, student: str, text: str, deadline_seconds: float, *, odds: bool = False
    ) -> Answered | None:
        self.asked.append((student, text, odds))
        await asyncio.sleep(0)
        return self.says

    async def ask_many(self, student: str, texts: Sequence[str]) -> list[Answered] | None:
        raise AssertionError("live requests are asked about one by one")


TASK = "desk"
ANSWERS = {"cards": "Cards", "loans": "Loans"}
SORT = "Sort the mail.\n- cards\n- loans"
CONTENT = [{"role": "system", "content": SORT}, {"role": "user", "content": "My card is gone."}]


class Employed:
    """A student at work on a stage: its task is that of requests tagged `desk`.

    `charter`, `standing` and `terms` may be changed before each request.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.students = ScriptedStudents()
        self.recogniser = Recogniser({}, {TASK: []}, [])
        self.charter = Charter(
            TASK, 3, "d" * 32, "lexical", AnswerShape.LABELS, ANSWERS, (0.9,), 100, Target(), 0.05,
            "r", (), ("m",), ("m",), InputRange(100, ("latin",)),
        )  # fmt: skip
        self.standing = Standing(TASK, 3, Mode.SERVING, 0.9)
        self.terms = Terms(shadow_share=0.5)
        self.hire()

    def hire(self) -> Staff:
        """Put the student to work as things stand now."""
        if not self.charter.prompts:
            self.learn(self.asked())
        serving = Serving(self.charter, self.standing, self.terms)
        known = [(self.recogniser, frozenset((TASK,)))]
        staff = Staff({TASK: serving}, known, self.students, read_request, b"coin", b"canary")
        self.stage.house.staff = staff
        return staff

    def learn(self, asked: Asked) -> None:
        """Let the charter know the prompt of a request."""
        found = self.recogniser.find(read_request(asked.body, asked.ask.wire), TASK)
        assert found is not None
        prompts = (*self.charter.prompts, found.prompt)
        self.charter = replace(self.charter, prompts=prompts)

    def asked(self, *deployments: str, **facts: Any) -> Asked:
        """A request of the task."""
        body = {"messages": CONTENT, **facts.pop("body", {})}
        facts.setdefault("tags", Tags(task=TASK))
        return self.stage.asked(*deployments, body=body, **facts)

    async def answer(self, asked: Asked) -> Done:
        """Answer as things stand now."""
        self.hire()
        return await self.stage.answer(asked)


@pytest.fixture
def employed(stage: Stage) -> Employed:
    """A student at work on the stage."""
    return Employed(stage)


@pytest.fixture(scope="session")
def make_employed() -> Callable[[], Employed]:
    """Makes students at work on stages of their own."""
    return lambda: Employed(Stage())


@pytest.fixture
def stage() -> Stage:
    """An empty stage."""
    return Stage()


@pytest.fixture(scope="session")
def make_stage() -> type[Stage]:
    """Makes empty stages, for tests that need several."""
    return Stage
