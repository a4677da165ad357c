"""The story of the workshop: what becomes of a task that is due for a new student.

A new version is fitted on everything that teachers have answered, and put beside the old one: the
watch lets the gate judge it, and promotes it only where it beats the one that answers now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from stillhouse.core.learning import Certificate, Refusal, Task
from stillhouse.core.serving import Charter, Evidence, PolicyEvent
from stillhouse.distillation.dataset import Answered
from stillhouse.flows.distil import Distillation, distil
from stillhouse.flows.dues import Due, Version
from stillhouse.flows.workbench import House, Settings
from stillhouse.routing import lifecycle

WHO = "workshop"
TRIES = 5


class TaughtRow(NamedTuple):
    """A row of a task that a teacher has answered; `audits` is the exchange it is evidence of."""

    answered: Answered
    at_us: int
    audits: str


class WorkshopBooks(Protocol):
    """What the workshop reads and writes beside a workbench."""

    def tasks(self) -> Sequence[Task]:
        """The tasks that were found."""
        ...

    def versions(self, task: str) -> Iterable[Version]:
        """Every version of a task, oldest first."""
        ...

    def policy_events(self, task: str = "") -> Iterator[PolicyEvent]:
        """Every change of who answers a task."""
        ...

    def add_policy_event(self, event: PolicyEvent, expected: int | None = None) -> int:
        """Append a change."""
        ...

    def charter(self, task: str, version: int) -> Charter | None:
        """What a version may be asked."""
        ...

    def keep_watch(
        self, name: str, place: int, evidence: Mapping[tuple[str, int], Sequence[Evidence]]
    ) -> None:
        """Keep rows of evidence."""
        ...


def retrain(
    work: Due, rows: Sequence[TaughtRow], books: WorkshopBooks, house: House, settings: Settings
) -> Distillation:
    """Fit a new version and put it beside the teacher, with its held-out rows as first evidence.

    Where nothing could be fitted the refusal is in the books, and the task is not due again before
    there are as many new rows.
    """
    mine = [row for row in rows if row.at_us >= work.since_us]
    result = distil(
        work.task,
        [row.answered for row in mine],
        replace(settings, version=work.version, curve=False),
        house,
    )
    charter = books.charter(work.task.name, work.version)
    if charter is None or result.calibration is None:
        return result
    known = {row.answered.row_id: row for row in mine}
    seeds = list(first_evidence(result, known))
    books.keep_watch(WHO, 0, {(work.task.name, work.version): seeds})
    for _ in range(TRIES):  # others may change the task meanwhile, which this does not override
        events = list(books.policy_events(work.task.name))
        now_us = house.clock.now_us()
        shadowed = lifecycle.shadow(
            events, work.version, task=work.task.name, why=work.why, who=WHO, at_us=now_us
        )
        if books.add_policy_event(shadowed, events[-1].number if events else 0):
            break
    return result


def first_evidence(result: Distillation, known: Mapping[str, TaughtRow]) -> Iterator[Evidence]:
    """The rows that the frozen student was judged on, in their order: the stream begins there."""
    for held in (result.calibration, result.test):
        if held is None:
            continue
        for row, said in zip(held.rows, held.predictions, strict=True):
            taught = known[row.row_id]
            yield Evidence(
                taught.audits, taught.at_us, said.score, said.label, row.label, served=False
            )


def outcome(result: Distillation) -> str:
    """What became of it, in a sentence."""
    verdict: Certificate | Refusal = result.verdict
    if isinstance(verdict, Certificate):
        return f"version {result.version} of {result.task} would answer {verdict.accept_rate:.1%}"
    return f"version {result.version} of {result.task}: {verdict.sentence}"
