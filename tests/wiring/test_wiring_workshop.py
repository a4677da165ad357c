"""The workshop: light until something is due, and patient with what came to nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.learning import Refusal
from stillhouse.core.serving import PolicyEvent
from stillhouse.flows.dues import Due
from stillhouse.settings.nouns import Books, Settings, Students
from stillhouse.store.sqlite import SqliteStore
from stillhouse.testing.student_traffic import TASK, ask, change, fold, name, open_desk, taught
from stillhouse.wiring.workshop import Workshop

QUIET = """
import sys
from pathlib import Path
from stillhouse.settings.nouns import Books, Settings
from stillhouse.wiring.workshop import Workshop
shop = Workshop(Settings(books=Books(database=sys.argv[1])))
shop.round()
shop.round()
print(sorted({"numpy", "scipy", "sklearn", "onnxruntime"} & set(sys.modules)))
"""


class Noted(Workshop):
    """A workshop that notes what it would look at and fit."""

    def __init__(self, configuration: Settings) -> None:
        super().__init__(configuration)
        self.looked: list[str] = []
        self.fitted: list[Due] = []

    def _task(self, store: Any, task: Any) -> int:
        self.looked.append(task.name)
        return super()._task(store, task)

    def _fit(self, store: Any, due: Due, rows: Any) -> None:
        self.fitted.append(due)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "books.db")


def configured(database: str, **students: Any) -> Settings:
    given = {"first_rows": 40, "retrain_rows": 50} | students
    return Settings(books=Books(database=database), students=Students(**given))


def booked(store: SqliteStore, first: int, count: int) -> None:
    asked = [ask(n, 0.9, wrong=False) for n in range(first, first + count)]
    fold(store, (taught(one, at_us=one.number) for one in asked))
    store.keep_watch("w", 0, {}, [(name(one.number), TASK, one.text) for one in asked])


@pytest.mark.parametrize("rows", [0, 30])
def test_nothing_heavy_is_loaded_before_something_is_due(database: str, rows: int) -> None:
    if rows:
        with SqliteStore(Path(database)) as store:
            open_desk(store)
            change(store, "shadowed")
            booked(store, 1, rows)
    found = subprocess.run(
        [sys.executable, "-c", QUIET, database], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_before_anything_is_booked_there_is_nothing_to_do(database: str) -> None:
    Noted(configured(database)).round()
    assert not Path(database).exists()


def test_a_task_is_fitted_once_it_is_due_and_left_alone_until_then(database: str) -> None:
    shop = Noted(configured(database))
    with SqliteStore(Path(database)) as store:
        open_desk(store)
        change(store, "shadowed")
        booked(store, 1, 20)
        for _ in range(3):
            shop.round()
        assert shop.looked == [TASK], "20 rows are missing: it is not looked at before they came"
        booked(store, 21, 19)
        shop.round()
        assert (shop.looked, shop.fitted) == ([TASK], [])
        booked(store, 40, 1)
        shop.round()
    assert [(work.version, work.why) for work in shop.fitted] == [(1, "40 new answered rows")]


def test_a_change_of_the_task_is_looked_at_at_once(database: str) -> None:
    shop = Noted(configured(database))
    with SqliteStore(Path(database)) as store:
        open_desk(store)
        booked(store, 1, 20)
        change(store, "shadowed")
        shop.round()
        change(store, "retired")
        shop.round()
        shop.round()
    assert shop.looked == [TASK, TASK]


def test_a_task_whose_students_are_switched_off_is_never_fitted(database: str) -> None:
    shop = Noted(configured(database, enabled=False))
    with SqliteStore(Path(database)) as store:
        open_desk(store)
        change(store, "shadowed")
        booked(store, 1, 90)
        shop.round()
    assert shop.fitted == []


def test_tasks_are_not_looked_for_while_a_student_is_at_work(database: str) -> None:
    shop = Workshop(configured(database, first_rows=10, retrain_rows=999, enabled=False))
    with SqliteStore(Path(database)) as store:
        open_desk(store)
        booked(store, 1, 30)
        kept = store.recogniser()
        change(store, "shadowed")
        shop.round()
        assert store.recogniser() == kept
    with SqliteStore(Path(database + "2")) as other:
        booked(other, 1, 30)
        Workshop(configured(database + "2", first_rows=10, enabled=False)).round()
        assert [task.name for task in other.tasks()] == [TASK]


def test_a_refusal_before_anything_is_fitted_is_not_tried_again_at_once(
    database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    shop = Workshop(configured(database))
    with SqliteStore(Path(database)) as store:
        open_desk(store)
        store.add_policy_event(PolicyEvent("other", 1, "shadowed", "w", "ana", 1))
        booked(store, 1, 40)
        for _ in range(3):
            shop.round()
        (refused,) = store.versions(TASK)
        assert isinstance(refused.verdict, Refusal)
        shop = Workshop(configured(database))
        shop.round()
        assert len(store.versions(TASK)) == 1, "a new process knows it from the books"
        now_us = refused.created_us
        asked = [ask(n, 0.9, wrong=False) for n in range(100, 150)]
        fold(store, (taught(one, at_us=now_us + one.number) for one in asked))
        store.keep_watch("w", 0, {}, [(name(one.number), TASK, one.text) for one in asked])
        shop.round()
        assert [one.version for one in store.versions(TASK)] == [1, 2]
    assert "fitting version 1" in capfd.readouterr().err
