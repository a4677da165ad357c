"""A long life: students promoted, a drift, a rollback, another promotion, killed in between.

    python bench/soak.py [--requests 200000] [--kills 3] [--at-once 32] [--rate 500] [--seed 1]
                         [--keep DIR]

`stillhouse serve` (retraining and promotion automatic) stands before a teacher that sorts messages
by rules. At two fifths of the requests it changes its mind about three of eight topics, under the
same name: the audits find out, the student is stopped, another one is made of what came since. All
processes are killed (SIGKILL) so many times at random moments and started again; callers ask again.

Afterwards: every request that was answered is in the books exactly once, whoever answered it; what
every worker serves is the fold of the events; and the memory of no process has grown on. Exit code
0 where all of that holds.
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
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.core.errors import UpstreamError
from stillhouse.core.serving import Mode
from stillhouse.providers.http import HttpProvider
from stillhouse.routing import lifecycle
from stillhouse.store.opening import existing_store

PROMPT = "Sort the customer's message into one of: {}. Reply with the label alone."
TOPICS = {
    "late_parcel": "parcel late where tracking arrive delayed waiting courier",
    "refund": "refund money back return charged twice amount reimburse",
    "broken_item": "broken cracked arrived damaged faulty smashed replace",
    "change_address": "address moved street deliver elsewhere new house postcode",
    "cancel_order": "cancel order stop before ships mistake ordered wrong",
    "invoice": "invoice receipt tax copy billing company vat",
    "login": "login password account locked sign reset email",
    "discount": "discount voucher code coupon promotion expired apply",
}
FILLER = [
    "please",
    "hello",
    "i",
    "my",
    "the",
    "a",
    "is",
    "was",
    "for",
    "about",
    "can",
    "you",
    "help",
    "with",
    "it",
    "today",
    "since",
    "again",
    "now",
]
MERGED = {"refund": "invoice", "discount": "invoice", "change_address": "late_parcel"}
"""What the teacher calls some topics after it has changed its mind."""

CONFIG = """
[server]
port = {port}

[books]
prices = "prices.yaml"

[upstreams.teacher]
base_url = "http://127.0.0.1:{teacher}/v1"
host = "soak"
models = ["*"]
allow_private = true

[students]
shadow_share = 0.1
promote = "auto"
retrain = "auto"
first_rows = 3000
retrain_rows = 1000000
on_alarm = "stop"
"""
PRICES = """
- provider: soak
  model: sorter-1
  names: ["sorter-*"]
  usd_per_mtok: {input: 0.5, output: 1.5}
"""


def text_of(number: int, seed: int) -> str:
    """A message about one topic, sometimes with a word of another."""
    draw = random.Random(f"{seed} {number}")
    words = draw.choices(draw.choice(list(TOPICS.values())).split(), k=4) + draw.choices(
        FILLER, k=6
    )
    if draw.random() < 0.15:
        words += draw.choices(draw.choice(list(TOPICS.values())).split(), k=2)
    draw.shuffle(words)
    return " ".join(words)


def label_of(text: str, *, drifted: bool) -> str:
    """What the teacher says: the topic with most words; after the drift some have another name."""
    words = text.split()
    scores = {label: sum(w in said.split() for w in words) for label, said in TOPICS.items()}
    label = max(scores, key=lambda one: (scores[one], one))
    return MERGED.get(label, label) if drifted else label


def teacher(port: int, switch: Path) -> None:
    """Serve the teacher: its mind changes once the file is there."""
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message["body"])
            more = message.get("more_body", False)
        asked = json.loads(b"".join(parts))
        label = label_of(asked["messages"][-1]["content"], drifted=switch.exists())
        message = {"role": "assistant", "content": label}
        body = json.dumps({
            "id": "x", "object": "chat.completion", "created": 0, "model": "sorter-1",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 90, "completion_tokens": 3, "total_tokens": 93},
        }).encode()  # fmt: skip
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def reachable(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(600):
        with closing(socket.socket()) as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"nobody listens on port {port}")


class Soak:
    """The endpoint, its teacher and its callers."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self.asked, self.folder = asked, folder
        self.port, self.teacher_port = free_port(), free_port()
        self.switch = folder / "drifted"
        self.answered: dict[str, str] = {}
        self.unanswered, self.certificate = 0, ""
        self.memory: list[tuple[int, dict[str, int]]] = []
        self.kills = sorted(
            random.Random(asked.seed).sample(
                range(asked.requests // 10, asked.requests), asked.kills
            )
        )

    def start(self) -> None:
        """Start the endpoint."""
        said = (self.folder / "serve.log").open("ab")
        command = [sys.executable, "-m", "stillhouse", "serve", "--config", "stillhouse.toml"]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=said, stderr=said, start_new_session=True
        )
        reachable(self.port)

    def kill(self) -> None:
        """Kill all its processes at once, and start it again."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.start()

    def run(self) -> bool:
        """Everything; whether it all held."""
        write = {"stillhouse.toml": CONFIG.format(port=self.port, teacher=self.teacher_port),
                 "prices.yaml": PRICES}  # fmt: skip
        for name, text in write.items():
            (self.folder / name).write_text(text)
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import soak; " \
               f"from pathlib import Path; soak.teacher({self.teacher_port}, " \
               f"Path({str(self.switch)!r}))"  # fmt: skip
        sorter = subprocess.Popen([sys.executable, "-c", code])
        try:
            reachable(self.teacher_port)
            self.start()
            began = time.time()
            asyncio.run(self.ask_all())
            print(f"{len(self.answered):,} answered, {self.unanswered:,} asked again, "
                  f"{time.time() - began:.0f} s")  # fmt: skip
            self.settle()
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(90)
            return self.verify()
        finally:
            sorter.kill()
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def ask_all(self) -> None:
        """All callers, so many at a time."""
        numbers = iter(range(self.asked.requests))
        self.began = time.time()
        place = Upstream("endpoint", base_url=f"http://127.0.0.1:{self.port}", allow_private=True)
        self.provider = HttpProvider(place, None)
        await asyncio.gather(*(self.ask_some(numbers) for _ in range(self.asked.at_once)))
        await self.provider.close()

    async def ask_some(self, numbers: Any) -> None:
        """One caller, which asks again where nobody answered."""
        prompt = PROMPT.format(", ".join(TOPICS))
        for number in numbers:
            await asyncio.sleep(max(0.0, self.began + number / self.asked.rate - time.time()))
            self.at(number)
            text = text_of(number, self.asked.seed)
            turns = [{"role": "system", "content": prompt}, {"role": "user", "content": text}]
            body = json.dumps({"model": "sorter-1", "messages": turns, "temperature": 0}).encode()
            while not await self.ask(body):
                self.unanswered += 1
                await asyncio.sleep(0.05)

    async def ask(self, body: bytes) -> bool:
        call = UpstreamCall(
            Wire.CHAT, "POST", "/v1/chat/completions", "sorter-1", body,
            headers=((b"content-type", b"application/json"),),
        )  # fmt: skip
        try:
            reply = await self.provider.send(call, lambda: None)
            said = await reply.read()
        except UpstreamError:
            return False
        if reply.status != 200:
            raise SystemExit(f"status {reply.status}: {said[:300]!r}")
        heads = dict(reply.headers)
        by = heads.get(b"x-stillhouse-answered-by", b"teacher").decode()
        self.answered[heads[b"x-stillhouse-exchange"].decode()] = by
        self.certificate = heads.get(b"x-stillhouse-certificate", b"").decode() or self.certificate
        return True

    def at(self, number: int) -> None:
        """What happens at some requests: the drift, a kill, a look at the memory."""
        if number == 2 * self.asked.requests // 5:
            self.switch.touch()
            print(f"  at {number:,}: the teacher changes its mind")
        if self.kills and number >= self.kills[0]:
            self.kills.pop(0)
            print(f"  at {number:,}: killed")
            self.kill()
        if number % 10_000 == 0:
            self.memory.append((number, self.resident()))
            by = list(self.answered.values())[-2000:]
            share = sum(one == "student" for one in by) / max(1, len(by))
            print(f"  {number:,}: {share:.0%} by the student, {self.memory[-1][1]} MiB", flush=True)

    def resident(self) -> dict[str, int]:
        """Resident memory of each kind of process, in MiB."""
        found: dict[str, int] = {}
        for place in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if os.getpgid(int(place.name)) != self.process.pid:
                    continue
                words = (place / "cmdline").read_bytes().split(b"\0")
                own = words[1:2] == [b"-P"]
                kind = words[5].decode().rpartition("-")[0] if own else "supervisor"
                pages = int((place / "statm").read_text().split()[1])
                found[kind] = max(found.get(kind, 0), pages * 4096 // 2**20)
        return found

    def settle(self) -> None:
        """Wait until all is booked and no audit waits."""
        last = -1
        while True:
            with closing(sqlite3.connect(self.folder / "stillhouse.db")) as books:
                rows = int(books.execute("SELECT count(*) FROM exchanges").fetchone()[0])
            if rows == last:
                return
            last = rows
            time.sleep(8)

    def verify(self) -> bool:
        """Lay the books beside what the callers were given."""
        good = True
        with existing_store(str(self.folder / "stillhouse.db")) as store:
            events = list(store.policy_events())
            for event in events:
                print(f"  {event.event:12} v{event.version} by {event.who}: {event.why}")
            folded = {task: lifecycle.standings([e for e in events if e.task == task])
                      for task in {e.task for e in events}}  # fmt: skip
        counts = {name: sum(e.event == name for e in events) for name in
                  ("promoted", "rolled_back", "raised")}  # fmt: skip
        print(f"events: {counts}")
        good &= counts["promoted"] >= 2 and counts["rolled_back"] >= 1
        with closing(sqlite3.connect(self.folder / "stillhouse.db")) as books:
            rows = books.execute(
                "SELECT lower(hex(exchange_id)), count(*), max(kind) FROM exchanges e "
                "JOIN attempts t ON t.exchange = e.id JOIN routes r ON r.id = t.route "
                "WHERE kind <> 'shadow' GROUP BY 1"
            ).fetchall()
        booked = {key: (n, kind) for key, n, kind in rows}
        missing = [key for key in self.answered if key not in booked]
        twice = [key for key, (n, _) in booked.items() if n != 1]
        wrong = [k for k, by in self.answered.items() if k in booked and booked[k][1] != by]
        unheard = len(booked) - len(self.answered)
        print(f"{len(booked):,} booked, {len(missing)} missing, {len(twice)} twice, "
              f"{len(wrong)} by another than was said, {unheard} unheard")  # fmt: skip
        good &= not missing and not twice and not wrong
        for task, standings in folded.items():
            print(f"{task}: {[(v, s.mode.value) for v, s in standings.items()]}")
            serving = [f"{task}@v{v}" for v, s in standings.items() if s.mode is Mode.SERVING]
            good &= serving == [self.certificate]
        print(f"the last certificate that an answer named: {self.certificate}")
        if len(self.memory) > 4:
            quarter = self.memory[len(self.memory) // 4][1]
            print(f"memory at a quarter {quarter} MiB, at the end {self.memory[-1][1]} MiB")
        return good


def main() -> None:
    """Run it, and say whether it held."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=200_000)
    options.add_argument("--kills", type=int, default=3)
    options.add_argument("--at-once", type=int, default=32)
    options.add_argument("--rate", type=float, default=500.0, help="requests a second")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--keep", type=Path)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        held = Soak(asked, folder).run()
    print("everything held" if held else "NOT everything held")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
