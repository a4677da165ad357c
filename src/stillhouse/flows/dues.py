"""Which task is due for a new student, by what its books say; nothing heavy is loaded for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stillhouse.core.learning import AnswerShape, Certificate, Refusal, Task
from stillhouse.core.serving import Change, PolicyEvent
from stillhouse.routing import lifecycle

JUDGED = (0.6, 0.85)
"""Where in a task's time the rows lie that a new student is judged on (distillation.dataset)."""

_SHAPES = (AnswerShape.LABELS, AnswerShape.TOOL)


class Version(Protocol):
    """One version of a task as the books have it."""

    @property
    def version(self) -> int:
        """Its number."""
        ...

    @property
    def created_us(self) -> int:
        """When it was fitted."""
        ...

    @property
    def verdict(self) -> Certificate | Refusal | None:
        """What was said of it; None where a distillation was cut short."""
        ...


@dataclass(frozen=True, slots=True)
class Habits:
    """When a task is due: rows for a first student, new rows for a next one."""

    first_rows: int = 1000
    retrain_rows: int = 2000


class Due(NamedTuple):
    """A task's next version, from which instant on its rows count, and why.

    It is due once no rows are `missing`.
    """

    task: Task
    version: int
    since_us: int
    why: str
    missing: int = 0


def due(
    task: Task,
    versions: Sequence[Version],
    events: Sequence[PolicyEvent],
    rows: Sequence[tuple[int, bool]],
    habits: Habits,
) -> Due | None:
    """Whether a task is due for a new student, by what its books say; None where it never is.

    `rows` say in the order of time when each was answered, and whether it may calibrate. After a
    void certificate or an alarm only the rows since then count, as many as for a first student:
    those before are of another teacher, another prompt, or of a time that is over.
    """
    if task.shape not in _SHAPES:
        return None
    since_us = max((event.at_us for event in events if _is_break(event)), default=0)
    counted = [row for row in rows if row[0] >= since_us]
    finished = [one for one in versions if one.verdict is not None]
    last_us = finished[-1].created_us if finished else -1
    asked_for = last_us < max(since_us, _wanted_us(events))
    wanted = habits.first_rows if asked_for or not finished else habits.retrain_rows
    new = sum(at_us > last_us for at_us, _ in counted)
    judging = round(habits.first_rows * (JUDGED[1] - JUDGED[0])) - _calibrating(counted)
    number = max((one.version for one in versions), default=0) + 1
    return Due(task, number, since_us, f"{new:,} new answered rows", max(wanted - new, judging, 0))


def _is_break(event: PolicyEvent) -> bool:
    """Whether rows before an event say nothing of those after it."""
    alarm = event.who == lifecycle.MONITOR and event.event in (Change.ROLLED_BACK, Change.RAISED)
    return alarm or event.event == Change.VOIDED


def _wanted_us(events: Sequence[PolicyEvent]) -> int:
    """When a person asked for a new student, if that was the last change of the task."""
    return events[-1].at_us if events and events[-1].detail.get("queue") else -1


def _calibrating(rows: Sequence[tuple[int, bool]]) -> int:
    """About how many rows a student would be judged on, were these split now."""
    begin, end = (round(len(rows) * share) for share in JUDGED)
    return sum(audited for _, audited in rows[begin:end])
