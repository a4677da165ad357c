"""When a task is due for a new student, and what its first evidence is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stillhouse.core.learning import (
    AnswerShape,
    Certificate,
    Dataset,
    Prediction,
    Refusal,
    RefusalReason,
    Row,
    Task,
)
from stillhouse.core.serving import PolicyEvent
from stillhouse.distillation.dataset import CALIBRATION_SHARE, TEST_SHARE, Answered, build
from stillhouse.flows.distil import Distillation, Held
from stillhouse.flows.dues import JUDGED, Due, Habits, due
from stillhouse.flows.retraining import TaughtRow, first_evidence
from stillhouse.routing.lifecycle import MONITOR
from stillhouse.store.workshop import StudentVersion
from stillhouse.testing.student_traffic import a_certificate, name

LABELS = Task("desk", "sig", AnswerShape.LABELS, "t")
HABITS = Habits(first_rows=100, retrain_rows=200)
REFUSED = Refusal(RefusalReason.TOO_FEW_ROWS, "too few")


def rows(count: int, since_us: int = 0, audited: bool = True) -> list[tuple[int, bool]]:
    return [(since_us + n, audited) for n in range(1, count + 1)]


def version(number: int, created_us: int, verdict: Any = REFUSED) -> StudentVersion:
    return StudentVersion("desk", number, "", "", created_us, verdict)


def event(
    what: str, at_us: int, who: str = "ana", number: int = 1, **detail: object
) -> PolicyEvent:
    return PolicyEvent("desk", number, what, "w", who, at_us, detail)


def looked(
    versions: Sequence[StudentVersion],
    events: Sequence[PolicyEvent],
    found: Sequence[tuple[int, bool]],
) -> Due:
    work = due(LABELS, versions, events, found, HABITS)
    assert work is not None
    return work


@pytest.mark.parametrize("shape", [AnswerShape.TEXT, AnswerShape.FIELDS])
def test_tasks_that_no_student_can_learn_are_never_due(shape: AnswerShape) -> None:
    assert due(Task("desk", "s", shape, "t"), [], [], rows(9999), HABITS) is None
    assert due(Task("desk", "s", AnswerShape.TOOL, "t"), [], [], rows(9999), HABITS) is not None


VOID = [event("promoted", 500), event("voided", 1000, MONITOR, queue=True)]
ALARM = [event("promoted", 500), event("rolled_back", 1000, MONITOR, queue=True)]
RAISED = [event("promoted", 500), event("raised", 1000, MONITOR, queue=True)]
STOPPED = [event("promoted", 500), event("rolled_back", 1000)]
WANTED = [event("promoted", 500), event("rolled_back", 1000, queue=True)]
ONE = [version(1, 400, a_certificate(0.5))]


@pytest.mark.parametrize(
    ("versions", "events", "found", "expected"),
    [
        ([], [], rows(40), (1, 0, 60)),
        ([], [], rows(100), (1, 0, 0)),
        (ONE, [], rows(400) + rows(150, 400), (2, 0, 50)),
        (ONE, [], rows(400) + rows(200, 400), (2, 0, 0)),
        # A refusal is not tried again before there is enough that is new.
        ([version(1, 400)], [], rows(500), (2, 0, 100)),
        ([version(1, 400), version(2, 700)], [], rows(850), (3, 0, 50)),
        # After a void certificate or an alarm only rows since then count.
        (ONE, VOID, rows(900) + rows(30, 999), (2, 1000, 70)),
        (ONE, VOID, rows(900) + rows(100, 999), (2, 1000, 0)),
        (ONE, ALARM, rows(900) + rows(30, 999), (2, 1000, 70)),
        (ONE, RAISED, rows(900) + rows(100, 999), (2, 1000, 0)),
        ([*ONE, version(2, 1200)], VOID, rows(900) + rows(350, 999), (3, 1000, 51)),
        # A person who stops a version wants a new one only by saying so.
        (ONE, STOPPED, rows(550), (2, 0, 50)),
        (ONE, WANTED, rows(500), (2, 0, 0)),
        # A distillation that was cut short counts for nothing but its number.
        ([version(1, 90, None)], [], rows(100), (2, 0, 0)),
    ],
)
def test_a_task_is_due_by_what_its_books_say(
    versions: list[StudentVersion],
    events: list[PolicyEvent],
    found: list[tuple[int, bool]],
    expected: tuple[int, int, int],
) -> None:
    work = looked(versions, events, found)
    assert (work.version, work.since_us, work.missing) == expected


def test_rows_that_may_not_calibrate_make_no_task_due() -> None:
    assert looked([], [], rows(500, audited=False)).missing == 25
    assert looked([], [], rows(100) + rows(300, 100, audited=False)).missing == 25
    mixed = [(n, n % 4 == 0) for n in range(1, 401)]
    assert looked([], [], mixed).missing == 0


def test_the_rows_that_judge_a_student_lie_where_a_dataset_has_them() -> None:
    assert pytest.approx((1 - CALIBRATION_SHARE - TEST_SHARE, 1 - TEST_SHARE)) == JUDGED


def held(found: Sequence[Row]) -> Held:
    said = tuple(Prediction("x", 0.5) for _ in found)
    return Held(tuple(found), said, np.zeros(len(found)), np.zeros(len(found), dtype=bool))


def test_the_first_evidence_is_the_audited_rows_held_out_by_the_exchange_they_audit() -> None:
    def answered(n: int) -> Answered:
        text = f"{'abcdefghij'[n % 10] * 9} {n * 7919}"
        return Answered(name(n), text, "xy"[n % 2], audited=n % 3 != 0)

    taught = [
        TaughtRow(answered(n), 100 + n, name(n + 1000) if n % 3 == 1 else name(n) * (n % 3 == 2))
        for n in range(300)
    ]
    data: Dataset = build("desk", [row.answered for row in taught])
    result = Distillation(
        "desk", 2, data, a_certificate(0.5),
        calibration=held(data.calibration.rows), test=held(data.test.rows),
    )  # fmt: skip
    known = {row.answered.row_id: row for row in taught}
    seeds = list(first_evidence(result, known))
    assert len(seeds) == len(data.calibration.rows) + len(data.test.rows) > 50
    assert all(seed.exchange_id and not seed.served for seed in seeds)
    audits = {row.audits: row for row in taught}
    assert all(audits[seed.exchange_id].at_us == seed.at_us for seed in seeds)
    assert any(seed.exchange_id != audits[seed.exchange_id].answered.row_id for seed in seeds)
    assert [seed.at_us for seed in seeds] == sorted(seed.at_us for seed in seeds)
    assert isinstance(result.verdict, Certificate)
