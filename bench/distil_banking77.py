"""Distil BANKING77 from DeepSeek's recorded answers, several times over: does it reach its figures?

    python bench/distil_banking77.py [--seeds 5] [--calibration 2000] [--data DIR]

Trained and calibrated inside the 10,003 train rows (each seed draws its own calibration rows, by
groups of near duplicates), reported on the 3,080 test rows. Prints one line a seed and the mean.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from stillhouse.core.learning import Certificate, Row
from stillhouse.distillation.dataset import Answered, assemble, grouped
from stillhouse.flows.distil import distil_dataset
from stillhouse.flows.metering import Meter
from stillhouse.flows.workbench import Settings
from stillhouse.risk.budget import error_budget
from stillhouse.store.sqlite import SqliteStore
from stillhouse.wiring import distil_house, encodings

FILE = "banking77_deepseek/banking77_deepseek_v4.1_flash.jsonl.gz"


def recorded(data: Path) -> tuple[list[Row], list[Row]]:
    """The train and test rows of the recording."""
    with gzip.open(data / FILE, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    rows = grouped([Answered(str(n), r["text"], r["teacher"]) for n, r in enumerate(found)])
    train = [row for row, r in zip(rows, found, strict=True) if r["split"] == "train"]
    return train, [row for row, r in zip(rows, found, strict=True) if r["split"] != "train"]


def split(rows: list[Row], calibration: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Draw groups for calibration until there are enough rows, in a random stream order."""
    members: dict[int, list[Row]] = {}
    for row in rows:
        members.setdefault(row.group, []).append(row)
    drawn: list[Row] = []
    groups = list(members.values())
    order = np.random.default_rng(seed).permutation(len(groups)).tolist()
    while len(drawn) < calibration:
        drawn += groups[order.pop()]
    return [row for i in sorted(order) for row in groups[i]], drawn


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--calibration", type=int, default=2000)
    options.add_argument(
        "--data", type=Path, default=Path(os.environ.get("STILLHOUSE_DATA", "../shared/data"))
    )
    chosen = options.parse_args()
    train, test = recorded(chosen.data)
    found = []
    with tempfile.TemporaryDirectory() as place:
        database = Path(place) / "bench.db"
        with SqliteStore(database) as store, encodings(str(database)) as cache:
            for seed in range(chosen.seeds):
                began = time.perf_counter()
                data = assemble(f"banking77-{seed}", *split(train, chosen.calibration, seed), test)
                house = distil_house(store, cache, say=lambda _: None)
                settings = Settings(seed=seed, curve=False)
                meter = Meter(data.task, 1, house.clock, settings.usd_per_core_hour, lambda _: None)
                result = distil_dataset(data, settings, house, meter, error_budget(0.05, 1))
                seconds = time.perf_counter() - began
                assert result.test is not None
                verdict = result.verdict
                threshold = verdict.threshold if isinstance(verdict, Certificate) else np.inf
                accepted = result.test.scores >= threshold
                wrong = result.test.disagreements
                figures = (
                    1 - wrong.mean(),
                    verdict.accept_rate if isinstance(verdict, Certificate) else 0.0,
                    accepted.mean(),
                    1 - wrong[accepted].mean() if accepted.any() else np.nan,
                    seconds,
                )
                found.append(figures)
                print(f"seed {seed} {result.recipe:9s} " + line(figures), flush=True)
    print("mean             " + line(tuple(np.nanmean(found, axis=0))))


def line(figures: tuple[float, ...]) -> str:
    agreement, certified, accept, realised, seconds = figures
    return (
        f"agreement {agreement:.2%}  certified {certified:.1%}  accept on test {accept:.1%}  "
        f"agreement of accepted {realised:.2%}  {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
