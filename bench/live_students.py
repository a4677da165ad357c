"""A task distilled, promoted and served by itself on live traffic: how soon and how well.

    python bench/live_students.py [--rows 13083] [--at-once 32] [--latency recorded] [--seed 1]
                                  [--shadow 0.05] [--data DIR] [--keep DIR]

`stillhouse serve` starts on empty books before a `replay` upstream that answers BANKING77 as
DeepSeek did, as late as it did (`--latency 0.1` is ten times faster). Nobody does anything: the
workshop finds the task, fits a student, the gate opens, the student is promoted and answers what it
is certified for. Every figure comes from the books; the callers only count what they were given.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
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
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.providers.http import HttpProvider
from stillhouse.risk.agreement import agreement_sequence
from stillhouse.store.opening import existing_store

FILE = "banking77_deepseek/banking77_deepseek_v4.1_flash.jsonl.gz"
PROMPT = "banking77_deepseek/banking77_teacher_prompt.md"
MODEL = "deepseek/deepseek-v4.1-flash"
CONFIG = """
[server]
port = {port}

[upstreams.teacher]
kind = "replay"
host = "deepinfra/fp8"
log = "{log}"
latency = "{latency}"
models = ["*"]

[students]
shadow_share = {shadow}
promote = "auto"
retrain = "auto"
first_rows = {first}
"""


def main() -> None:
    """Run, and print what came of it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=13083)
    options.add_argument("--at-once", type=int, default=32)
    options.add_argument("--latency", default="recorded")
    options.add_argument("--shadow", type=float, default=0.05)
    options.add_argument("--first", type=int, default=2000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--keep", type=Path)
    options.add_argument(
        "--data", type=Path, default=Path(os.environ.get("STILLHOUSE_DATA", "../shared/data"))
    )
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        run(asked, folder)


def run(asked: argparse.Namespace, folder: Path) -> None:
    """Serve the traffic once and report."""
    requests = traffic(asked.data, folder / "log.jsonl", asked.rows, asked.seed)
    port = free_port()
    config = CONFIG.format(
        port=port, log=folder / "log.jsonl", latency=asked.latency, shadow=asked.shadow,
        first=asked.first,
    )  # fmt: skip
    (folder / "stillhouse.toml").write_text(config)
    endpoint = Endpoint(folder, port)
    endpoint.start()
    try:
        began = time.time()
        given = asyncio.run(ask_all(port, requests, asked.at_once))
        seconds = time.time() - began
        endpoint.settle()
        report(folder / "stillhouse.db", given, began, seconds)
    finally:
        endpoint.stop()


def traffic(data: Path, log: Path, n_rows: int, seed: int) -> list[tuple[bytes, str]]:
    """Write the recording as a log of calls; the bodies to send, shuffled, with their answers."""
    prompt = (data / PROMPT).read_text(encoding="utf-8").strip()
    with gzip.open(data / FILE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    random.Random(seed).shuffle(rows)  # the recording is sorted by intent
    requests: list[tuple[bytes, str]] = []
    with log.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows[:n_rows]):
            body = request_of(prompt, row["text"])
            file.write(json.dumps(call_of(number, row, body)) + "\n")
            requests.append((json.dumps(body).encode(), row["teacher"]))
    return requests


def request_of(prompt: str, text: str) -> dict[str, Any]:
    """The body that a caller sends."""
    turns = [{"role": "system", "content": prompt}, {"role": "user", "content": text}]
    return {"model": MODEL, "messages": turns, "temperature": 0, "max_tokens": 32}


def call_of(number: int, row: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """A line of the log."""
    message = {"role": "assistant", "content": row["teacher"]}
    usage = {
        "prompt_tokens": row["prompt_tokens"],
        "completion_tokens": row["completion_tokens"],
        "total_tokens": row["prompt_tokens"] + row["completion_tokens"],
        "prompt_tokens_details": {"cached_tokens": row["cached_tokens"]},
    }
    choices = [{"index": 0, "message": message, "finish_reason": row["finish"]}]
    return {
        "id": f"b77-{number}",
        "created_at": row["ts"],
        "provider": "deepseek",
        "latency_ms": row["latency_ms"],
        "request": body,
        "response": {"id": str(number), "model": MODEL, "choices": choices, "usage": usage},
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Endpoint:
    """`stillhouse serve` in a folder of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "stillhouse", "serve", "--config", "stillhouse.toml"]
        self._said = (self._folder / "serve.log").open("ab")
        self._process = subprocess.Popen(
            command, cwd=self._folder, stdout=self._said, stderr=self._said,
            start_new_session=True,
        )  # fmt: skip
        for _ in range(600):
            with closing(socket.socket()) as one:
                if one.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.1)
        raise SystemExit(f"the endpoint does not answer; see {self._folder / 'serve.log'}")

    def settle(self) -> None:
        """Wait until audits have been made and everything is in the books."""
        last = -1
        while (rows := exchanges(self._folder / "stillhouse.db")) != last:
            last = rows
            time.sleep(8)

    def stop(self) -> None:
        """End it in good order."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)


def exchanges(database: Path) -> int:
    """How many requests are booked."""
    with closing(sqlite3.connect(database)) as books:
        return int(books.execute("SELECT count(*) FROM exchanges").fetchone()[0])


Given = list[tuple[float, float, str, bool]]
"""Of each request: when it was answered, how long that took, by whom, as the teacher would."""


async def ask_all(port: int, requests: list[tuple[bytes, str]], at_once: int) -> Given:
    """Send everything, so many at a time."""
    place = Upstream("endpoint", base_url=f"http://127.0.0.1:{port}", allow_private=True)
    provider = HttpProvider(place, None)
    given: Given = []
    rest = iter(requests)
    await asyncio.gather(*(ask_some(provider, rest, given) for _ in range(at_once)))
    await provider.close()
    return given


async def ask_some(provider: HttpProvider, rest: Iterator[tuple[bytes, str]], given: Given) -> None:
    """One caller: one request after the other."""
    head = ((b"content-type", b"application/json"),)
    for body, answer in rest:
        began = time.time()
        call = UpstreamCall(Wire.CHAT, "POST", "/v1/chat/completions", MODEL, body, headers=head)
        reply = await provider.send(call, lambda: None)
        said = json.loads(await reply.read())
        assert reply.status == 200, said
        by = dict(reply.headers).get(b"x-stillhouse-answered-by", b"teacher").decode()
        same = said["choices"][0]["message"]["content"].strip() == answer.strip()
        given.append((time.time(), time.time() - began, by, same))
        if len(given) % 1000 == 0:
            latest = given[-1000:]
            share = sum(one[2] == "student" for one in latest) / len(latest)
            print(f"  {len(given):,} answered, {share:.0%} of the last 1,000 by the student")


def report(database: Path, given: Given, began: float, seconds: float) -> None:
    """Print what the books say, and what the callers saw."""
    with existing_store(str(database)) as store:
        print(f"\n{len(given):,} requests in {seconds:.0f} s")
        promoted = None
        for event in store.policy_events():
            print(f"  {event.at_us / 1e6 - began:7.1f} s  {event.event:12} v{event.version}  "
                  f"{event.who}: {event.why}")  # fmt: skip
            if event.event == "promoted" and promoted is None:
                promoted = event
        if promoted is None:
            print("never promoted")
            return
        figures = store.serving_figures(promoted.task)
        served = [e for e in store.evidence(promoted.task, promoted.version) if e.served]
        agreed = sum(not one.disagrees for one in served)
    print(f"first request to promotion: {promoted.at_us / 1e6 - began:.1f} s")
    for one in figures:
        print(f"version {one.version}: consulted {one.consulted:,}, accepted {one.accepted:,} "
              f"({one.accepted / max(1, one.consulted):.1%}), audited {one.shadows_done:,}, "
              f"waiting {one.shadows_waiting}, avoided ${one.avoided_pico / 1e12:.6f}, "
              f"audits cost ${one.shadow_pico / 1e12:.6f}")  # fmt: skip
    low, high = agreement_sequence(agreed, len(served))
    share = agreed / max(1, len(served))
    print(f"realised agreement of audited answers: {agreed} of {len(served)} = {share:.2%} "
          f"(any-time 95 % interval {low:.2%} to {high:.2%})")  # fmt: skip
    mine = [one for one in given if one[2] == "student"]
    print(f"of all {len(mine):,} answers by the student {sum(o[3] for o in mine) / len(mine):.2%} "
          "are the teacher's recorded ones")  # fmt: skip
    with closing(sqlite3.connect(database)) as books:
        bills(books, promoted.at_us)
    before = [one[1] for one in given if one[0] * 1e6 < promoted.at_us]
    after = [one[1] for one in given if one[0] * 1e6 > promoted.at_us + 2e6]
    print(f"callers waited, median: {1000 * median(before):.1f} ms before, "
          f"{1000 * median(after):.1f} ms after")  # fmt: skip


LATENCIES = """
SELECT kind, latency_ms FROM attempts t JOIN routes r ON r.id = t.route
WHERE ok AND t.at_us {side} ? AND kind <> 'shadow'
"""
BILLS = """
SELECT count(DISTINCT t.exchange), coalesce(sum(billed_pico), 0)
FROM attempts t JOIN routes r ON r.id = t.route LEFT JOIN charges c ON c.attempt = t.id
WHERE t.at_us {side} ? AND kind IN ({kinds})
"""


def bills(books: sqlite3.Connection, promoted_us: int) -> None:
    """The teacher's bill and the waiting, before and after the promotion, from the books."""
    after_us = promoted_us + 2_000_000  # workers hear of it within a second
    for name, side, at in (("before", "<", promoted_us), ("after", ">", after_us)):
        waits = [ms for _, ms in books.execute(LATENCIES.format(side=side), (at,))]
        callers = "'teacher', 'student', 'retry', 'fallback'"
        n, _ = books.execute(BILLS.format(side=side, kinds=callers), (at,)).fetchone()
        _, taught = books.execute(BILLS.format(side=side, kinds="'teacher'"), (at,)).fetchone()
        _, audits = books.execute(BILLS.format(side=side, kinds="'shadow'"), (at,)).fetchone()
        each = 1000 * (taught + audits) / 1e12 / max(1, n)
        bill = f"teacher ${taught / 1e12:.6f} + audits ${audits / 1e12:.6f}"
        print(f"{name}: {n:,} requests, median {median(waits):.1f} ms, {bill} = ${each:.6f} per "
              "1,000 requests")  # fmt: skip


if __name__ == "__main__":
    main()
