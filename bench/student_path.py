"""What the way to the students costs: a prediction in process, and the same asked over the socket.

    python bench/student_path.py [--asks 400]

Students are fitted on a synthetic task of 20 labels. "loading" is the first demand of a student to
its first answer, in a process that has loaded nothing; "added" is the median over the socket less
the median in process, both with a pause after each; "busy" is the wait of a live request while 200
bulk texts are asked.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
PAUSE_SECONDS = 0.002
RECIPES = ("lexical", "embedding", "blend")
SERVER = """
import sys, time
from pathlib import Path
from stillhouse.students.answering import serve
sys.setswitchinterval(0.0005)
folder = Path(sys.argv[1])
serve(folder / "s.sock", lambda digest: (folder / digest).read_bytes(), lambda seconds: False)
"""


def texts_of(number: int, seed: int) -> list[tuple[str, str]]:
    """Sentences of about twelve words, and the label that their words hint at."""
    chance = random.Random(seed)
    words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]
    rows = []
    for _ in range(number):
        label = chance.randrange(20)
        own = words[label * 18 : label * 18 + 18]
        said = chance.choices(own, k=5) + chance.choices(words, k=7)
        chance.shuffle(said)
        rows.append((" ".join(said), f"label {label:02d}"))
    return rows


def fit_all(folder: Path) -> dict[str, str]:
    """Fit the students and write their artefacts; their digests."""
    from stillhouse.core.learning import Row, TrainSet
    from stillhouse.core.ports import Rehearsal
    from stillhouse.distillation import ladder
    from stillhouse.students.encoders import shipped_encoder
    from stillhouse.wiring import recipes

    pairs = texts_of(2000, 1)
    rows = [Row(f"r{n}", text, label, n, n) for n, (text, label) in enumerate(pairs)]
    labels = tuple(sorted({label for _, label in pairs}))
    rungs, said, digests = recipes(shipped_encoder()), dict[str, Rehearsal](), {}
    kept, apart = TrainSet(tuple(rows[:1500])), TrainSet(tuple(rows[1500:]))
    for name in RECIPES:
        said[name] = rungs[name].rehearse(kept, apart, labels, 0, dict(said))
        student = ladder.fit(name, rungs, said, TrainSet(tuple(rows)), labels, 0)
        artefact = student.to_bytes()
        digests[name] = blake2b(artefact, digest_size=16).hexdigest()
        (folder / digests[name]).write_bytes(artefact)
    return digests


def in_process(artefact: Path, texts: Sequence[str]) -> list[float]:
    """Milliseconds of each prediction here."""
    from stillhouse.students.encoders import one_thread_encoder
    from stillhouse.students.shelf import read_student

    student = read_student(artefact.read_bytes(), one_thread_encoder)
    waits = []
    for text in texts:
        start = time.perf_counter()
        student.predict([text])
        waits.append(1e3 * (time.perf_counter() - start))
        time.sleep(PAUSE_SECONDS)
    return waits


def quantiles(waits: list[float]) -> tuple[float, float]:
    ordered = sorted(waits)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100]


async def over_the_socket(folder: Path, name: str, digest: str, texts: Sequence[str]) -> str:
    """Start a server, ask it at rest and busy; a line of the table."""
    from stillhouse.students.asking import Asking

    with subprocess.Popen([sys.executable, "-c", SERVER, str(folder)]) as server:
        while not (folder / "s.sock").exists():
            await asyncio.sleep(0.01)
        asking = Asking(folder / "s.sock")
        while await asking.ask_many("f" * 32, []) is None and asking._line is None:
            await asyncio.sleep(0.01)
        start = time.perf_counter()
        await asking.ask_many(digest, [])
        assert await asking.ask(digest, texts[0], 5.0)
        first = 1e3 * (time.perf_counter() - start)
        here = quantiles(in_process(folder / digest, texts))
        quiet: list[float] = []
        busy: list[float] = []
        for text in texts:
            start = time.perf_counter()
            assert await asking.ask(digest, text, 5.0)
            quiet.append(1e3 * (time.perf_counter() - start))
            await asyncio.sleep(PAUSE_SECONDS)
        bulk = asyncio.ensure_future(asking.ask_many(digest, [f"{t} x" for t in texts[:200]]))
        while not bulk.done():
            start = time.perf_counter()
            assert await asking.ask(digest, texts[len(busy) % len(texts)], 5.0)
            busy.append(1e3 * (time.perf_counter() - start))
            await asyncio.sleep(0.005)
        assert await bulk
        asking.close()
        peak = int(Path(f"/proc/{server.pid}/status").read_text().split("VmHWM:")[1].split()[0])
        server.kill()
    (folder / "s.sock").unlink()
    there, under = quantiles(quiet), quantiles(busy)
    return (
        f"{name:<10} {first:>10.0f} {here[0]:>8.2f} {here[1]:>8.2f} {there[0]:>9.2f} "
        f"{there[1]:>9.2f} {1e3 * (there[0] - here[0]):>9.0f} {under[0]:>9.2f} {under[1]:>9.2f} "
        f"{peak / 1024:>9.0f}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--asks", type=int, default=400)
    chosen = options.parse_args()
    if not ONE_THREAD.items() <= os.environ.items():  # read when numpy is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    import uvloop

    texts = [text for text, _ in texts_of(chosen.asks, 2)]
    with tempfile.TemporaryDirectory() as place:
        digests = fit_all(Path(place))
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(
            f"{'student':<10} {'loading ms':>10} {'here p50':>8} {'p95':>8} {'there p50':>9} "
            f"{'p95':>9} {'added us':>9} {'busy p50':>9} {'p95':>9} {'peak MiB':>9}"
        )
        for name, digest in digests.items():
            print(uvloop.run(over_the_socket(Path(place), name, digest, texts)), flush=True)


if __name__ == "__main__":
    main()
