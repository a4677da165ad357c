"""The story of discovery: the traffic is read twice, its tasks are kept, their spend is joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from stillhouse.core.learning import Task
from stillhouse.core.traffic import Exchange
from stillhouse.distillation.discovery import FEWEST, Survey, induce_models
from stillhouse.distillation.discovery_profiles import TaskProfile
from stillhouse.distillation.recognition import written
from stillhouse.flows.books import Books, spend_by
from stillhouse.ledger.report import SpendRow

HEARD_EVERY = 500
"""Exchanges between two reports of progress."""

TaskRow = tuple[str, str, str]
"""An exchange, the task that it belongs to, the variable part of its request."""

Progress = Callable[[float, str], None]
"""Hears the share of the work done, 0 to 1, and what is being done."""


class Traffic(Books, Protocol):
    """Where exchanges, their tasks and their charges are kept."""

    def exchanges(self) -> Iterable[Exchange]:
        """All exchanges, read anew by every `iter()`."""
        ...

    def save_tasks(
        self, tasks: Iterable[Task], rows: Iterable[TaskRow], recogniser: bytes = b""
    ) -> None:
        """Replace the tasks found, the rows that belong to them and what recognises them.

        Whole or not at all.
        """
        ...


class Aside(Protocol):
    """Keeps rows until all are known: which tasks are frequent is clear only at the end."""

    def append(self, row: TaskRow, /) -> None:
        """Keep a row."""
        ...

    def __iter__(self) -> Iterator[TaskRow]:
        """The rows in their order."""
        ...


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task, what the log says about it, and what it cost; None where nothing was booked."""

    profile: TaskProfile
    spend: SpendRow | None


@dataclass(frozen=True, slots=True)
class FoundTasks:
    """The tasks among so many exchanges, largest first, and what all the traffic cost."""

    exchanges: int
    tasks: tuple[FoundTask, ...]
    total: SpendRow

    @property
    def assigned(self) -> int:
        """Exchanges that belong to a task."""
        return sum(task.profile.volume for task in self.tasks)


def find_tasks(
    traffic: Traffic, aside: Aside, progress: Progress, minimum: int = FEWEST
) -> FoundTasks:
    """Find the tasks that repeat at least `minimum` times, and keep them with their rows.

    The same traffic gives the same tasks. What was found before is replaced.
    """
    total = spend_by(traffic, "model").total
    calls = total.n_requests

    def watched(done_before: float, what: str) -> Iterator[Exchange]:
        for count, exchange in enumerate(traffic.exchanges()):
            if not count % HEARD_EVERY:
                progress(done_before + 0.5 * min(count / max(calls, 1), 1.0), what)
            yield exchange

    survey = Survey(induce_models(watched(0.0, "comparing prompts"), minimum=minimum), minimum)
    for exchange in watched(0.5, "assigning calls"):
        found = survey.add(exchange)
        if found is not None:
            aside.append((exchange.exchange_id, *found))
    discovery = survey.result()
    progress(1.0, "keeping the tasks")
    tasks = {profile.task.name: profile.task for profile in discovery.tasks}
    recogniser = written(discovery.models)
    traffic.save_tasks(tasks.values(), (row for row in aside if row[1] in tasks), recogniser)
    spent = {row.key: row for row in spend_by(traffic, "task").rows}
    found_tasks = (FoundTask(p, spent.get(p.task.name)) for p in discovery.tasks)
    return FoundTasks(discovery.exchanges, tuple(found_tasks), total)
