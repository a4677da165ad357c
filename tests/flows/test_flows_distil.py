"""A distillation ends in a certificate or in a refusal with the right reason, and is metered."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillhouse.core.books import Job, JobKind, JobStatus
from stillhouse.core.learning import (
    AnswerShape,
    Certificate,
    Prediction,
    Refusal,
    RefusalReason,
    Task,
    TrainSet,
)
from stillhouse.core.ports import Recipe, Rehearsal, Student
from stillhouse.core.serving import Charter
from stillhouse.distillation.dataset import Answered
from stillhouse.flows.distil import Distillation, distil
from stillhouse.flows.workbench import House, Settings
from stillhouse.risk.budget import error_budget
from stillhouse.students.lexical import LexicalRecipe
from stillhouse.students.shelf import read_student

LABELS = ("refund", "repair", "track")
TASK = Task("desk", "sig", AnswerShape.LABELS, "{text}", labels=LABELS)


class OpenBook:
    """A student whose texts tell label and confidence: `refund 0.93 #17` is refund at 0.93."""

    recipe = "open book"
    labels = LABELS

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        words = [text.split() for text in texts]
        return [Prediction(word[0], float(word[1])) for word in words]

    def odds(self, texts: Sequence[str]) -> Any:
        said = self.predict(texts)
        rest = len(LABELS) - 1
        rows = [
            [a.score if a.label == each else (1 - a.score) / rest for each in LABELS] for a in said
        ]
        return np.array(rows).reshape(len(said), len(LABELS))

    def to_bytes(self) -> bytes:
        return b"open book"


class OpenBookRecipe:
    """Fits an OpenBook; can be told to be interrupted once."""

    voices = ()

    def __init__(self, name: str = "open book", interrupted: bool = False) -> None:
        self.name = name
        self.interrupted = interrupted
        self.rehearsed = 0

    def rehearse(
        self,
        train: TrainSet,
        held_out: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        below: Mapping[str, Rehearsal],
    ) -> Rehearsal:
        self.rehearsed += 1
        logits = np.zeros((len(held_out.rows), len(labels)))
        for row, found in enumerate(OpenBook().predict([r.text for r in held_out.rows])):
            rest = (1 - found.score) / (len(labels) - 1)
            logits[row] = np.log(rest)
            logits[row, labels.index(found.label)] = np.log(found.score)
        return Rehearsal(logits, (1.0,))

    def fit(
        self,
        train: TrainSet,
        labels: tuple[str, ...],
        seed: int,
        rehearsal: Rehearsal,
        below: Mapping[str, Student],
    ) -> Student:
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt
        return OpenBook()


class Bench:
    """Keeps everything in lists and dictionaries."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.verdicts: list[Certificate | Refusal] = []
        self.artefacts: dict[str, bytes] = {}
        self.charters: list[Charter] = []

    def add_job(self, job: Job) -> None:
        self.jobs.append(job)

    def put_artefact(self, body: bytes) -> str:
        self.artefacts[str(hash(body))] = body
        return str(hash(body))

    def put_student(
        self, task: str, version: int, recipe: str, artefact: bytes, created_us: int
    ) -> str:
        return self.put_artefact(artefact)

    def get_student(self, digest: str) -> bytes:
        return self.artefacts[digest]

    def put_charter(self, charter: Charter) -> None:
        assert not self.verdicts
        self.charters.append(charter)

    def add_verdict(
        self, task: str, version: int, verdict: Certificate | Refusal, at_us: int
    ) -> None:
        self.verdicts.append(verdict)


class Notebook(dict[str, bytes]):
    """Notes of interrupted runs."""

    def put(self, key: str, body: bytes) -> None:
        self[key] = body


class Metronome:
    """Every look at the clock is a second later; a core is busy half the time."""

    def __init__(self) -> None:
        self.ticks = 0

    def now_us(self) -> int:
        self.ticks += 1
        return self.ticks * 1_000_000

    def wall_seconds(self) -> float:
        return float(self.now_us() // 1_000_000)

    def cpu_seconds(self) -> float:
        return self.wall_seconds() / 2


def house(
    *recipes: Any,
    notes: Notebook | None = None,
    bench: Bench | None = None,
    read: Callable[[bytes], Student] = lambda body: OpenBook(),
) -> House:
    ladder: dict[str, Recipe] = {recipe.name: recipe for recipe in recipes}
    return House(
        bench=bench if bench is not None else Bench(),
        notes=notes if notes is not None else Notebook(),
        clock=Metronome(),
        recipes=ladder,
        read_student=read,
        say=lambda sentence: None,
    )


def traffic(n: int, wrong_at: Callable[[float], float], seed: int = 0) -> list[Answered]:
    """Rows whose teacher differs from the text with the probability that `wrong_at(score)` says."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        label = LABELS[int(rng.integers(3))]
        score = round(float(rng.uniform(0.4, 0.999)), 4)
        said = label
        if rng.random() < wrong_at(score):
            said = LABELS[(LABELS.index(label) + 1) % 3]
        noise = "".join(map(chr, rng.integers(97, 123, size=12)))
        rows.append(Answered(f"r{number}", f"{label} {score} {noise}", said))
    return rows


def run(
    rows: Sequence[Answered], settings: Settings | None = None, at: House | None = None
) -> Distillation:
    return distil(TASK, rows, settings or Settings(curve=False), at or house(OpenBookRecipe()))


def reason(result: Distillation) -> RefusalReason:
    assert isinstance(result.verdict, Refusal), result.verdict
    return result.verdict.reason


def test_a_good_student_is_certified_and_its_counts_add_up() -> None:
    result = run(traffic(6000, lambda score: 0.12 * (1 - score) / 0.6 + 0.002))
    proven = result.verdict
    assert isinstance(proven, Certificate)
    assert result.calibration is not None
    accepted = result.calibration.scores >= proven.threshold
    assert proven.n_accepted == int(accepted.sum())
    assert proven.n_disagreements == int(result.calibration.disagreements[accepted].sum())
    assert proven.delta_spent == pytest.approx(error_budget(0.05, 1))
    assert proven.accept_rate > 0.5


def test_a_second_version_gets_a_smaller_part_of_the_error_budget() -> None:
    rows = traffic(6000, lambda score: 0.01)
    first = run(rows).verdict
    second = run(rows, Settings(curve=False, version=2)).verdict
    assert isinstance(first, Certificate)
    assert isinstance(second, Certificate)
    assert second.delta_spent == pytest.approx(first.delta_spent / 4)


def test_sixty_rows_are_too_few_and_nothing_is_fitted() -> None:
    recipe = OpenBookRecipe()
    result = run(traffic(60, lambda score: 0.0), at=house(recipe))
    assert reason(result) is RefusalReason.TOO_FEW_ROWS
    assert recipe.rehearsed == 0


def test_a_teacher_that_contradicts_itself_on_repeats_is_refused_before_fitting() -> None:
    rows = traffic(3000, lambda score: 0.26)
    again = [Answered(f"again{n}", row.text, LABELS[n % 3]) for n, row in enumerate(rows[:300])]
    recipe = OpenBookRecipe()
    assert reason(run([*rows, *again], at=house(recipe))) is RefusalReason.TEACHER_NOISE
    assert recipe.rehearsed == 0


def test_flat_noise_without_repeats_is_blamed_on_the_teacher_after_the_gate() -> None:
    assert reason(run(traffic(4000, lambda score: 0.26))) is RefusalReason.TEACHER_NOISE


def test_a_weak_student_is_not_blamed_on_the_teacher() -> None:
    result = run(traffic(2000, lambda score: min(0.9, 1.9 * (1 - score) + 0.06)))
    assert reason(result) is RefusalReason.NO_LEVEL_QUALIFIES


def test_one_label_leaves_nothing_to_learn() -> None:
    rows = [Answered(str(n), f"refund 0.9 {n * 7919:06}", "refund") for n in range(600)]
    assert reason(run(rows)) is RefusalReason.ONE_LABEL


def test_a_task_without_labels_is_refused_with_its_shape() -> None:
    fields = Task("invoices", "s", AnswerShape.FIELDS, "{text}", fields=("a", "b"))
    result = distil(fields, [], Settings(), house(OpenBookRecipe()))
    assert reason(result) is RefusalReason.NOT_A_LABEL_TASK


def test_few_declared_groups_are_refused_however_many_rows_there_are() -> None:
    rows = [
        Answered(row.row_id, row.text, row.answer, f"layout{n % 12}")
        for n, row in enumerate(traffic(3000, lambda score: 0.0))
    ]
    result = run(rows, Settings(curve=False, declared_groups=True))
    assert reason(result) is RefusalReason.SHIFTED_GROUPS


def test_calibration_rows_unlike_the_training_rows_are_refused() -> None:
    rows = traffic(4000, lambda score: 0.0)
    later = [
        Answered(row.row_id, row.text.replace(row.text.split()[1], "0.45"), row.answer)
        for row in rows[2400:]
    ]
    assert reason(run([*rows[:2400], *later])) is RefusalReason.SHIFTED_GROUPS


def test_every_step_is_metered_and_the_verdict_is_kept() -> None:
    bench = Bench()
    result = run(traffic(4000, lambda score: 0.01), at=house(OpenBookRecipe(), bench=bench))
    kinds = [(job.kind, job.status) for job in bench.jobs]
    assert (JobKind.TRAIN, JobStatus.OK) in kinds
    assert (JobKind.CALIBRATE, JobStatus.PROMOTED) in kinds
    assert all(job.cost.pico > 0 for job in bench.jobs)
    assert len({job.job_id for job in bench.jobs}) == len(bench.jobs)
    assert bench.verdicts == [result.verdict]
    assert result.jobs == tuple(bench.jobs)


def test_an_interruption_is_booked_as_cancelled_and_a_resumed_run_skips_what_was_done() -> None:
    rows, notes, bench = traffic(4000, lambda score: 0.01), Notebook(), Bench()
    recipe = OpenBookRecipe(interrupted=True)
    at = house(recipe, notes=notes, bench=bench)
    with pytest.raises(KeyboardInterrupt):
        run(rows, at=at)
    assert bench.jobs[-1].status is JobStatus.CANCELLED
    assert not bench.verdicts
    result = run(rows, Settings(curve=False, resume=True), at)
    assert recipe.rehearsed == 1
    assert isinstance(result.verdict, Certificate)


def relabelled(rows: Sequence[Answered], share: float) -> list[Answered]:
    """The same rows with a share of the answers swapped for another row's, as noise would."""
    rng = np.random.default_rng(3)
    answers = [row.answer for row in rows]
    return [
        Answered(row.row_id, row.text, answers[int(rng.integers(len(answers)))])
        if rng.random() < share
        else row
        for row in rows
    ]


@pytest.fixture(scope="module")
def intents(recorded: Path) -> list[Answered]:
    path = recorded / "banking77_deepseek/banking77_deepseek_v4.1_flash.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    found.sort(key=lambda row: row["ts"])
    return [Answered(str(n), row["text"], row["teacher"]) for n, row in enumerate(found[:6000])]


def lexical(rows: Sequence[Answered]) -> Distillation:
    at = house(LexicalRecipe(), read=read_student)
    return distil(TASK, rows, Settings(curve=False), at)


def test_recorded_intents_are_certified_by_the_lexical_student(intents: list[Answered]) -> None:
    result = lexical(intents)
    assert isinstance(result.verdict, Certificate)
    assert result.verdict.accept_rate > 0.3


def test_recorded_intents_with_26_percent_noise_are_refused_for_it(
    intents: list[Answered],
) -> None:
    assert reason(lexical(relabelled(intents, 0.26))) is RefusalReason.TEACHER_NOISE


def test_recorded_invoices_of_unseen_layouts_are_refused(recorded: Path) -> None:
    path = recorded / "invoices_deepseek/invoices_deepseek_v4_flash.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    rows = [
        Answered(str(n), row["text"], json.loads(row["teacher"])["currency"], row["template"])
        for n, row in enumerate(found)
    ]
    at = house(LexicalRecipe(), read=read_student)
    result = distil(TASK, rows, Settings(curve=False, declared_groups=True), at)
    assert reason(result) is RefusalReason.SHIFTED_GROUPS
