"""Whether idle streams starve others: load beside 1,000 callers that hang on, and the memory of it.

    python bench/idle_streams.py [--idle 1000] [--seconds 5] [--callers 8] [--event-seconds 5]

`stillhouse serve` with one worker, virtual key and full journal stands before two upstreams
(`stillhouse.testing.faulty`): one answers at once, the other lets `--event-seconds` pass between
the events of a stream. The same load of short calls, `--callers` at a time, is put on the endpoint

  alone     with nobody else there,
  dripping  beside `--idle` callers whose streams give an event now and then,
  deaf      beside `--idle` callers that ask for ten megabytes each and read none of them,
  after     once they have left.

Latency is that of the load in milliseconds, memory the resident set of the worker in MB. The deaf
are cut off after `--write-seconds`, so they are measured before that; the last line says how all
calls were booked. Python clients, one machine: compare lines with each other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import uvloop

from stillhouse.store.opening import existing_store

CONFIG = """
[server]
port = 0
write_seconds = {write_seconds}

[journal]
folder = "{folder}/journal"

[logging]
level = "none"

[books]
database = "{folder}/books.db"

[upstreams.quick]
base_url = "http://127.0.0.1:{quick}/v1"
host = "openai"
allow_private = true

[upstreams.slow]
base_url = "http://127.0.0.1:{slow}/v1"
host = "openai"
allow_private = true
max_concurrency = 100000

[upstreams.large]
base_url = "http://127.0.0.1:{quick}/v1"
host = "openai"
allow_private = true
max_concurrency = 100000

[models.quick]
deployments = [{{ upstream = "quick", model = "gpt-4o-mini" }}]

[models.slow]
deployments = [{{ upstream = "slow", model = "gpt-4o-mini" }}]

[models.large]
deployments = [{{ upstream = "large", model = "gpt-4o-mini" }}]
"""


class Measured(NamedTuple):
    """One line of the table."""

    name: str
    idle: int
    latencies: list[float]
    seconds: float
    memory_mb: float

    def at(self, share: float) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * share)] * 1000

    def line(self) -> str:
        rate = len(self.latencies) / self.seconds
        worst = max(self.latencies) * 1000
        return (
            f"{self.name:<10} {self.idle:>6} {rate:>9.0f} {self.at(0.5):>8.2f} "
            f"{self.at(0.99):>8.2f} {worst:>8.2f} {self.memory_mb:>10.1f}"
        )


def request(key: str, model: str, *, stream: bool = False, words: str = "hello") -> bytes:
    """A call as it goes over the wire."""
    turns = [{"role": "user", "content": words}]
    body = json.dumps({"model": model, "messages": turns, "stream": stream, "max_tokens": 40})
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: bytes) -> float:
    """Seconds that one short call took; anything but 200 ends the bench."""
    began = time.perf_counter()
    writer.write(asked)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    if not head.startswith(b"HTTP/1.1 200") or length is None:
        raise SystemExit(f"the endpoint answered {head[:200]!r}")
    await reader.readexactly(int(length[1]))
    return time.perf_counter() - began


async def load(port: int, key: str, callers: int, seconds: float) -> list[float]:
    """Latencies of short calls, each caller with the next one as soon as the last is answered."""
    until, found = time.perf_counter() + seconds, list[float]()
    asked = request(key, "quick")

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            found.append(await call(reader, writer, asked))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(callers)))
    return found


class Hanging(asyncio.Protocol):
    """A caller that has asked for a stream; `deaf` ones read nothing after its first bytes."""

    def __init__(self, asked: bytes, *, deaf: bool) -> None:
        self._asked, self._deaf = asked, deaf
        self.begun, self.lost = asyncio.Event(), False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        if not self.begun.is_set() and not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the endpoint answered {data[:200]!r}")
        self.begun.set()
        if self._deaf and self.transport is not None:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


async def hang(port: int, asked: bytes, count: int, *, deaf: bool) -> list[Hanging]:
    """So many callers that hang on, each with the beginning of its stream."""
    loop, callers = asyncio.get_running_loop(), list[Hanging]()
    for _ in range(count):
        callers.append(Hanging(asked, deaf=deaf))
        await loop.create_connection(lambda: callers[-1], "127.0.0.1", port)
    await asyncio.gather(*(asyncio.wait_for(one.begun.wait(), 60) for one in callers))
    return callers


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def worker_of(pid: int) -> int:
    """The process of an endpoint that answers callers."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if "stillhouse.gateway.worker" in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
    raise SystemExit("the endpoint has no worker")


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A program that says its port in its first line."""
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def port_of(process: subprocess.Popen[str]) -> int:
    """The port that a program says it listens on."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"127\.0\.0\.1:(\d+)", line)
    if found is None:
        raise SystemExit(f"it did not start: {line}")
    return int(found[1])


async def measure(port: int, key: str, worker: int, args: argparse.Namespace) -> None:
    """Print the table line by line."""

    async def take(name: str, idle: int) -> None:
        found = await load(port, key, args.callers, args.seconds)
        print(Measured(name, idle, found, args.seconds, memory_mb(worker)).line(), flush=True)

    await load(port, key, args.callers, 1.0)
    print(
        f"{'':<10} {'idle':>6} {'calls/s':>9} {'p50':>8} {'p99':>8} {'worst':>8} {'memory MB':>10}"
    )
    await take("alone", 0)
    dripping = await hang(port, request(key, "slow", stream=True), args.idle, deaf=False)
    await take("dripping", args.idle)
    lost = sum(one.lost for one in dripping)
    leave(dripping)
    large = request(key, "large", stream=True, words="[fault-large]")
    deaf = await hang(port, large, args.idle, deaf=True)
    await take("deaf", args.idle)
    early = sum(one.lost for one in deaf)
    await asyncio.sleep(max(0.0, args.write_seconds - args.seconds) + 2)
    leave(deaf)
    await asyncio.sleep(1)
    await take("after", 0)
    print(f"of the dripping {lost} were lost, of the deaf {early} before their time")


def leave(callers: list[Hanging]) -> None:
    """Hang up, all of them."""
    for one in callers:
        if one.transport is not None:
            one.transport.abort()


def booked(database: Path) -> Counter[str]:
    """How the calls ended, as the books have it."""
    with existing_store(str(database)) as store:
        return Counter(str(row.fate) for row in store.booked())


def main() -> None:
    """Start the programs, measure, end them."""
    asks = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asks.add_argument("--idle", type=int, default=1000)
    asks.add_argument("--seconds", type=float, default=5.0)
    asks.add_argument("--callers", type=int, default=8)
    asks.add_argument("--event-seconds", type=float, default=5.0)
    asks.add_argument("--write-seconds", type=float, default=30.0)
    args = asks.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3 * args.idle:
        raise SystemExit(f"only {hard} files may be open; {3 * args.idle} are needed (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        faulty = "stillhouse.testing.faulty"
        slow = stack.enter_context(
            running(faulty, "--port", "0", "--event-ms", str(args.event_seconds * 1000))
        )
        quick = stack.enter_context(running(faulty, "--port", "0"))
        ports = {"slow": port_of(slow), "quick": port_of(quick)}
        config = folder / "stillhouse.toml"
        config.write_text(CONFIG.format(folder=folder, write_seconds=args.write_seconds, **ports))
        made = subprocess.run(
            [sys.executable, "-m", "stillhouse", "--db", str(folder / "books.db"), "keys", "create",
             "bench", "--config", str(config)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        key = re.search(r"sh-\S+", made.stdout)
        assert key is not None
        with running("stillhouse", "serve", "--config", str(config)) as endpoint:
            port = port_of(endpoint)
            uvloop.run(measure(port, key[0], worker_of(endpoint.pid), args))
        print(f"calls were booked as {dict(booked(folder / 'books.db'))}")


if __name__ == "__main__":
    main()
