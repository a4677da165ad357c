"""The story of a distillation: dataset, ladder, the frozen student, the gate, the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import orjson

from stillhouse.core.books import Job, JobKind, JobStatus
from stillhouse.core.learning import (
    Certificate,
    Dataset,
    Prediction,
    Refusal,
    RefusalReason,
    Row,
    Task,
)
from stillhouse.core.ports import Rehearsal, Student
from stillhouse.core.serving import Charter
from stillhouse.distillation import dataset as datasets
from stillhouse.distillation import ladder
from stillhouse.distillation.shapes import comparable, wrong_shape
from stillhouse.flows.chartering import charter_of, written_forms
from stillhouse.flows.metering import Meter
from stillhouse.flows.workbench import House, Settings
from stillhouse.risk import refusal
from stillhouse.risk.budget import error_budget
from stillhouse.risk.certificate import Gate, open_gate
from stillhouse.risk.evidence import Floats

METHOD = "e-process fixed sequence (0.9 delta) and 12 levels side by side (0.1 delta)"


@dataclass(frozen=True, slots=True)
class Held:
    """What the frozen student did on rows: scores and disagreements, in stream order."""

    rows: tuple[Row, ...]
    predictions: tuple[Prediction, ...]
    scores: Floats
    disagreements: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Distillation:
    """What came of it; parts that were not reached are None or empty."""

    task: str
    version: int
    dataset: Dataset | None
    verdict: Certificate | Refusal
    rungs: tuple[ladder.Rung, ...] = ()
    recipe: str = ""
    student: str = ""
    gate: Gate | None = None
    calibration: Held | None = None
    test: Held | None = None
    curve: tuple[ladder.CurvePoint, ...] = ()
    jobs: tuple[Job, ...] = ()


def distil(
    task: Task, answered: Sequence[datasets.Answered], settings: Settings, house: House
) -> Distillation:
    """Build, climb, freeze, certify and report; or refuse, with the reason.

    `answered` are the task's rows in time order. Calibration rows are seen once, by the frozen
    student read back from its artefact; test rows once, after the verdict, for the report.
    """
    jobs: list[Job] = []

    def book(job: Job) -> None:
        house.bench.add_job(job)
        jobs.append(job)

    meter = Meter(task.name, settings.version, house.clock, settings.usd_per_core_hour, book)
    found = _run(task, answered, settings, house, meter)
    house.bench.add_verdict(task.name, settings.version, found.verdict, house.clock.now_us())
    return replace(found, jobs=tuple(jobs))


def _run(
    task: Task,
    answered: Sequence[datasets.Answered],
    settings: Settings,
    house: House,
    meter: Meter,
) -> Distillation:
    delta = error_budget(1 - settings.target.confidence, settings.version)
    wrong = wrong_shape(task, answered)
    if wrong is not None:
        return _refused(task, settings, None, wrong)
    answered = comparable(task, answered)
    with meter.running(JobKind.EVALUATE, step="dataset") as ticket:
        house.say(f"building the dataset from {len(answered):,} answered requests")
        data = datasets.build(task.name, answered)
        ticket.detail |= _sizes(data)
    doubt = _doubts(data, answered, settings, delta)
    if doubt is not None:
        return _refused(task, settings, data, doubt)
    chartered = partial(charter_of, task, literals=written_forms(data, answered))
    return distil_dataset(
        data, settings, house, meter, delta, datasets.repeats(answered), chartered
    )


def distil_dataset(
    data: Dataset,
    settings: Settings,
    house: House,
    meter: Meter,
    delta: float,
    repeats: refusal.Repeats = refusal.NO_REPEATS,
    chartered: Callable[..., Charter] | None = None,
) -> Distillation:
    """Climb the ladder on a dataset that is split already, certify, and report.

    `chartered` makes the student's charter; without it the student can never be put to work.
    """
    rungs = _climb(data, settings, house, meter, delta)
    best = ladder.chosen(rungs)
    curve = _curve(data, best, settings, house, meter, delta) if settings.curve else ()
    artefact = _fit(data, best, rungs, settings, house, meter)
    digest = house.bench.put_student(
        data.task, settings.version, best.recipe, artefact, house.clock.now_us()
    )
    if chartered is not None:  # before any calibration row is seen
        house.bench.put_charter(
            chartered(
                data=data,
                best=best,
                settings=settings,
                student=digest,
                delta=delta,
                now_us=house.clock.now_us(),
            )
        )
    # The certificate is about what will serve: the artefact, read back.
    student = house.read_student(house.bench.get_student(digest))
    with meter.running(JobKind.CALIBRATE, recipe=best.recipe, student=digest) as ticket:
        house.say(f"certifying {best.recipe} on {len(data.calibration.rows):,} calibration rows")
        ticket.detail["membership"] = house.bench.put_artefact(membership(data))
        calibration = held(student, data.calibration.rows)
        gate, verdict = _judge(data, best, calibration, digest, settings, delta, repeats)
        ticket.status = (
            JobStatus.PROMOTED if isinstance(verdict, Certificate) else JobStatus.REJECTED
        )
    with meter.running(JobKind.EVALUATE, step="test", recipe=best.recipe) as ticket:
        test = held(student, data.test.rows)
        ticket.detail |= _counts(test, verdict)
    return Distillation(
        task=data.task,
        version=settings.version,
        dataset=data,
        verdict=verdict,
        rungs=tuple(rungs),
        recipe=best.recipe,
        student=digest,
        gate=gate,
        calibration=calibration,
        test=test,
        curve=curve,
    )


def held(student: Student, rows: Sequence[Row]) -> Held:
    """Ask a frozen student about rows and compare it with the teacher."""
    predictions = student.predict([row.text for row in rows])
    wrong = [p.label != row.label for p, row in zip(predictions, rows, strict=True)]
    return Held(
        rows=tuple(rows),
        predictions=tuple(predictions),
        scores=np.array([p.score for p in predictions], dtype=np.float64),
        disagreements=np.array(wrong, dtype=bool),
    )


def membership(data: Dataset) -> bytes:
    """Which rows were in which set, so that a replay can tell seen rows from unseen ones."""
    sets = {
        "train": data.train.rows,
        "calibration": data.calibration.rows,
        "test": data.test.rows,
    }
    ids = {name: [row.row_id for row in rows] for name, rows in sets.items()}
    return orjson.dumps({"digest": data.digest, **ids})


def _doubts(
    data: Dataset, answered: Sequence[datasets.Answered], settings: Settings, delta: float
) -> Refusal | None:
    """The reasons to refuse that are known before anything is fitted."""
    if len(data.labels) < 2:
        return Refusal(
            RefusalReason.ONE_LABEL,
            f"the training rows have {len(data.labels)} label that occurs more than once; there is "
            "nothing to learn: answer by a rule, or import more varied traffic",
            {"labels": len(data.labels)},
        )
    few = refusal.too_few_rows(len(data.calibration.rows), settings.target, delta)
    noise = refusal.teacher_noise(datasets.repeats(answered), settings.target)
    groups = None
    if settings.declared_groups:
        distinct = len({row.group for row in data.calibration.rows})
        groups = refusal.too_few_groups(distinct, settings.target, delta)
    return few or noise or groups


def _climb(
    data: Dataset, settings: Settings, house: House, meter: Meter, delta: float
) -> list[ladder.Rung]:
    """Rehearse every recipe, cheapest first."""
    kept, apart = datasets.rehearsal_split(data.train)
    rehearsals: dict[str, Rehearsal] = {}
    rungs: list[ladder.Rung] = []
    for name, recipe in house.recipes.items():
        with meter.running(JobKind.TRAIN, recipe=name, step="rehearsal") as ticket:
            house.say(f"rehearsing {name} on {len(kept.rows):,} rows")
            key = f"rehearsal {data.digest} {name} {settings.seed} {house.encoder}"
            work = partial(
                recipe.rehearse, kept, apart, data.labels, settings.seed, dict(rehearsals)
            )
            rehearsals[name] = _remembered(house, settings, key, work)
            rung = ladder.rung(
                name, rehearsals[name], apart.rows, data.labels, settings.target, delta
            )
            ticket.detail |= {
                "rows": str(len(kept.rows)),
                "agreement": f"{rung.agreement:.6f}",
                "forecast": f"{rung.forecast_accept_rate:.6f}",
            }
        house.say(
            f"{name}: agrees in {rung.agreement:.1%} of {len(apart.rows):,} rows held out, "
            f"may accept about {rung.forecast_accept_rate:.0%}"
        )
        rungs.append(rung)
    return rungs


def _remembered(
    house: House, settings: Settings, key: str, rehearse: Callable[[], Rehearsal]
) -> Rehearsal:
    """A rehearsal from the notes of an interrupted run, or a new one that is noted down."""
    known = house.notes.get(key) if settings.resume else None
    if known is not None:
        note = orjson.loads(known)
        return Rehearsal(np.array(note["logits"], dtype=np.float32), tuple(note["weights"]))
    fresh = rehearse()
    body = {"logits": np.asarray(fresh.logits, dtype=np.float32), "weights": fresh.weights}
    house.notes.put(key, orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))
    return fresh


def _fit(
    data: Dataset,
    best: ladder.Rung,
    rungs: Sequence[ladder.Rung],
    settings: Settings,
    house: House,
    meter: Meter,
) -> bytes:
    key = f"student {data.digest} {best.recipe} {settings.seed} {house.encoder}"
    known = house.notes.get(key) if settings.resume else None
    if known is not None:
        return known
    with meter.running(JobKind.TRAIN, recipe=best.recipe, step="fit") as ticket:
        house.say(f"fitting {best.recipe} on all {len(data.train.rows):,} training rows")
        ticket.detail["rows"] = str(len(data.train.rows))
        rehearsals = {rung.recipe: rung.rehearsal for rung in rungs}
        student = ladder.fit(
            best.recipe, house.recipes, rehearsals, data.train, data.labels, settings.seed
        )
        artefact = student.to_bytes()
    house.notes.put(key, artefact)
    return artefact


def _curve(
    data: Dataset,
    best: ladder.Rung,
    settings: Settings,
    house: House,
    meter: Meter,
    delta: float,
) -> tuple[ladder.CurvePoint, ...]:
    """How the chosen recipe would have done with fewer rows."""
    kept, apart = datasets.rehearsal_split(data.train)
    points = []
    for share in ladder.CURVE_SHARES:
        part = ladder.first_share(kept, share)
        if len({row.label for row in part.rows}) < 2:
            continue
        with meter.running(JobKind.EVALUATE, step="curve", recipe=best.recipe) as ticket:
            rung = best
            if share < 1:
                house.say(f"learning curve: {best.recipe} on {len(part.rows):,} rows")
                rehearsal = ladder.rehearse(
                    best.recipe, house.recipes, part, apart, data.labels, settings.seed
                )
                rung = ladder.rung(
                    best.recipe, rehearsal, apart.rows, data.labels, settings.target, delta
                )
            point = ladder.CurvePoint(len(part.rows), rung.agreement, rung.forecast_accept_rate)
            ticket.detail |= {
                "rows": str(point.rows),
                "agreement": f"{point.agreement:.6f}",
                "forecast": f"{point.forecast_accept_rate:.6f}",
            }
        points.append(point)
    return tuple(points)


def _judge(
    data: Dataset,
    best: ladder.Rung,
    calibration: Held,
    student: str,
    settings: Settings,
    delta: float,
    repeats: refusal.Repeats,
) -> tuple[Gate | None, Certificate | Refusal]:
    """Check that the calibration rows are like the training rows, then open the gate."""
    shift = refusal.shifted(best.scores, calibration.scores, "the student's confidence")
    if shift is not None:
        return None, shift
    target = settings.target
    gate = open_gate(
        calibration.scores, calibration.disagreements, best.levels, target.max_risk, delta
    )
    if gate.threshold is None:
        held = (calibration.scores, calibration.disagreements)
        return gate, refusal.closed_gate(gate, *held, target, repeats)
    return gate, Certificate(
        student=student,
        threshold=gate.threshold,
        max_risk=target.max_risk,
        confidence=target.confidence,
        delta_spent=delta,
        version=settings.version,
        n_calibration=gate.n_rows,
        n_accepted=gate.n_accepted,
        n_disagreements=gate.n_disagreements,
        method=METHOD,
        dataset=data.digest,
    )


def _counts(test: Held, verdict: Certificate | Refusal) -> dict[str, str]:
    if not isinstance(verdict, Certificate):
        return {"n": str(len(test.rows))}
    accepted = test.scores >= verdict.threshold
    return {
        "n": str(len(test.rows)),
        "n_accepted": str(int(accepted.sum())),
        "n_disagreements": str(int(test.disagreements[accepted].sum())),
    }


def _refused(task: Task, settings: Settings, data: Dataset | None, reason: Refusal) -> Distillation:
    return Distillation(task=task.name, version=settings.version, dataset=data, verdict=reason)


def _sizes(data: Dataset) -> dict[str, str]:
    rare = Counter(row.label in set(data.labels) for row in data.calibration.rows)[False]
    return {
        "dataset": data.digest,
        "train": str(len(data.train.rows)),
        "calibration": str(len(data.calibration.rows)),
        "test": str(len(data.test.rows)),
        "labels": str(len(data.labels)),
        "calibration_rows_with_other_labels": str(rare),
    }
