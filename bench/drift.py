"""How soon is drift noticed, and how often is it noticed where there is none?

    python bench/drift.py [--runs 1000] [--data DIR]

Four parts. Simulated answers for the watch on disagreements, beside a check that starts once; false
alarms of traffic that keeps its promise; simulated inputs for the watch on inputs, beside one whose
reference stays as it was; recorded answers, where a folder holds them. Risk 5 %, run length 5,000
audited answers and 100,000 inputs: every request is an input, one in twenty is audited.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distil_banking77 import FILE
from stillhouse.core.learning import Row, Target
from stillhouse.distillation import ladder
from stillhouse.distillation.dataset import Answered, assemble, grouped, rehearsal_split
from stillhouse.flows.distil import held
from stillhouse.risk import inputs
from stillhouse.risk.certificate import grid, open_gate
from stillhouse.risk.drift import first_alarm, looked_for
from stillhouse.risk.evidence import Floats
from stillhouse.students.lexical import LexicalRecipe

RISK, GOOD, RUN_LENGTH, GOOD_ROWS = 0.05, 0.025, 5000.0, 3000
INPUT_RUN_LENGTH, INPUT_RUNS, INPUT_ROWS, REFERENCE = 100_000.0, 200, 20_000, 1000
Wrong = npt.NDArray[np.bool_]
Draw = Callable[[np.random.Generator, int], Floats]


def single_start(wrong: Wrong, delta: float = 0.05) -> int | None:
    """A check that starts once: the same ratios, multiplied from row one; alarm at 1/delta."""
    risks = np.array(looked_for(RISK))
    steps = np.where(
        wrong[:, None], np.log(risks / RISK), np.log((1 - risks) / (1 - RISK))
    )  # fmt: skip
    mean = np.logaddexp.reduce(np.cumsum(steps, axis=0), axis=1) - np.log(len(risks))
    high = np.flatnonzero(mean >= np.log(1 / delta))
    return int(high[0]) + 1 if len(high) else None


def shipped(wrong: Wrong) -> int | None:
    return first_alarm(wrong, RISK, RUN_LENGTH)


def delays(alarm: Callable[[Wrong], int | None], good: int, bad: float, runs: int) -> str:
    """Rows from the jump to the alarm; runs that alarm before it are counted apart."""
    rng = np.random.default_rng(1)
    found, early = [], 0
    for _ in range(runs):
        wrong = np.concatenate([rng.random(good) < GOOD, rng.random(20_000) < bad])
        at = alarm(wrong[: good + 2_500]) or alarm(wrong)
        early += at is not None and at <= good
        if at is None or at > good:
            found.append(len(wrong) - good if at is None else at - good)
    return f"{summary(found)}  early {early / runs:6.2%}"


def summary(found: Sequence[float]) -> str:
    if not found:
        return f"{'-':>8}{'-':>8}"
    return f"{np.median(found):8.0f}{np.quantile(found, 0.95):8.0f}"


def answers(runs: int) -> None:
    print(f"\nAudited answers from a jump to the alarm, good rows at {GOOD:.1%}, {runs} runs")
    print(f"{'check':<24}{'good rows':>10}{'to':>8}{'median':>8}{'95 %':>8}")
    for bad in (0.075, 0.10, 0.15, 0.25):
        found = delays(shipped, GOOD_ROWS, bad, runs)
        print(f"{'ours':<24}{GOOD_ROWS:>10,}{bad:8.1%}{found}", flush=True)
    for bad in (0.10, 0.15):
        for good in (200, 1000, 3000):
            found = delays(single_start, good, bad, max(runs // 4, 50))
            print(f"{'a check begun once':<24}{good:>10,}{bad:8.1%}{found}", flush=True)


def false_alarms(runs: int = 200, rows: int = 200_000) -> None:
    """Traffic that keeps the promise: how long until it is doubted?"""
    print(f"\nFalse alarms, {runs} runs of up to {rows:,} answers, run length {RUN_LENGTH:,.0f}")
    for risk in (RISK, 0.04, GOOD):
        rng = np.random.default_rng(2)
        found = [shipped(rng.random(rows) < risk) or rows for _ in range(runs)]
        silent = sum(at == rows for at in found) / runs
        within = np.mean([at <= 1000 for at in found])
        print(
            f"disagreement {risk:5.1%}: mean answers to the alarm {np.mean(found):9,.0f} "
            f"(promised {RUN_LENGTH:,.0f}), within 1,000 {within:5.1%} "
            f"(promised at most {1000 / RUN_LENGTH:.0%}), never {silent:6.1%}",
            flush=True,
        )


def input_alarm(
    reference: inputs.Reference, values: Floats, ties: Floats, fixed: bool = False
) -> tuple[int | None, str]:
    """Rows to the alarm, and where it points; `fixed` keeps the reference as it was."""
    watching = inputs.watch_inputs(reference, INPUT_RUN_LENGTH)
    for row, (value, tie) in enumerate(zip(values.tolist(), ties.tolist(), strict=True), start=1):
        watching = inputs.after_input(watching, value, tie)
        if fixed:
            watching = replace(watching, reference=reference)
        if watching.alarm:
            return row, watching.direction
    return None, ""


@dataclass(frozen=True)
class Shift:
    """What a value looks like before and after."""

    name: str
    edges: tuple[float, ...]
    before: Draw
    after: Draw


def scores(rng: np.random.Generator, n: int) -> Floats:
    return rng.beta(8, 1, n)


def mixed(share: float, usual: Draw, other: Draw) -> Draw:
    """A share of the rows is of another kind."""

    def draw(rng: np.random.Generator, n: int) -> Floats:
        return np.where(rng.random(n) < share, other(rng, n), usual(rng, n))

    return draw


def unsure(rng: np.random.Generator, n: int) -> Floats:
    return rng.beta(2, 2, n)


def new_share(rate: float) -> Draw:
    """Shares of new words in texts of twelve words."""
    return lambda rng, n: rng.binomial(12, rate, n) / 12


def lengths(median: float) -> Draw:
    return lambda rng, n: np.round(median * np.exp(0.5 * rng.standard_normal(n)))


SHIFTS = (
    Shift(
        "scores: 30 % of the rows are of an unknown kind",
        inputs.SCORE_EDGES,
        scores,
        mixed(0.3, scores, unsure),
    ),
    Shift(
        "scores: 10 % of the rows are of an unknown kind",
        inputs.SCORE_EDGES,
        scores,
        mixed(0.1, scores, unsure),
    ),
    Shift("new words: from 3 % to 8 %", inputs.SHARE_EDGES, new_share(0.03), new_share(0.08)),
    Shift("lengths: half as long again", inputs.LENGTH_EDGES, lengths(60), lengths(90)),
)


def simulated_inputs() -> None:
    print(
        f"\nInputs, {INPUT_RUNS} runs, reference of {REFERENCE:,} rows: rows from a shift to the "
        "alarm\n" + f"{'shift':<50}{'good rows':>10}{'median':>8}{'95 %':>8}"
    )
    for shift in SHIFTS:
        for good in (0, 3000):
            rng = np.random.default_rng(3)
            found, early = [], 0
            for _ in range(INPUT_RUNS):
                reference = inputs.refer(shift.edges, shift.before(rng, REFERENCE))
                values = np.concatenate([shift.before(rng, good), shift.after(rng, 3000)])
                at, _ = input_alarm(reference, values, rng.random(len(values)))
                early += at is not None and at <= good
                if at is None or at > good:
                    found.append(3000 if at is None else at - good)
            missed = sum(delay == 3000 for delay in found)
            print(
                f"{shift.name:<50}{good:>10,}{summary(found)}  early {early / INPUT_RUNS:6.2%}"
                f"  missed {missed / INPUT_RUNS:6.2%}",
                flush=True,
            )
    print(
        f"\nFalse alarms of scores, {INPUT_RUNS} runs of {INPUT_ROWS:,} rows without a shift, "
        f"promised at most {INPUT_ROWS / INPUT_RUN_LENGTH:.0%}"
    )
    for size in (200, REFERENCE):
        for fixed in (False, True):
            rng = np.random.default_rng(4)
            early = 0
            for _ in range(INPUT_RUNS):
                reference = inputs.refer(inputs.SCORE_EDGES, scores(rng, size))
                values, ties = scores(rng, INPUT_ROWS), rng.random(INPUT_ROWS)
                early += input_alarm(reference, values, ties, fixed)[0] is not None
            name = "reference stays as it was" if fixed else "ours, live rows join"
            print(f"{name:<30}{size:>6,} rows: {early / INPUT_RUNS:6.1%} alarm", flush=True)


@dataclass(frozen=True)
class Live:
    """A frozen student's view of rows: what the two watches see."""

    texts: tuple[str, ...]
    scores: Floats
    wrong: Wrong

    def take(self, places: npt.NDArray[np.int64]) -> Live:
        texts = tuple(self.texts[place] for place in places)
        return Live(texts, self.scores[places], self.wrong[places])


def joined(first: Live, then: Live) -> Live:
    return Live(
        first.texts + then.texts,
        np.concatenate([first.scores, then.scores]),
        np.concatenate([first.wrong, then.wrong]),
    )


def with_typos(text: str, rng: np.random.Generator, share: float = 0.06) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return "".join(
        letters[int(rng.integers(26))] if sign.isalpha() and rng.random() < share else sign
        for sign in text
    )


def banking77(data: Path, runs: int = 40) -> None:
    """A student of 57 intents; then come the other 20, or typing errors, or two texts in one."""
    with gzip.open(data / FILE, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    rows = grouped([Answered(str(n), r["text"], r["teacher"]) for n, r in enumerate(found)])
    rng = np.random.default_rng(5)
    intents = sorted({r["gold"] for r in found})
    late = set(rng.permutation(intents)[:20].tolist())
    order = rng.permutation(len(rows)).tolist()
    usual = [rows[place] for place in order if found[place]["gold"] not in late]
    strange = [rows[place] for place in order if found[place]["gold"] in late]
    train, calibration, rest = usual[:5000], usual[5000:7000], usual[7000:]
    dataset = assemble("banking77", train, calibration, rest)
    kept, apart = rehearsal_split(dataset.train)
    recipe = LexicalRecipe()
    said = {"lexical": recipe.rehearse(kept, apart, dataset.labels, 0, {})}
    rung = ladder.rung("lexical", said["lexical"], apart.rows, dataset.labels, Target(), RISK)
    student = ladder.fit("lexical", {"lexical": recipe}, said, dataset.train, dataset.labels, 0)

    def seen(asked: Sequence[Row]) -> Live:
        result = held(student, asked)
        return Live(tuple(row.text for row in asked), result.scores, result.disagreements)

    judged = seen(calibration)
    gate = open_gate(judged.scores, judged.wrong, grid(rung.scores), RISK, RISK)
    assert gate.threshold is not None
    normal, threshold = seen(rest), gate.threshold
    accepted = normal.scores >= threshold
    print(
        f"\nBANKING77, 57 of 77 intents learnt from {len(train):,} rows; accepts "
        f"{accepted.mean():.1%} of {len(rest):,} further rows, of which "
        f"{normal.wrong[accepted].mean():.1%} disagree; {runs} orders of the rows"
        f"\n{'from then on':<34}{'accepts':>9}{'disagrees':>10}   rows to alarm, median and 95 %"
        f"\n{'':<53}{'audited answers':>16}{'scores':>16}{'new words':>16}{'lengths':>16}"
    )
    typed = [replace(row, text=with_typos(row.text, rng)) for row in rest]
    double = [
        replace(row, text=f"{row.text} {other.text}")
        for row, other in zip(rest, reversed(rest), strict=True)
    ]
    half = [rows for pair in zip(strange, rest, strict=False) for rows in pair]
    cases = {
        "nothing changes": normal,
        "20 new intents, half of the rows": seen(half),
        "20 new intents, all rows": seen(strange),
        "6 % of the letters mistyped": seen(typed),
        "two questions in one": seen(double),
    }
    known = inputs.known_words(row.text for row in train)
    for name, changed in cases.items():
        print(real_line(name, normal, changed, judged, known, threshold, runs), flush=True)


def real_line(
    name: str,
    normal: Live,
    changed: Live,
    judged: Live,
    known: frozenset[str],
    threshold: float,
    runs: int,
) -> str:
    rng = np.random.default_rng(6)
    measures: dict[str, tuple[tuple[float, ...], Callable[[Live], Floats]]] = {
        "scores": (inputs.SCORE_EDGES, lambda live: live.scores),
        "new words": (
            inputs.SHARE_EDGES,
            lambda live: np.array([inputs.new_words(text, known) for text in live.texts]),
        ),
        "lengths": (
            inputs.LENGTH_EDGES,
            lambda live: np.array([float(len(text)) for text in live.texts]),
        ),
    }
    good = len(normal.texts) // 2
    found: dict[str, list[float]] = {"answers": [], **{measure: [] for measure in measures}}
    early = dict.fromkeys(found, 0)
    for _ in range(runs):
        places = rng.permutation(len(normal.texts))
        tail = normal.take(places[good:]) if changed is normal else changed
        then = tail.take(rng.permutation(len(tail.texts)))
        live = joined(normal.take(places[:good]), then)
        serves = live.scores >= threshold
        at = first_alarm(live.wrong[serves], RISK, RUN_LENGTH)
        note(found, early, "answers", at, int(serves[:good].sum()))
        for measure, (edges, values) in measures.items():
            reference = inputs.refer(edges, values(judged))
            at, _ = input_alarm(reference, values(live), rng.random(len(live.texts)))
            note(found, early, measure, at, good)
    sure = changed.scores >= threshold
    cells = "".join(
        f"{cell(delays, early[measure], runs):>16}" for measure, delays in found.items()
    )
    return f"{name:<34}{sure.mean():9.1%}{changed.wrong[sure].mean():10.1%}{cells}"


def note(
    found: dict[str, list[float]], early: dict[str, int], measure: str, at: int | None, good: int
) -> None:
    """Keep a delay; infinite where there was no alarm, apart where it came before the change."""
    if at is not None and at <= good:
        early[measure] += 1
    else:
        found[measure].append(np.inf if at is None else at - good)


def cell(found: Sequence[float], early: int, runs: int) -> str:
    told = [np.quantile(found, q, method="higher") for q in (0.5, 0.95)] if found else [np.inf] * 2
    shown = "/".join("-" if np.isinf(value) else f"{value:.0f}" for value in told)
    return shown + (f" e{early / runs:.0%}" if early else "")


def teachers(data: Path, runs: int = 200) -> None:
    """A student that copies the teacher of March, but for 2.5 %; then comes the one of June."""
    print(f"\nThe teacher is replaced, llmdrift, {runs} runs: audited answers to the alarm")
    tasks = {"PRIME_FULL_EVAL": r"\[(yes|no)\]", "OPINIONQA_EVAL": r"\(([a-z])\)"}
    pairs = (("gpt-4-0314", "gpt-4-0613"), ("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613"))
    csv.field_size_limit(10**8)
    for task, pattern in tasks.items():
        said: dict[str, dict[str, str]] = {}
        with gzip.open(data / f"llmdrift/{task}.csv.gz", "rt", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                options = re.findall(pattern, row["answer"].lower())
                model = row["model"].split("/")[1]
                said.setdefault(model, {})[row["id"]] = options[0] if options else ""
        for march, june in pairs:
            differ = np.array([said[march][key] != said[june][key] for key in said[march]])
            rng = np.random.default_rng(7)
            found = []
            for _ in range(runs):
                good = rng.random(GOOD_ROWS) < GOOD
                at = shipped(np.concatenate([good, rng.permutation(differ)]))
                if at is not None and at > GOOD_ROWS:
                    found.append(at - GOOD_ROWS)
            print(
                f"{task:<16} {march:<19} -> {june:<19} disagree {differ.mean():6.1%}"
                f"{summary(found)}",
                flush=True,
            )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=1000)
    options.add_argument(
        "--data", type=Path, default=Path(os.environ.get("STILLHOUSE_DATA", "../shared/data"))
    )
    chosen = options.parse_args()
    answers(chosen.runs)
    false_alarms()
    simulated_inputs()
    if chosen.data.is_dir():
        teachers(chosen.data)
        banking77(chosen.data)
    else:
        print(f"\nno recorded answers at {chosen.data}; name their folder with --data")


if __name__ == "__main__":
    main()
