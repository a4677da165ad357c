"""Import and pricing: rows a second and peak memory, printed as a table.

    python bench/import_speed.py [ROWS ...]

Rows are native pairs of about 1.5 KB: one long shared system prompt, varied questions, answers of
a few labels. Each size is imported by a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import gc
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

from stillhouse.catalogues.genai import host_rows, price_rows
from stillhouse.flows.import_log import import_log
from stillhouse.ledger.book import PriceBook
from stillhouse.ledger.names import host_from_row
from stillhouse.ledger.prices import price_from_row
from stillhouse.logs import Position, detect, fingerprint, read
from stillhouse.store.sqlite import SqliteStore

SIZES = (100_000, 1_000_000)
VOCABULARY = (
    "card payment transfer balance refund top-up cash fee limit pin passport country exchange "
    "rate pending declined twice yesterday account order phone app statement charge support"
)
LABELS = ("card arrival", "refund status", "exchange rate", "pin change", "limit", "fee", "other")
SYSTEM = "Classify the customer's message into exactly one label. " + " ".join(
    f"{label}: use it where the message is about {label} and no other label fits better."
    for label in LABELS
)


def write_pairs(path: Path, n: int) -> None:
    """Write native pairs, one second apart."""
    draw, words = random.Random(7), VOCABULARY.split()
    with path.open("wb") as file:
        for i in range(n):
            asked = " ".join(draw.choices(words, k=draw.randint(8, 60))) + f" {i}"
            cached = draw.choice((0, 128))
            pair = {
                "request": {
                    "model": "gpt-4o-mini",
                    "temperature": 0,
                    "messages": [
                        {"role": "system", "content": SYSTEM},
                        {"role": "user", "content": asked},
                    ],
                },
                "response": {
                    "id": f"chatcmpl-{i:024x}",
                    "object": "chat.completion",
                    "model": "gpt-4o-mini-2024-07-18",
                    "choices": [
                        {
                            "index": 0,
                            "message": {"role": "assistant", "content": draw.choice(LABELS)},
                            "finish_reason": "stop",
                        }
                    ],
                    "usage": {
                        "prompt_tokens": 190 + len(asked) // 5,
                        "completion_tokens": 3,
                        "total_tokens": 193 + len(asked) // 5,
                        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
                    },
                },
                "created_at": 1_750_000_000 + i,
                "latency_ms": round(draw.uniform(200, 900), 1),
                "cost_usd": 3e-05,
                "metadata": {"team": draw.choice(("app", "web")), "customer": f"c{i % 500}"},
            }
            file.write(orjson.dumps(pair) + b"\n")


def measure(log: Path) -> None:
    """Import one log into a new database beside it and print what it took."""
    book = PriceBook(
        (price_from_row(row, known_from_us=0) for row in price_rows()),
        map(host_from_row, host_rows()),
    )
    gc.disable()  # rows make no cycles; walking each batch for some costs a tenth of the time
    began, busy = time.perf_counter(), time.process_time()
    fmt = detect(log)
    with SqliteStore(log.with_suffix(".db")) as store:
        summary = import_log(
            lambda start: read(log, fmt, Position(*start)),
            fingerprint(log),
            store,
            book,
            now_us=time.time_ns() // 1000,
            set_aside=lambda line, reason, _: print(line, reason),
            progress=lambda *_: None,
        )
        took, cpu = time.perf_counter() - began, time.process_time() - busy
        grouping = time.perf_counter()
        groups = list(store.spend("model"))
        grouped = time.perf_counter() - grouping
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    megabytes = [path.stat().st_size / 2**20 for path in (log, log.with_suffix(".db"))]
    figures = (summary.rows / took, summary.rows / cpu, peak, *megabytes)
    print(
        f"{summary.new:>10,} {took:>8.1f} " + " ".join(f"{figure:>10,.0f}" for figure in figures),
        f"{grouped:>8.1f} {summary.unpriced:>8,}",
    )
    assert sum(group.n_requests for group in groups) == summary.new


def main() -> None:
    """Measure each size in a process of its own."""
    if len(sys.argv) == 3 and sys.argv[1] == "--measure":
        measure(Path(sys.argv[2]))
        return
    heads = ("rows/s", "rows/cpu s", "peak MiB", "log MiB", "db MiB")
    print(
        f"{'rows':>10} {'seconds':>8} " + " ".join(f"{head:>10}" for head in heads),
        f"{'spend s':>8} {'unpriced':>8}",
        flush=True,
    )
    for n in map(int, sys.argv[1:] or SIZES):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "pairs.jsonl"
            write_pairs(log, n)
            subprocess.run([sys.executable, __file__, "--measure", str(log)], check=True)


if __name__ == "__main__":
    main()
