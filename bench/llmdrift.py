"""A teacher that is replaced: how soon does the watch stop the student who learnt from the old one?

    python bench/llmdrift.py [--runs 20] [--data DIR]

Recorded answers of GPT-4 and GPT-3.5 to the same questions, March and June 2023 (LLMDrift). The
student has learnt the answers of March by heart, but for 2.5 % of the questions; it answers 70 %.
Traffic as in March goes by, then the teacher is that of June. Every row goes through `replay`
and the watch that `stillhouse replay --watch` uses: risk 5 %, run length 5,000. Twice: June says
its name; and the name stays the same, so that only audits can tell.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from statistics import median

from stillhouse.core.learning import AnswerShape, Certificate, Prediction, Target
from stillhouse.core.serving import Charter, Terms
from stillhouse.flows.rehearsal import Rehearsal
from stillhouse.flows.replay import Recorded, replay
from stillhouse.risk.inputs import known_words
from stillhouse.routing.cascade import shadow_coin
from stillhouse.routing.contract import learnt_range

RISK, FORGOTTEN, ACCEPTED, BAR, SHARE = 0.05, 0.025, 0.7, 0.8, 0.05
GOOD_ROWS, LONGEST = 10_000, 40_000
PATTERNS = {
    "PRIME_FULL": r"\[(yes|no)\]",
    "OPINIONQA": r"\(([a-z])\)",
    "COUNTAHAPPYNUMBER": r"boxed\{(\d+)\}",
}
COLUMNS = {"SENSITIVEQ": "Response Rate", "LEETCODE_EASY": "Directly Usable"}
PAIRS = (("gpt-4-0314", "gpt-4-0613"), ("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613"))
Answers = Mapping[str, str]
"""What a model said to each question: the last thing that it marked as its answer, or nothing."""


def recorded(data: Path, task: str) -> dict[str, dict[str, str]]:
    """The answers of each model."""
    csv.field_size_limit(10**8)
    said: dict[str, dict[str, str]] = {}
    with gzip.open(data / f"llmdrift/{task}_EVAL.csv.gz", "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if task in COLUMNS:
                answer = row[COLUMNS[task]]
            else:
                answer = (re.findall(PATTERNS[task], row["answer"].lower()) or ["none"])[-1]
            said.setdefault(row["model"].split("/")[1], {})[row["query"]] = answer
    return said


class ByHeart:
    """A student that knows the answers of March, but for a few."""

    def __init__(self, march: Answers, chance: Random) -> None:
        other = sorted(set(march.values()))
        self._known = {
            text: chance.choice([one for one in other if one != said] or other)
            if chance.random() < FORGOTTEN
            else said
            for text, said in march.items()
        }

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """What was learnt; sure of 70 % of the questions."""
        return [Prediction(self._known[text], 0.9 if sure(text) else 0.5) for text in texts]


def sure(text: str) -> bool:
    """Whether the student answers a question."""
    return blake2b(text.encode(), digest_size=2).digest() < bytes([int(ACCEPTED * 256), 0])


def charter_of(march: Answers, teacher: str) -> tuple[Charter, Certificate]:
    """What the student may be asked; certified, for the sake of the bench."""
    charter = Charter(
        task="llmdrift", version=1, student="by heart", recipe="none", shape=AnswerShape.LABELS,
        answers={said: said for said in march.values()}, levels=(BAR,), planned_rows=1000,
        target=Target(RISK), delta=0.03, recogniser="", prompts=(), asked_models=(teacher,),
        teachers=(teacher,), inputs=learnt_range(tuple(march)),
        words=tuple(sorted(known_words(march))),
    )  # fmt: skip
    proof = Certificate(
        student="by heart", threshold=BAR, max_risk=RISK, confidence=0.95, delta_spent=0.03,
        version=1, n_calibration=1000, n_accepted=700, n_disagreements=17, method="assumed",
        dataset="",
    )  # fmt: skip
    return charter, proof


def rows_of(march: Answers, june: Answers, name: str, later: str, chance: Random) -> list[Recorded]:
    """March for a while, then June, questions in a new order each time around."""
    rows: list[Recorded] = []
    texts = list(march)
    while len(rows) < GOOD_ROWS + LONGEST:
        chance.shuffle(texts)
        for text in texts:
            good = len(rows) < GOOD_ROWS
            said, teacher = (march[text], name) if good else (june[text], later)
            row_id = f"{chance.getrandbits(64):x}"
            rows.append(Recorded(row_id, None, text, said, None, None, teacher))
    return rows[: GOOD_ROWS + LONGEST]


def watched(march: Answers, june: Answers, names: tuple[str, str], seed: int) -> Rehearsal:
    """One run through the watch."""
    chance = Random(seed)
    charter, proof = charter_of(march, names[0])
    terms = Terms(shadow_share=SHARE, on_alarm="stop")
    watch = Rehearsal(charter, proof, terms, GOOD_ROWS + 1)
    student, key = ByHeart(march, chance), str(seed).encode()
    rows = rows_of(march, june, *names, chance)
    # Until the student is stopped; what comes later changes nothing.
    policy = watch.policy_for(rows[0])
    assert policy is not None
    for begin in range(0, len(rows), 500):
        some = rows[begin : begin + 500]
        coin = lambda row_id: shadow_coin(row_id, key, SHARE)  # noqa: E731
        replay(some, policy, student.predict, coin, watch)
        if watch.threshold is None:
            break
    return watch


def line(task: str, march: Answers, june: Answers, names: tuple[str, str], runs: int) -> None:
    """Both ways to notice, or to be silent."""
    asked = [text for text in march if sure(text)]
    differ = sum(march[text] != june[text] for text in asked) / len(asked)
    cells = []
    for later in (names[1], names[0]):
        stops, early = [], 0
        for seed in range(runs):
            found = [one for one in watched(march, june, (names[0], later), seed).happenings
                     if one.threshold is None]  # fmt: skip
            if found and found[0].since is None:
                early += 1
            elif found:
                stops.append(found[0])
        counts = [one.since for one in stops if one.since is not None]
        kinds = "/".join(sorted({one.event for one in stops})) or "silent"
        middle = tuple(int(median(one[n] for one in counts)) for n in range(3)) if counts else ()
        worst = max((one.audited for one in counts), default=0)
        cells.append(
            f"{kinds:<11} {len(stops):>3}/{runs} early {early}"
            + (
                f"  {middle[0]:>6,} {middle[1]:>6,} {middle[2]:>5,} (most {worst:,})"
                if counts
                else ""
            )
        )
    print(f"{task:<18} {names[0]:<19} {differ:6.1%}  {cells[0]}\n{'':<46}  {cells[1]}", flush=True)


def main() -> None:
    """All tasks, and one where nothing changes."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=20)
    options.add_argument(
        "--data", type=Path, default=Path(os.environ.get("STILLHOUSE_DATA", "../shared/data"))
    )
    asked = options.parse_args()
    print(
        f"{asked.runs} runs, {SHARE:.0%} audited, {GOOD_ROWS:,} rows of March, up to {LONGEST:,} "
        "of June\ntask, old teacher, disagreement of the two where the student answers; above: "
        "June says its\nname, below: the same name; event, runs; medians from the change on: "
        "requests, answered by the\nstudent, audited"
    )
    for task in (*PATTERNS, *COLUMNS):
        said = recorded(asked.data, task)
        for march, june in PAIRS:
            line(task, said[march], said[june], (march, june), asked.runs)
        if task == "PRIME_FULL":
            line("the same teacher", said[march], said[march], (march, march), asked.runs)


if __name__ == "__main__":
    main()
