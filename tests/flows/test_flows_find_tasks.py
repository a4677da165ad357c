from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from stillhouse.core.learning import AnswerShape, Task
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Attempt, Completion, Exchange, Message, Request, Tags, Usage
from stillhouse.flows.find_tasks import HEARD_EVERY, TaskRow, find_tasks
from stillhouse.ledger.report import SpendSum

QUEUES = "Route the support ticket to one queue: billing, shipping or technical."
MOODS = "Say whether the review of our product sounds happy or angry."
SUBJECTS = ("card", "parcel", "login", "invoice", "refund", "password", "address", "voucher")


def asked(n: int, system: str, answer: str, tag: str = "") -> Exchange:
    name = f"{n:032x}"
    text = " ".join(SUBJECTS[n // step % 8] for step in (1, 8, 64))
    attempt = Attempt(name, "m", at_us=n, usage=Usage(30, output_tokens=2))
    request = Request((Message("system", system), Message("user", text)))
    return Exchange(name, request, Completion(answer), (attempt,), Tags(task=tag))


class Traffic:
    """Exchanges in a list; every call costs one pico, and what is saved can be looked at."""

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        self.kept = list(exchanges)
        self.passes = 0
        self.tasks: list[Task] = []
        self.rows: list[TaskRow] = []
        self.recogniser = b""

    def exchanges(self) -> Iterator[Exchange]:
        self.passes += 1
        return iter(self.kept)

    def save_tasks(
        self, tasks: Iterable[Task], rows: Iterable[TaskRow], recogniser: bytes = b""
    ) -> None:
        self.tasks, self.rows, self.recogniser = list(tasks), list(rows), recogniser

    def spend(self, by: str) -> Iterable[tuple[Any, ...]]:
        task_of = {row: task for row, task, _ in self.rows}
        for exchange in self.kept:
            task = task_of.get(exchange.exchange_id, exchange.tags.task)
            part = SpendSum(task if by == "task" else "m", 1, billed_pico=1)
            yield tuple(getattr(part, name) for name in part.__slots__)


def mixed(n: int = 240) -> Traffic:
    queues = ("billing", "shipping", "technical")
    return Traffic(
        asked(i, QUEUES, queues[i % 3])
        if i % 4
        else asked(i, MOODS, ("happy", "angry")[i // 4 % 2])
        for i in range(n)
    )


def quiet(share: float, what: str) -> None:
    assert 0 <= share <= 1
    assert what


def test_tasks_are_found_in_two_passes_and_kept_with_their_rows_and_spend() -> None:
    traffic = mixed()
    found = find_tasks(traffic, [], quiet)
    assert traffic.passes == 2
    assert [(t.profile.task.labels, t.profile.volume) for t in found.tasks] == [
        (("billing", "shipping", "technical"), 180),
        (("angry", "happy"), 60),
    ]
    assert [task.spend and task.spend.computed for task in found.tasks] == [Paid(180), Paid(60)]
    assert (found.exchanges, found.assigned, found.total.computed) == (240, 240, Paid(240))
    assert [task.profile.task for task in found.tasks] == traffic.tasks
    assert [(row, text) for row, _, text in traffic.rows] == [
        (exchange.exchange_id, exchange.request.messages[-1].text) for exchange in traffic.kept
    ]


def test_rows_of_a_task_that_turns_out_too_rare_are_not_kept() -> None:
    traffic = mixed()
    found = find_tasks(traffic, [], quiet, minimum=100)
    assert [task.profile.volume for task in found.tasks] == [180]
    assert {name for _, name, _ in traffic.rows} == {task.name for task in traffic.tasks}
    assert len(traffic.rows) == found.assigned == 180


def test_a_task_named_by_the_caller_keeps_its_name() -> None:
    traffic = Traffic(
        asked(i, QUEUES, ("billing", "technical")[i % 2], "triage") for i in range(60)
    )
    (found,) = find_tasks(traffic, [], quiet).tasks
    assert (found.profile.task.name, found.profile.task.tagged) == ("triage", True)
    assert found.profile.task.shape is AnswerShape.LABELS


def test_what_was_found_before_is_replaced_also_by_nothing() -> None:
    traffic = mixed(40)
    find_tasks(traffic, [], quiet)
    assert traffic.tasks
    traffic.kept = traffic.kept[:3]
    found = find_tasks(traffic, [], quiet)
    assert (found.tasks, traffic.tasks, traffic.rows) == ((), [], [])


def test_without_traffic_there_is_nothing_to_find() -> None:
    found = find_tasks(Traffic([]), [], quiet)
    assert (found.exchanges, found.tasks, found.total.computed) == (0, (), None)


def test_the_progress_rises_to_the_end() -> None:
    heard: list[tuple[float, str]] = []
    find_tasks(mixed(2 * HEARD_EVERY), [], lambda *told: heard.append(told))
    shares = [share for share, _ in heard]
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert heard[-1][1] == "keeping the tasks"
