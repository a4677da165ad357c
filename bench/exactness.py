"""Exactness under load and death: every attempt in the books once, at its price to the last digit.

    python bench/exactness.py [--requests 20000] [--kills 5] [--seed 1] [--keep DIR]
                              [--postgres DSN]

`stillhouse serve` with two workers stands before `stillhouse.testing.faulty`. Requests of three
dialects, half of them streams, come 64 at a time; a tenth of them meet a fault (every kind of the
upstream's, and places that refuse, time out, have no name or no TLS), some callers leave at a
random moment, a quarter draws on budgets, some are hedged. The endpoint is killed (SIGKILL) so many
times at random moments, with all of its processes, and started again; in between single workers and
the folder are killed. For a third of the requests the books cannot be written: SQLite by an
exclusive lock, PostgreSQL (`--postgres`, a server where a database of its own may be made) by
cutting all connections off.

Afterwards the books are laid beside the upstream's own list of attempts, and every cost is worked
out anew: integers, no code of the ledger. Counts come from the upstream's list where it gave them
to the endpoint; else by the documented rule, for which the journal says what was heard. Rows that
claim to be sent and were not seen are intents: the process died, or the connection was closed at
the other end, before the first byte was read. They are counted, and graded `estimated`.

Exit code 0 where everything is exact. The tokenizer is the package's own: it is no part of the
ledger, and both sides must count alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from stillhouse.providers.tokens import ShapeCounter
from stillhouse.store.journal_frames import MAGIC, Kind, decoded, frames
from stillhouse.store.opening import existing_store
from stillhouse.testing.faults import FAULTS
from stillhouse.wiring.books import access_of

AT_ONCE = 64
LEAVING, FAULTY, RED = 0.10, 0.10, 0.25
"""Shares of the requests: whose caller leaves, that meet a fault, that draw on budgets."""

EVENT_MS = 12.0
WORDS = ("why", "does", "the", "Rain", "in", "May", "follow", "17", "dry", "days?")
WIRES = ("chat", "messages", "responses")
PATHS = {"chat": "/chat/completions", "messages": "/messages", "responses": "/responses"}

PICO_PER_MTOK = {
    "input_tokens": 123_456_700_000,
    "cache_read_tokens": 12_345_700_000,
    "output_tokens": 765_432_100_000,
    "reasoning_tokens": 765_432_100_000,
}
"""Odd on purpose: nearly every charge has to be rounded."""

PRICES = """
- provider: faulty
  model: faulty-1
  names: ["faulty-*"]
  usd_per_mtok: {input: 0.1234567, cache_read: 0.0123457, output: 0.7654321}
"""
MODELS = ("r0", "r1", "r2", "r3", "mystery", "hedged")
NEVER_SENT = ("refused", "dns", "tls", "connect_timeout", "withdrawn")
UNREACHED = ("refused", "dns", "tls", "deaf")
HASTY = ("hang", "hang-midway", "garbage", "garbage-chunk")
SHUT = tuple(f for f in FAULTS if f[:3] in ("401", "403", "429") or f.endswith("retry-after"))
"""Faults that close a breaker's door: these have upstreams of their own."""

MARKED = tuple(f for f in FAULTS if f not in (*HASTY, *SHUT, "large"))
"""Faults that a prompt may ask for on any route."""


class Plan(NamedTuple):
    """One request, decided before it is sent."""

    wire: str
    stream: bool
    model: str
    prompt: str
    red: bool
    leaves_after: float | None


def planned(number: int, seed: int) -> Plan:
    """The same request for the same number and seed."""
    draw = random.Random(f"{seed}/{number}")
    words = " ".join(draw.choices(WORDS, k=9))
    prompt, model = f"{number}: {words}", draw.choice(MODELS)
    if model == "hedged" and draw.random() < 0.3:
        prompt += " [fault-slow]"  # late enough to be asked elsewhere as well
    if draw.random() < FAULTY:
        kind = draw.choice(("mark", "mark", "mark", "place", "hasty", "shut", "large"))
        if kind == "mark":
            first = draw.choice(("", "-first"))
            prompt += f" [fault-{draw.choice(MARKED)}{first}]"
        elif kind == "large" and draw.random() < 0.1:
            prompt += " [fault-large]"
        elif kind == "place":
            model = draw.choice(UNREACHED)
        elif kind == "hasty":
            model, prompt = "hasty", f"{prompt} [fault-{draw.choice(HASTY)}]"
        elif kind == "shut":
            fault = draw.choice(SHUT)
            model, prompt = f"shut-{fault[:3]}", f"{prompt} [fault-{fault}]"
    leaves = draw.uniform(0.0, 0.25) if draw.random() < LEAVING else None
    wire = draw.choices(WIRES, (6, 3, 2))[0]
    return Plan(wire, draw.random() < 0.5, model, prompt, draw.random() < RED, leaves)


def body_of(plan: Plan) -> bytes:
    said: dict[str, Any] = {"model": plan.model, "stream": plan.stream}
    if plan.wire == "responses":
        said["input"] = plan.prompt
    else:
        said["messages"] = [{"role": "user", "content": plan.prompt}]
    if plan.wire == "messages":
        said["max_tokens"] = 300
    return json.dumps(said).encode()


def prompt_in(asked: str) -> str:
    """The prompt in a body that `body_of` made."""
    said = json.loads(asked)
    return str(said["input"] if "input" in said else said["messages"][0]["content"])


def toml_of(folder: Path, port: int, faulty: int, deaf: int, database: str) -> str:
    """The configuration of the endpoint."""
    good = f"http://127.0.0.1:{faulty}/v1"
    parts = [
        f'[server]\nport = {port}\nworkers = 2\ndrain_seconds = 20\n[logging]\nlevel = "none"\n'
        f'[books]\ndatabase = "{database}"\nprices = "{folder}/prices.yaml"\n'
        f'[journal]\nfolder = "{folder}/journal"\nkeep_days = 1\nsegment_bytes = "2 MiB"\n'
        '[[budgets]]\nteam = "red"\nusd = "100000"\nper = "total"\n'
        '[[budgets]]\nteam = "red"\nrequests = 100000000\ntokens = 100000000000\nper = "month"\n'
    ]

    def place(
        name: str, url: str, model: str = "faulty-1", more: str = "", times: str = ""
    ) -> None:
        parts.append(
            f'[upstreams."u-{name}"]\nbase_url = "{url}"\nallow_private = true\nhost = "faulty"\n'
            f'wires = ["chat", "messages", "responses"]\n{times}'
            f'[models."{name}"]\nupstream = "u-{name}"\nmodel = "{model}"\nretries = 1\n{more}'
        )

    for at in range(4):
        drain = 'on_disconnect = "drain"\n' if at % 2 else ""
        backed = 'fallbacks = ["r0"]\n' if at == 3 else ""
        place(f"r{at}", good, f"faulty-{at}", drain + backed)
    parts.append(
        '[models.hedged]\ndeployments = ["u-r0/faulty-0", "u-r2/faulty-2"]\nretries = 1\n'
        "hedge_after_seconds = 0.03\n"
    )
    place("mystery", good, "mystery-1", "allow_unpriced = true\n")
    place("hasty", good, times="first_byte_seconds = 0.6\ntotal_seconds = 0.9\n")
    for status in sorted({fault[:3] for fault in SHUT}):
        place(f"shut-{status}", good)
    closed = free_port()
    place("refused", f"http://127.0.0.1:{closed}/v1", more='fallbacks = ["r1"]\n')
    place("dns", "http://no-such-host.invalid:9/v1")
    place("tls", f"https://127.0.0.1:{faulty}/v1", more='fallbacks = ["r2"]\n')
    place("deaf", f"http://127.0.0.1:{deaf}/v1", times="connect_seconds = 0.3\n")
    return "".join(parts)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def deaf_port() -> Any:
    """A port whose queue is full: connecting to it takes for ever."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# The database, and how it is put out of reach.


class SqliteBooks:
    """A file that somebody else holds an exclusive lock on."""

    def __init__(self, folder: Path) -> None:
        self.place = str(folder / "books.db")
        self._lock: sqlite3.Connection | None = None

    def begin_outage(self) -> None:
        self._lock = sqlite3.connect(self.place, timeout=30, isolation_level=None)
        self._lock.execute("BEGIN EXCLUSIVE")

    def end_outage(self) -> None:
        if self._lock is not None:
            self._lock.execute("ROLLBACK")
            self._lock.close()

    def close(self) -> None:
        """Nothing is left over but the folder."""


class PostgresBooks:
    """A database of its own on a server, that takes no connection for a while."""

    def __init__(self, server: str) -> None:
        import psycopg

        self._admin = psycopg.connect(server, autocommit=True)
        self._name = f"exactness_{os.getpid()}"
        self._admin.execute(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)")
        self._admin.execute(f"CREATE DATABASE {self._name}")
        head, _, old = server.rpartition("/")
        self.place = f"{head}/{self._name}" + (f"?{old.partition('?')[2]}" if "?" in old else "")

    def begin_outage(self) -> None:
        self._admin.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
        self._admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (self._name,),
        )

    def end_outage(self) -> None:
        self._admin.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")

    def close(self) -> None:
        self._admin.execute(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)")
        self._admin.close()


Books = SqliteBooks | PostgresBooks


# The endpoint, and how it dies.


class Endpoint:
    """`stillhouse serve` in a process group of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self.port = folder, port
        self.deaths: Counter[str] = Counter()
        self._process: subprocess.Popen[bytes] | None = None
        self._said = (folder / "endpoint.log").open("ab")

    def start(self) -> None:
        words = [sys.executable, "-m", "stillhouse", "serve", "--config", "stillhouse.toml"]
        self._process = subprocess.Popen(
            words, cwd=self._folder, stdout=self._said, stderr=self._said, start_new_session=True
        )

    def ready(self) -> None:
        """Wait until callers are answered."""
        wait_for(f"http://127.0.0.1:{self.port}/readyz")

    def kill_all(self) -> None:
        """Supervisor, workers and folder at once; the next one starts."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.deaths["all processes"] += 1
        self.start()

    def kill_one(self, kind: str) -> bool:
        """One worker, or the folder: the supervisor starts another. False while there is none."""
        assert self._process is not None
        pid = self._process.pid
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
            for child in random.Random(pid).sample(children, len(children)):
                if f"gateway.{kind}".encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
                    self.deaths[f"one {kind}"] += 1
                    return True
        return False

    def end(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(90)
        self._said.close()
        return code

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


# The callers.


@dataclass
class Load:
    """What the callers met: statuses, those cut off by a death, those that left."""

    total: int
    seed: int
    port: int
    begun: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    left: int = 0
    cut: int = 0
    waited: int = 0
    outage_began: float = 0.0
    outage_seconds: float = 0.0

    async def run(self) -> None:
        numbers = iter(range(self.total))
        await asyncio.gather(*(self._callers(numbers) for _ in range(AT_ONCE)))

    async def _callers(self, numbers: Any) -> None:
        for number in numbers:
            self.begun += 1
            plan = planned(number, self.seed)
            while (line := await self._line()) is None:
                self.waited += 1
                await asyncio.sleep(0.05)
            await self._call(plan, *line)

    async def _line(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        with suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", self.port)
        return None

    async def _call(
        self, plan: Plan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        body = body_of(plan)
        team = "x-stillhouse-team: red\r\n" if plan.red else ""
        writer.write(
            f"POST /v1{PATHS[plan.wire]} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{team}"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        try:
            async with asyncio.timeout(plan.leaves_after):
                said = await reader.read(-1)
            self._hear(said)
        except TimeoutError:
            self.left += 1
        except OSError:
            self.cut += 1
        finally:
            writer.transport.abort()

    def _hear(self, said: bytes) -> None:
        head, _, rest = said.partition(b"\r\n\r\n")
        chunked = b"transfer-encoding: chunked" in head.lower()
        if not rest or (chunked and not rest.endswith(b"0\r\n\r\n")):
            self.cut += 1
        else:
            self.statuses[int(head.split()[1])] += 1


async def disturb(load: Load, endpoint: Endpoint, books: Books, kills: int) -> None:
    """Kill at random moments, and put the books out of reach from the first third to the second."""
    draw = random.Random(load.seed)
    outage = (load.total / 3, 2 * load.total / 3)
    moments = [(outage[0], "outage begins"), (outage[1], "outage ends")]
    for kind, times in (("all", kills), ("worker", max(1, kills // 2)), ("folder", 1)):
        for _ in range(times):
            moments.append((draw.uniform(0.03, 0.97) * load.total, kind))
    for at, what in sorted(moments):
        while load.begun < at:
            await asyncio.sleep(0.005)
        await asyncio.sleep(draw.uniform(0.0, 0.1))
        if what == "outage begins":
            load.outage_began = time.monotonic()
            await asyncio.to_thread(books.begin_outage)
        elif what == "outage ends":
            await asyncio.to_thread(books.end_outage)
            load.outage_seconds = time.monotonic() - load.outage_began
        elif what == "all":
            await asyncio.to_thread(endpoint.kill_all)
        else:
            await asyncio.to_thread(endpoint.ready)
            while not endpoint.kill_one(what):
                await asyncio.sleep(0.02)


# What ought to be in the books, worked out by hand.


@dataclass
class Told:
    """What the journal says of one attempt."""

    started: Any = None
    ended: Any = None
    asked: str = ""


def journal_of(folder: Path) -> dict[str, Told]:
    """Every attempt that a journal speaks of, whole frames alone."""
    told: dict[str, Told] = {}
    asked: dict[str, str] = {}
    for path in sorted([*folder.glob("*.folded"), *folder.glob("*.damaged")]):
        for frame in frames(path.read_bytes()[len(MAGIC) :], len(MAGIC)):
            if frame.kind not in (Kind.STARTED, Kind.ENDED):
                continue
            entry: Any = decoded(frame)
            one = told.setdefault(entry.attempt.attempt_id, Told())
            if frame.kind == Kind.STARTED:
                one.started = entry
                asked[entry.exchange_id] = asked.get(entry.exchange_id) or entry.asked
            else:
                one.ended = one.ended or entry
    for attempt_id, one in told.items():
        one.asked = asked.get(attempt_id[:32], "")
    return told


def costs(used: dict[str, int]) -> int:
    """Each count at its price, rounded half to even by itself, in pico-dollars."""
    return sum(round(Fraction(n * PICO_PER_MTOK[leaf], 10**6)) for leaf, n in used.items())


class Due(NamedTuple):
    """What an attempt ought to be booked as; `tokens` are all of its counts together."""

    rule: str
    cost: int
    tokens: int


_COUNT = ShapeCounter().count


def due(one: Told, seen: dict[str, Any] | None) -> Due:
    """Counts as the upstream gave them; else the documented rule, by what the journal heard."""
    ended = one.ended
    fate = "interrupted" if ended is None else str(ended.fate)
    if fate in NEVER_SENT:
        return Due("never left", 0, 0)
    if fate == "status" and ended.status < 500:
        return Due("refused with a 4xx", 0, 0)
    stream = ended is not None and ended.streamed
    events = events_of(ended.answer) if stream else []
    starts = [event["message"] for event in events if event.get("type") == "message_start"]
    begun = [message["usage"] for message in starts if "usage" in message]
    counted = any(event.get("type") == "message_delta" for event in events)
    if ended is not None and ended.usage_body and seen is not None and seen["counted"]:
        if not begun or counted:
            return _priced("reported", seen["usage"])
        used = {
            "input_tokens": begun[0]["input_tokens"],
            "cache_read_tokens": begun[0]["cache_read_input_tokens"],
            "output_tokens": max(begun[0]["output_tokens"], _COUNT(text_of(events))),
        }
        return _priced("begun to be counted", used)
    used = {"input_tokens": -(-one.started.asked_bytes // 4)}  # died before it noted the request
    if one.asked:
        used["input_tokens"] = _COUNT(prompt_in(one.asked))
    if ended is not None and stream:
        used["output_tokens"] = _COUNT(text_of(events))
        return _priced("text of a stream", used)
    if fate in ("ok", "outrun") and ended.answer:
        used["output_tokens"] = _COUNT(text_of([json.loads(ended.answer)]))
        return _priced("text of an answer", used)
    used["output_tokens"] = one.started.expected_output_tokens
    return _priced("interrupted" if ended is None else "unheard", used)


def _priced(rule: str, used: dict[str, int]) -> Due:
    return Due(rule, costs(used), sum(used.values()))


def events_of(stream: str) -> list[dict[str, Any]]:
    """The JSON objects of a stream's whole lines; a cut or broken one is passed over."""
    found = []
    for line in stream.split("\n"):
        if line.startswith("data: {"):
            with suppress(ValueError):
                found.append(json.loads(line[6:]))
    return found


def text_of(said: list[dict[str, Any]]) -> str:
    """The text of an answer in events, or in one body: chat, Messages and Responses."""
    text = []
    for event in said:
        for choice in event.get("choices", ()):
            text.append(choice.get("delta", choice.get("message", {})).get("content") or "")
        delta = event.get("delta")
        if isinstance(delta, str):
            text.append(delta)
        elif isinstance(delta, dict):
            text.append(delta.get("text", ""))
        for block in event.get("content") or ():
            text.append(block.get("text", ""))
        for item in event.get("output") or ():
            text += [part.get("text", "") for part in item.get("content", ())]
    return "".join(text)


# The comparison.


class Line(NamedTuple):
    """A line of the table: what was compared, both sides, and whether they agree."""

    what: str
    found: object
    wanted: object
    exact: bool


def compare(
    folder: Path, database: str, seen_list: list[dict[str, Any]]
) -> tuple[list[Line], dict[str, Counter[str]]]:
    """Lay the books beside the upstream's list and the costs worked out by hand."""
    told = journal_of(folder / "journal")
    seen = {call["attempt"]: call for call in seen_list}
    with existing_store(database) as store:
        booked = list(store.booked())
        strays = list(store.strays())
    rows = Counter(one.attempt.attempt_id for one in booked)
    by_id = {one.attempt.attempt_id: one for one in booked}
    sent = {i for i, one in by_id.items() if one.fate not in NEVER_SENT}
    intents = Counter(by_id[i].fate for i in sent - seen.keys())
    ungraded = [i for i in sent - seen.keys() if by_id[i].attempt.evidence != "estimated"]
    priced, by_hand, wrong = 0, 0, list[str]()
    rules: Counter[str] = Counter()
    red: Counter[str] = Counter()
    for attempt_id, one in by_id.items():
        if attempt_id not in told or told[attempt_id].started is None:
            wrong.append(attempt_id)  # bought before it was written down
            continue
        owed = due(told[attempt_id], seen.get(attempt_id))
        billed = [charge.billed for charge in one.charges]
        mystery = one.attempt.model == "mystery-1" and owed.cost > 0
        rules["unpriced" if mystery else owed.rule] += 1
        cost = sum(bill.pico for bill in billed if bill is not None)
        if cost != (0 if mystery else owed.cost) or mystery != (None in billed):
            wrong.append(attempt_id)
        priced += cost
        by_hand += 0 if mystery else owed.cost
        if told[attempt_id].started.claims:
            red.update(cost=cost, tokens=owed.tokens, requests=1)
    lines = [
        Line("attempts seen upstream, in the books", len(seen.keys() & rows.keys()), len(seen),
             seen.keys() <= rows.keys() and len(seen) == len(seen_list)),
        Line("rows in the books, attempts of the journal", len(booked), len(told),
             rows.keys() == told.keys()),
        Line("rows that stand twice", sum(n - 1 for n in rows.values()), 0,
             len(rows) == len(booked)),
        Line("rows that hang on nothing", len(strays), 0, not strays),
        Line("rows sent and not seen: process died", intents["interrupted"], "counted",
             not ungraded),
        Line("rows sent and not seen: connection closed", intents["dropped"], "counted",
             not ungraded),
        Line("rows sent and not seen: otherwise",
             sum(intents.values()) - intents["interrupted"] - intents["dropped"], 0,
             set(intents) <= {"interrupted", "dropped"}),
        Line("rows with another cost than by hand", len(wrong), 0, not wrong),
        Line("sum of cost, pico-USD", f"{priced:,}", f"{by_hand:,}", priced == by_hand),
        *spent(database, red),
        Line("segments that are not folded", len(list(folder.glob("journal/*.journal"))), 0,
             not list(folder.glob("journal/*.journal"))),
    ]  # fmt: skip
    fates = Counter(one.fate for one in booked)
    if wrong:
        (folder / "wrong.txt").write_text("\n".join(wrong), "utf-8")
    return lines, {"rules": rules, "fates": fates}


def spent(database: str, red: Counter[str]) -> list[Line]:
    """The counters of the budgets beside what was booked on them."""
    with access_of(database) as access:
        counters = access.counters()
        alive = access.workers()
    lines = []
    for unit in ("cost", "tokens", "requests"):
        found = [s for name, s in counters.items() if f":{unit}:" in name]
        counted = sum(standing.spent for standing in found)
        lines.append(
            Line(f"budget: {unit} spent", f"{counted:,}", f"{red[unit]:,}", counted == red[unit])
        )
    leased = sum(standing.leased for standing in counters.values())
    lines.append(Line("budget: still leased, workers", (leased, len(alive)), (0, 0), not leased))
    return lines


# The run.


def caught_up(folder: Path, seconds: float) -> bool:
    """Wait until the folder has nothing left to do."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            status = json.loads((folder / "journal" / "fold.json").read_bytes())
            if not status["error"] and not status["lag_bytes"] and not status["open"]:
                return True
        time.sleep(0.2)
    return False


def wait_for(url: str, seconds: float = 60.0) -> bytes:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                content: bytes = answer.read()
                return content
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def only_unexpected(loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
    """Connections that a death has cut are no news."""
    if not isinstance(about.get("exception"), ConnectionError):
        loop.default_exception_handler(about)


def main() -> int:
    asks = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asks.add_argument("--requests", type=int, default=20_000)
    asks.add_argument("--kills", type=int, default=5, help="of all processes; single ones beside")
    asks.add_argument("--postgres", default="", help="DSN of a server where a database is made")
    asks.add_argument("--seed", type=int, default=1)
    asks.add_argument(
        "--keep", type=Path, default=None, help="an empty folder to work in; all is left there"
    )
    said = asks.parse_args()
    with ExitStack() as stack:
        folder = said.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            asks.error(f"{folder} is not empty; name a new folder")
        return run(folder, said, stack)


def run(folder: Path, said: argparse.Namespace, stack: ExitStack) -> int:
    books: Books = PostgresBooks(said.postgres) if said.postgres else SqliteBooks(folder)
    stack.callback(books.close)
    faulty, port = free_port(), free_port()
    words = ["--port", str(faulty), "--event-ms", str(EVENT_MS)]
    upstream = subprocess.Popen(
        [sys.executable, "-m", "stillhouse.testing.faulty", *words], stdout=subprocess.DEVNULL
    )
    stack.callback(upstream.wait)
    stack.callback(upstream.kill)
    deaf = stack.enter_context(deaf_port())
    (folder / "prices.yaml").write_text(PRICES, "utf-8")
    toml = toml_of(folder, port, faulty, deaf, books.place)
    (folder / "stillhouse.toml").write_text(toml, "utf-8")
    endpoint = Endpoint(folder, port)
    stack.callback(endpoint.close)
    endpoint.start()
    endpoint.ready()
    wait_for(f"http://127.0.0.1:{faulty}/__seen")
    load = Load(said.requests, said.seed, port)

    async def both() -> None:
        asyncio.get_running_loop().set_exception_handler(only_unexpected)
        await asyncio.gather(load.run(), disturb(load, endpoint, books, said.kills))

    began = time.monotonic()
    uvloop.run(both())
    seconds = time.monotonic() - began
    endpoint.ready()
    prompt = caught_up(folder, 120)
    code = endpoint.end()
    seen = json.loads(wait_for(f"http://127.0.0.1:{faulty}/__seen"))
    lines, counts = compare(folder, books.place, seen)
    audit = subprocess.run(
        [sys.executable, "-m", "stillhouse", "--db", books.place, "ledger", "verify"],
        capture_output=True,
        text=True,
        check=False,
    )
    verdict = (audit.stdout or audit.stderr).strip().rpartition(": ")[2]
    lines.append(Line("ledger verify", verdict, "the books hold", audit.returncode == 0))
    lines.append(
        Line("folder caught up, exit code", (prompt, code), (True, 0), prompt and not code)
    )
    show(said, load, endpoint, counts, lines, seconds)
    return 0 if all(line.exact for line in lines) else 1


def show(
    said: argparse.Namespace,
    load: Load,
    endpoint: Endpoint,
    counts: dict[str, Counter[str]],
    lines: list[Line],
    seconds: float,
) -> None:
    """Print what was done, and the table."""
    deaths = ", ".join(f"{kind} x{n}" for kind, n in endpoint.deaths.items())
    statuses = ", ".join(f"{status}: {n:,}" for status, n in sorted(load.statuses.items()))
    out = [
        f"{said.requests:,} requests in {seconds:.0f} s on "
        f"{'PostgreSQL' if said.postgres else 'SQLite'}, seed {said.seed}",
        f"killed: {deaths}; books out of reach for {load.outage_seconds:.1f} s",
        f"answers: {statuses}; left {load.left:,}, cut off by a death {load.cut:,}",
        *(f"{name}: " + ", ".join(f"{k} {n:,}" for k, n in counts[name].most_common())
          for name in ("fates", "rules")),
        "",
        f"{'':46} {'found':>26} {'wanted':>26}",
        *(f"{line.what:46} {line.found!s:>26} {line.wanted!s:>26}"
          f"  {'exact' if line.exact else 'WRONG'}" for line in lines),
    ]  # fmt: skip
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    sys.exit(main())
