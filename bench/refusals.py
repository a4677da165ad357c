"""What must be refused, is it refused, and with the right reason?

    python bench/refusals.py [--data DIR]

Recorded answers, the whole ladder, the defaults of `stillhouse distil`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distil_banking77 import FILE
from stillhouse.core.learning import AnswerShape, Certificate, Task
from stillhouse.distillation.dataset import Answered
from stillhouse.flows.distil import distil
from stillhouse.flows.workbench import Settings
from stillhouse.store.sqlite import SqliteStore
from stillhouse.wiring import distil_house, encodings

INVOICES = "invoices_deepseek/invoices_deepseek_v4_flash.jsonl.gz"


def rows_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return sorted(map(json.loads, lines), key=lambda row: row["ts"])


def relabelled(rows: Sequence[Answered], share: float) -> list[Answered]:
    """A share of the answers swapped for those of other rows: a noisy teacher."""
    rng = np.random.default_rng(0)
    answers = [row.answer for row in rows]
    return [
        Answered(row.row_id, row.text, answers[int(rng.integers(len(rows)))], row.group)
        if rng.random() < share
        else row
        for row in rows
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("STILLHOUSE_DATA", "../shared/data"))
    options.add_argument("--data", type=Path, default=default)
    data = options.parse_args().data
    intents = [
        Answered(str(n), row["text"], row["teacher"]) for n, row in enumerate(rows_of(data / FILE))
    ]
    invoices = [
        Answered(str(n), row["text"], json.loads(row["teacher"])["currency"], row["template"])
        for n, row in enumerate(rows_of(data / INVOICES))
    ]
    # Training layouts first, then the unseen ones, as a new supplier would come in.
    later = sorted(invoices, key=lambda row: row.group)
    bare = [Answered(row.row_id, row.text, row.answer) for row in later]
    cases = {
        "invoice currency, layouts declared as groups": (invoices, True),
        "invoice currency, new layouts come later, undeclared": (bare, False),
        "BANKING77, 26 % of the answers swapped": (relabelled(intents, 0.26), False),
        "BANKING77, 60 rows": (intents[:60], False),
        "BANKING77 as it is": (intents, False),
    }
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "bench.db"
        with SqliteStore(path) as store, encodings(str(path)) as cache:
            house = distil_house(store, cache, say=lambda sentence: None)
            for name, (rows, declared) in cases.items():
                settings = Settings(curve=False, declared_groups=declared)
                task = Task(name, "", AnswerShape.LABELS, "{text}")
                verdict = distil(task, rows, settings, house).verdict
                if isinstance(verdict, Certificate):
                    print(f"{name}: certified, accepts {verdict.accept_rate:.1%}")
                else:
                    print(f"{name}: refused, {verdict.reason}: {verdict.sentence}")


if __name__ == "__main__":
    main()
