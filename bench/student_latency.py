"""What a student's answer costs at the endpoint, beside a replayed call that costs no waiting.

    python bench/student_latency.py [--asks 1500]

`stillhouse serve` runs with one worker before a `replay` upstream with `latency = "none"`, and with
a student that answers everything. One caller asks in turn: a request that the student answers, and
one under a tag of its own, which is nobody's task and replayed. "added" is the difference of the
medians: recognition, the student, the writing of its answer and of the journal, less the replay.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from live_students import Endpoint, free_port
from stillhouse.core.learning import AnswerShape, Certificate, Target
from stillhouse.core.serving import Change, Charter, InputRange, PolicyEvent
from stillhouse.core.traffic import Attempt, Completion, Exchange, Message, Request
from stillhouse.distillation.discovery import discover
from stillhouse.distillation.recognition import Recogniser, written
from stillhouse.store.opening import open_store
from student_path import RECIPES, fit_all, quantiles, texts_of

LABELS = [f"label {n:02d}" for n in range(20)]
PROMPT = "Sort the request into one of these classes and answer with its name alone.\n" + "\n".join(
    f"- {label}: what is said of matters of the kind number {n} and of nothing else besides it"
    for n, label in enumerate(LABELS)
)
CONFIG = """
[server]
port = {port}
workers = 1
[upstreams.teacher]
kind = "replay"
log = "{log}"
latency = "none"
models = ["*"]
[students]
shadow_share = 0.001
deadline_ms = 2000
"""


def conversation(text: str) -> list[dict[str, str]]:
    """The turns of a request."""
    return [{"role": "system", "content": PROMPT}, {"role": "user", "content": text}]


def write_log(path: Path, pairs: list[tuple[str, str]]) -> None:
    """The teacher's answers, as a log of calls."""
    with path.open("w", encoding="utf-8") as file:
        for number, (text, label) in enumerate(pairs):
            message = {"role": "assistant", "content": label}
            response = {
                "id": str(number),
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 500, "completion_tokens": 3, "total_tokens": 503},
            }
            call = {
                "id": f"c{number}",
                "created_at": 1.79e9 + number,
                "provider": "acme",
                "latency_ms": 1.0,
                "request": {"model": "m", "messages": conversation(text)},
                "response": response,
            }
            file.write(json.dumps(call) + "\n")


def employ(database: Path, artefact: bytes, pairs: list[tuple[str, str]], version: int) -> None:
    """Let a version of the task answer everything."""
    exchanges = [
        Exchange(
            f"e{n}",
            Request(tuple(Message(t["role"], t["content"]) for t in conversation(text))),
            Completion(label),
            (Attempt(f"e{n}", "m"),),
        )
        for n, (text, label) in enumerate(pairs[:400])
    ]
    body = written(discover(exchanges).models)
    found = Recogniser.read(body).find(exchanges[0].request)
    assert found is not None
    with open_store(str(database)) as store:
        digest, known = store.put_artefact(artefact), store.put_artefact(body)
        charter = Charter(
            found.task, version, digest, "r", AnswerShape.LABELS, {one: one for one in LABELS},
            (0.0,), 1, Target(), 0.05, known, (found.prompt,), ("m",), ("m",),
            InputRange(10_000, ("latin",)),
        )  # fmt: skip
        store.put_charter(charter)
        proven = Certificate(digest, 0.0, 0.05, 0.95, 0.05, version, 1, 1, 0, "bench", "d")
        store.add_verdict(found.task, version, proven, 1)
        detail = {"threshold": 0.0}
        said = (found.task, version, Change.PROMOTED.value, "a bench", "bench", 1, detail)
        store.add_policy_event(PolicyEvent(*said))


class Caller:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, text: str, **fields: str) -> tuple[float, str]:
        """Milliseconds, and who answered."""
        body: dict[str, Any] = {"model": "m", "messages": conversation(text)}
        sent = json.dumps(body).encode()
        start = time.perf_counter()
        self._line.request("POST", "/v1/chat/completions", sent, fields)
        answer = self._line.getresponse()
        said = answer.read()
        waited = 1e3 * (time.perf_counter() - start)
        assert answer.status == 200, said
        return waited, answer.headers.get("x-stillhouse-answered-by", "nobody")


def measure(
    folder: Path, artefact: bytes, asks: int, version: int
) -> tuple[list[float], list[float]]:
    """Start an endpoint and ask in turn; the waits for the student and for the replay."""
    pairs, port = texts_of(asks, 2), free_port()
    write_log(folder / "log.jsonl", pairs)
    (folder / "stillhouse.toml").write_text(CONFIG.format(port=port, log=folder / "log.jsonl"))
    employ(folder / "stillhouse.db", artefact, pairs, version)
    endpoint = Endpoint(folder, port)
    endpoint.start()
    try:
        caller = Caller(port)
        ends = time.monotonic() + 60
        while caller.ask(pairs[0][0])[1] != "student":
            assert time.monotonic() < ends, "the student never answered"
            time.sleep(0.2)
        by_student: list[float] = []
        replayed: list[float] = []
        for text, _ in pairs:
            waited, by = caller.ask(text)
            assert by == "student", by
            by_student.append(waited)
            waited, by = caller.ask(text, **{"x-stillhouse-task": "elsewhere"})
            assert by == "nobody", by
            replayed.append(waited)
            time.sleep(0.001)
        return by_student, replayed
    finally:
        endpoint.stop()


def main() -> None:
    """Measure every recipe and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--asks", type=int, default=1500)
    options.add_argument("--recipes", nargs="*", default=list(RECIPES))
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        digests = fit_all(Path(place))
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"{'student':<10} {'its p50 ms':>10} {'p95':>7} {'replay p50':>10} {'p95':>7} "
              f"{'added p50':>9}")  # fmt: skip
        for version, name in enumerate(chosen.recipes, 1):
            folder = Path(place) / f"at-{name}"
            folder.mkdir()
            artefact = (Path(place) / digests[name]).read_bytes()
            student, replay = map(quantiles, measure(folder, artefact, chosen.asks, version))
            print(f"{name:<10} {student[0]:>10.2f} {student[1]:>7.2f} {replay[0]:>10.2f} "
                  f"{replay[1]:>7.2f} {student[0] - replay[0]:>9.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
