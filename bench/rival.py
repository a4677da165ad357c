"""Stillhouse and shad0wllm in front of the same teacher, on the same traffic.

    python -m venv /elsewhere && /elsewhere/bin/pip install "shad0wllm[compile]"
    python bench/rival.py --rival /elsewhere/bin/shad0w [--seeds 1 2 3] [--rows 8000]

BANKING77 as DeepSeek answered it, shuffled. Both learn from the same rows, by their own command
lines, and then stand as proxies before the same upstream, which replays the recording without delay
in a process of its own. The later rows go through each, one after the other, then many at once.
Promised by both: at most 5 % of the answers given locally differ from the teacher's. shad0wllm runs
as it comes (confidence 90 %), and at our confidence of 95 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from live_students import MODEL, free_port, traffic
from stillhouse.core.calls import UpstreamCall
from stillhouse.core.catalogue import Upstream, Wire
from stillhouse.providers.http import HttpProvider
from stillhouse.risk.evidence import exact_interval

QUESTION = "intent"
CONFIG = """
[server]
port = {port}

[upstreams.teacher]
base_url = "http://127.0.0.1:{upstream}/v1"
allow_private = true
models = ["*"]
"""
OURS = [sys.executable, "-m", "stillhouse"]
Request = tuple[bytes, str]


class Given(NamedTuple):
    """One answer: how long it took, whether it was made here, whether the teacher says the same."""

    seconds: float
    here: bool
    same: bool


class Stand(NamedTuple):
    """A proxy that has learnt: how it is started, what its promise is, how long learning took."""

    name: str
    command: Sequence[str]
    port: int
    promise: str
    seconds: float


def main() -> None:
    """Compare, seed by seed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rival", required=True, help="the command shad0w")
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options.add_argument("--rows", type=int, default=8000, help="rows that are learnt from")
    options.add_argument("--delta", nargs="+", default=["0.05", "0.1"], help="the rival's")
    options.add_argument("--student", default="auto", help="the rival's: auto, linear or deep")
    options.add_argument("--at-once", type=int, default=16)
    options.add_argument("--keep", type=Path, help="where what was learnt is kept, and found again")
    options.add_argument("--learn-only", action="store_true", help="measure another time")
    options.add_argument(
        "--data", type=Path, default=Path(os.environ.get("STILLHOUSE_DATA", "../shared/data"))
    )
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for seed in asked.seeds:
            folder = (asked.keep or Path(temporary)).absolute() / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            compare(asked, folder, seed)


def compare(asked: argparse.Namespace, folder: Path, seed: int) -> None:
    """Both on one order of the rows."""
    log, kept = folder / "log.jsonl", folder / "stands.json"
    requests = traffic(asked.data, log, 13083, seed)
    later = requests[asked.rows :]
    if not kept.exists():
        kept.write_text(json.dumps(learn(asked, folder, log)))
    if asked.learn_only:
        return
    upstream, *stands = json.loads(kept.read_text())
    print(f"\nseed {seed}: {asked.rows:,} rows to learn from, {len(later):,} later", flush=True)
    teacher = [*OURS, "--db", "teacher.db", "serve", "--replay", str(log), "--latency", "none"]
    with Running([*teacher, "--port", str(upstream)], folder, upstream):
        for stand in (Stand(*one) for one in stands):
            with Running(stand.command, folder, stand.port):
                report(stand, *asyncio.run(measure(stand.port, later, asked.at_once)))


def learn(asked: argparse.Namespace, folder: Path, log: Path) -> list[object]:
    """The port of the teacher, and everybody who has learnt."""
    learnt, upstream = folder / "train.jsonl", free_port()
    with log.open(encoding="utf-8") as lines:
        learnt.write_text("".join(islice(lines, asked.rows)), encoding="utf-8")
    theirs = [shad0w(asked, folder, learnt, upstream, delta) for delta in asked.delta]
    return [upstream, stillhouse(folder, learnt, upstream), *theirs]


def stillhouse(folder: Path, learnt: Path, upstream: int) -> Stand:
    """Import, find the task, distil, promote."""
    began, port = time.perf_counter(), free_port()
    (folder / "stillhouse.toml").write_text(CONFIG.format(port=port, upstream=upstream))
    books = [*OURS, "--db", "stillhouse.db"]
    say(folder, *books, "import", str(learnt))
    (task,) = json.loads(say(folder, *books, "tasks", "--json"))["tasks"]
    told = json.loads(say(folder, *books, "distil", task["name"], "--no-curve", "--json"))
    seconds = time.perf_counter() - began
    say(folder, *books, "promote", task["name"], "--who", "bench", "--why", "to be compared")
    proof = told["certificate"]
    promise = (
        f"{proof['n_accepted'] / proof['n_calibration']:.1%} of {proof['n_calibration']:,} "
        f"calibration rows, confidence {proof['confidence']:.0%}, {told['recipe']}"
    )
    return Stand("stillhouse", [*books, "serve"], port, promise, seconds)


def shad0w(
    asked: argparse.Namespace, folder: Path, learnt: Path, upstream: int, delta: str
) -> Stand:
    """Import and train, as its documentation says; the folder is another for each delta.

    What was trained for one delta is certified for the next on the same rows held out, which comes
    to the same and spares an hour.
    """
    began, port, place = time.perf_counter(), free_port(), f"shad0w-{delta}"
    where = ["--dir", place, "--question", QUESTION]
    bundle = folder / place / QUESTION / "bundle"
    before = folder / f"shad0w-{asked.delta[0]}" / QUESTION
    if delta == asked.delta[0]:
        imported = ["--from", "openai-chat", "--file", str(learnt)]
        say(folder, asked.rival, "import", *imported, *where)
        say(
            folder, asked.rival, "train", *where, "--alpha", "0.05", "--delta", delta,
            "--student", asked.student, "--teacher", MODEL,
        )  # fmt: skip
    else:
        shutil.copytree(before, bundle.parent)
        apart = folder / f"apart-{delta}.jsonl"
        apart.write_text("".join(held_out(before / "log.jsonl")), encoding="utf-8")
        proving = ["--bundle", str(bundle), "--data", str(apart), "--alpha", "0.05"]
        say(folder, asked.rival, "certify", *proving, "--delta", delta)
    proof = json.loads((bundle / "certificate.json").read_text())
    first = json.loads((before / "bundle" / "certificate.json").read_text())
    (found,) = proof["questions"].values()
    (kind,) = (one["student"] for one in first["questions"].values())
    promise = (
        f"{found['certified_share_on_calibration']:.1%} of {found['n_calibration']:,} calibration "
        f"rows, confidence {1 - proof['delta']:.0%}, {kind}"
    )
    command = [
        asked.rival, "proxy", "--upstream", f"http://127.0.0.1:{upstream}/v1", "--dir", place,
        "--port", str(port), "--alpha", "0.05", "--delta", delta,
    ]  # fmt: skip
    return Stand("shad0wllm", command, port, promise, time.perf_counter() - began)


def held_out(log: Path) -> list[str]:
    """The rows that its training certifies on: its draw, with its seed."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    order = np.random.default_rng(0).permutation(len(lines))
    most = int(min(3000, max(100, 0.3 * len(lines)), len(lines) // 2))
    return [lines[place] for place in order[:most]]


def say(folder: Path, *command: str) -> str:
    """Run a command to its end; what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Running:
    """A server in a folder, from when it answers until it is told to end."""

    def __init__(self, command: Sequence[str], folder: Path, port: int) -> None:
        self._command, self._folder, self._port = command, folder, port

    def __enter__(self) -> None:
        self._said = (self._folder / f"said-{self._port}.log").open("wb")
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, stdout=self._said, stderr=self._said,
            start_new_session=True,
        )  # fmt: skip
        asyncio.run(answers(self._port))
        time.sleep(5)  # students are loaded, whoever has them

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)


async def answers(port: int) -> None:
    """Wait for a port."""
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise SystemExit(f"nobody listens on {port}")


async def measure(port: int, later: Sequence[Request], at_once: int) -> tuple[list[Given], float]:
    """Everything one by one; then as fast as it goes, in requests a second."""
    place = Upstream("proxy", base_url=f"http://127.0.0.1:{port}", allow_private=True)
    provider = HttpProvider(place, None)
    one_by_one: list[Given] = []
    await ask_some(provider, iter(later), one_by_one)
    at_speed: list[Given] = []
    rest = iter(later)
    began = time.perf_counter()
    await asyncio.gather(*(ask_some(provider, rest, at_speed) for _ in range(at_once)))
    speed = len(at_speed) / (time.perf_counter() - began)
    await provider.close()
    return one_by_one, speed


async def ask_some(provider: HttpProvider, rest: Iterator[Request], given: list[Given]) -> None:
    """One caller: one request after the other."""
    head = ((b"content-type", b"application/json"), (b"x-shad0w-question", QUESTION.encode()))
    for body, answer in rest:
        began = time.perf_counter()
        call = UpstreamCall(Wire.CHAT, "POST", "/v1/chat/completions", MODEL, body, headers=head)
        reply = await provider.send(call, lambda: None)
        said = json.loads(await reply.read())
        seconds = time.perf_counter() - began
        if reply.status != 200:
            raise SystemExit(f"{reply.status}: {said}")
        told = {name.lower(): value for name, value in reply.headers}
        by = told.get(b"x-stillhouse-answered-by", told.get(b"x-shad0w-source", b""))
        same = said["choices"][0]["message"]["content"].strip() == answer.strip()
        given.append(Given(seconds, by in (b"student", b"table"), same))


def report(stand: Stand, given: list[Given], speed: float) -> None:
    """One proxy's line."""
    here = [one for one in given if one.here]
    agreed = sum(one.same for one in here)
    low, high = exact_interval(agreed, len(here))
    waits = [1000 * median(one.seconds for one in given if one.here is is_here or not here)
             for is_here in (True, False)]  # fmt: skip
    print(
        f"  {stand.name:<11} learnt in {stand.seconds:4.0f} s; certified {stand.promise}\n"
        f"              answers {len(here) / len(given):.1%} of {len(given):,}; "
        f"{agreed:,} of {len(here):,} as the teacher: {agreed / max(1, len(here)):.2%} "
        f"({low:.2%} to {high:.2%}); all together {sum(o.same for o in given) / len(given):.2%}\n"
        f"              median {waits[0]:.2f} ms here, {waits[1]:.2f} ms deferred; "
        f"{speed:,.0f} requests/s",
        flush=True,
    )


if __name__ == "__main__":
    main()
