"""What stands behind the workshop: finds tasks and fits their students beside the endpoint.

It runs at the lowest priority, in a process of its own that loads nothing heavy before there is
something to do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from stillhouse.core.errors import StillhouseError
from stillhouse.core.learning import Task
from stillhouse.core.traffic import Completion
from stillhouse.flows.dues import Due, Habits, due
from stillhouse.settings.nouns import Settings as Configuration
from stillhouse.settings.reading import unpack
from stillhouse.settings.starting import database_of
from stillhouse.store.opening import existing_store, is_dsn

PAUSE_SECONDS = 2.0
LOWEST_PRIORITY = 19
GROWTH = 1.5
"""Tasks are looked for again once there is so much more traffic, while no student is at work."""


def work(payload: bytes, ended: Callable[[float], bool]) -> None:
    """Work until `ended` says so: one task at a time, the one that is due."""
    configuration = unpack(payload)
    with suppress(OSError):
        os.nice(LOWEST_PRIORITY)
    shop = Workshop(configuration)
    pause, trouble = PAUSE_SECONDS, ""
    while not ended(pause):
        began = time.monotonic()
        try:
            shop.round()
            trouble = ""
        except StillhouseError as fault:
            if str(fault) != trouble:
                _say(trouble := str(fault))
        # A round reads the books: it must not do so all the time, however large they are.
        pause = max(PAUSE_SECONDS, 4 * (time.monotonic() - began))


class Workshop:
    """Looks for what is due and does it; remembers what came to nothing until there is more.

    A task is looked at again once so many exchanges are booked as it had rows missing, or as soon
    as anything about it has changed.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._database = database_of(configuration, os.environ)
        self._searched = 0
        self._policies = -1
        self._looks: dict[str, int] = {}

    def round(self) -> None:
        """Find tasks where none are known, and fit a student for each task that is due."""
        if not is_dsn(self._database) and not Path(self._database).exists():
            return  # nothing has been booked yet
        with existing_store(self._database) as store:
            number, policies = store.newest(), store.policy_number()
            if policies != self._policies:
                self._policies = policies
                self._looks.clear()
            self._find(store, number)
            for task in store.tasks():
                if number >= self._looks.get(task.name, 0):
                    self._looks[task.name] = number + self._task(store, task)

    def _find(self, store: Any, number: int) -> None:
        """Look for tasks; names must not change under students at work, so not beside any."""
        first = self._configuration.students.first_rows
        if number < max(first, GROWTH * self._searched) or store.policy_number():
            return
        from stillhouse.flows.find_tasks import find_tasks
        from stillhouse.wiring import rows_aside

        self._searched = number
        self._looks.clear()
        with rows_aside() as aside:
            found = find_tasks(store, aside, lambda share, what: None)
        _say(f"found {len(found.tasks)} tasks in {found.exchanges:,} requests")

    def _task(self, store: Any, task: Task) -> int:
        """Fit a student for a task where it is due; how many exchanges it needs at least."""
        said = self._configuration.students
        if not said.may_serve(task.name):
            return said.first_rows
        rows = [row for row in store.task_rows(task.name) if row.answer or row.tool]
        habits = Habits(said.first_rows, said.retrain_rows)
        events = list(store.policy_events(task.name))
        times = [(row.at_us or 0, bool(row.audits)) for row in rows]
        work = due(task, store.versions(task.name), events, times, habits)
        if work is None:
            return said.first_rows
        if not work.missing:
            self._fit(store, work, rows)
        return max(1, work.missing)

    def _fit(self, store: Any, work: Due, rows: Sequence[Any]) -> None:
        from functools import partial

        from stillhouse.distillation.dataset import answered_row
        from stillhouse.flows import retraining
        from stillhouse.flows.chartering import gather_facts, mean_cost, names_of
        from stillhouse.flows.workbench import Settings
        from stillhouse.wiring import distil_house, encodings

        taught = [
            retraining.TaughtRow(
                replace(
                    answered_row(
                        row.exchange_id,
                        row.text,
                        Completion(row.answer, row.tool, row.tool_arguments),
                    ),
                    audited=bool(row.audits),
                ),
                row.at_us or 0,
                row.audits,
            )
            for row in rows
        ]
        digest = store.recogniser()
        exchanges = store.exchanges(task=work.task.name, since_us=work.since_us or None)
        facts = gather_facts(
            work.task.name,
            exchanges,
            store.get_artefact(digest),
            digest,
            partial(names_of, self._configuration.catalogue),
        )
        said = self._configuration.students
        costs = mean_cost(row.billed_pico for row in rows)
        settings = Settings(target=said.target, facts=replace(facts, cost_pico=costs))
        with encodings(self._database) as cache:
            house = distil_house(store, cache, lambda sentence: None)
            _say(f"{work.task.name}: {work.why}, fitting version {work.version}")
            result = retraining.retrain(work, taught, store, house, settings)
        _say(retraining.outcome(result))


def _say(sentence: str) -> None:
    said = "".join(sign if sign.isprintable() else "�" for sign in sentence)  # imported names
    print(f"stillhouse: {said}", file=sys.stderr, flush=True)
