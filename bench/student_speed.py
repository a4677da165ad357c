"""Students on one core: seconds to load, milliseconds of one request, texts a second in a batch.

    python bench/student_speed.py [--data DIR]

Each student is fitted on the train rows of BANKING77 and measured in a process of its own, held
to one core and one thread, on the 3,080 test texts. "import" is Python, numpy and the package;
"load" is the artefact and, where one is needed, the encoder; "first" is the first request.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import orjson

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
RECIPES = ("lexical", "embedding", "blend")


def fit_all(data: Path, place: Path) -> None:
    """Fit the students and write their artefacts and the test texts to a folder."""
    from distil_banking77 import recorded
    from stillhouse.core.ports import Rehearsal
    from stillhouse.distillation import ladder
    from stillhouse.distillation.dataset import assemble, rehearsal_split
    from stillhouse.wiring import cached_encoder, encodings, recipes

    train, test = recorded(data)
    (place / "texts.json").write_bytes(orjson.dumps([row.text for row in test]))
    dataset = assemble("banking77", train, [], test)
    kept, apart = rehearsal_split(dataset.train)
    with encodings(str(place / "bench.db")) as cache:
        rungs = recipes(cached_encoder("", cache, lambda *_: None))
        said: dict[str, Rehearsal] = {}
        for name in RECIPES:
            said[name] = rungs[name].rehearse(kept, apart, dataset.labels, 0, dict(said))
            student = ladder.fit(name, rungs, said, dataset.train, dataset.labels, 0)
            (place / name).write_bytes(student.to_bytes())


def measure(artefact: Path, began: float) -> None:
    """Load one student and time it; prints a line of the table."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from stillhouse.students.encoders import open_encoder
    from stillhouse.students.shelf import read_student

    imported = time.time()
    student = read_student(artefact.read_bytes(), partial(open_encoder, threads=1))
    loaded = time.time()
    texts: list[str] = orjson.loads((artefact.parent / "texts.json").read_bytes())
    waits = []
    for text in texts:
        start = time.perf_counter()
        student.predict([text])
        waits.append(1e3 * (time.perf_counter() - start))
    start = time.perf_counter()
    student.predict(texts)
    batch = time.perf_counter() - start
    p50, p99 = np.quantile(waits[1:], (0.5, 0.99))
    # The kernel's own line: getrusage would count the memory of the process that started this one.
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    print(
        f"{artefact.name:<10} {artefact.stat().st_size / 2**20:>12.1f} {imported - began:>9.2f} "
        f"{loaded - imported:>7.2f} {waits[0]:>9.2f} {p50:>8.2f} {p99:>8.2f} "
        f"{len(texts) / batch:>12,.0f} {peak:>9.0f}",
        flush=True,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--data", type=Path, default=Path(os.environ.get("STILLHOUSE_DATA", "../shared/data"))
    )
    options.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--began", type=float, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.measure:
        measure(chosen.measure, chosen.began)
        return
    with tempfile.TemporaryDirectory() as folder:
        fit_all(chosen.data, Path(folder))
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(
            f"{'student':<10} {'artefact MiB':>12} {'import s':>9} {'load s':>7} {'first ms':>9} "
            f"{'p50 ms':>8} {'p99 ms':>8} {'batch text/s':>12} {'peak MiB':>9}",
            flush=True,
        )
        for name in RECIPES:
            subprocess.run(
                [sys.executable, __file__, f"--measure={folder}/{name}", f"--began={time.time()}"],
                env=os.environ | ONE_THREAD,
                check=True,
            )


if __name__ == "__main__":
    main()
