from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.serving import PolicyEvent
from stillhouse.core.traffic import Exchange
from stillhouse.store.opening import open_store
from stillhouse.store.reading import TaskRow
from stillhouse.store.recording import BatchOutcome
from stillhouse.store.spending import SpendGroup
from stillhouse.store.sqlite import SqliteStore
from stillhouse.testing.store import (
    STORE_CHECKS,
    check_idempotence,
    check_reading,
    check_store,
    check_sums,
)
from stillhouse.testing.store_entries import Opener
from stillhouse.testing.store_serving import (
    check_policy,
    check_rows_of_students,
    check_shadow_calls,
)
from stillhouse.testing.store_work import check_append_only


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_every_store_keeps_what_it_promises(
    kind: str, check: Callable[[Opener], None], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        place = str(tmp_path / "some.db")
    else:
        place = request.getfixturevalue("new_schema")()
    check(lambda: open_store(place))


def test_the_suite_runs_whole(tmp_path: Path) -> None:
    places = count()

    def make() -> Opener:
        path = tmp_path / f"{next(places)}.db"
        return lambda: SqliteStore(path)

    check_store(make)
    assert next(places) == len(STORE_CHECKS)


class Miscounting(SqliteStore):
    def add_batch(self, *entries: Any, **rest: Any) -> BatchOutcome:
        outcome = super().add_batch(*entries, **rest)
        return replace(outcome, new=outcome.new + outcome.duplicates)


class Rounding(SqliteStore):
    def spend(self, by: str) -> Iterator[SpendGroup]:
        for group in super().spend(by):
            yield group._replace(billed_pico=int(float(group.billed_pico)))


class Editable(SqliteStore):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.database.connection.execute("DROP TRIGGER IF EXISTS charges_no_update")


class Late(SqliteStore):
    def exchanges(self, **wanted: Any) -> list[Exchange]:
        return sorted(super().exchanges(**wanted), key=lambda e: -(e.at_us or 0))


class Overriding(SqliteStore):
    def add_policy_event(self, event: PolicyEvent, expected: int | None = None) -> int:
        return super().add_policy_event(event)


class Hoarding(SqliteStore):
    def shadow_done(self, exchange_id: str) -> None:
        pass


class Learning(SqliteStore):
    def task_rows(self, task: str) -> Iterator[TaskRow]:
        for exchange in self.exchanges(task=task):
            yield TaskRow(exchange.exchange_id, 0, "slot", "", "", "", "", None, None, None, None)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Miscounting, check_idempotence),
        (Rounding, check_sums),
        (Editable, check_append_only),
        (Late, check_reading),
        (Overriding, check_policy),
        (Hoarding, check_shadow_calls),
        (Learning, check_rows_of_students),
    ],
)
def test_a_store_that_breaks_a_promise_is_found_out(
    broken: type[SqliteStore], check: Callable[[Opener], None], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        check(lambda: broken(tmp_path / "some.db"))
