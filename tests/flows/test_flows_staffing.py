"""Who is at work is read from the books; what is wrong with one task holds up no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stillhouse.core.errors import StoreError
from stillhouse.core.learning import Certificate
from stillhouse.core.serving import Change, Mode, PolicyEvent, Terms
from stillhouse.distillation.discovery import TaskModels
from stillhouse.distillation.recognition import written
from stillhouse.flows.staffing import NOBODY, roster
from stillhouse.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from tests.flows.conftest import Employed

PROVEN = Certificate("d" * 32, 0.9, 0.05, 0.95, 0.05, 1, 100, 90, 0, "exact", "d")


def terms_of(task: str) -> Terms | None:
    """Terms of every task but one that the configuration forbids."""
    return None if task == "forbidden" else Terms()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "books.db") as opened:
        yield opened


def say(store: SqliteStore, task: str, change: Change, version: int = 1) -> int:
    detail = {"threshold": 0.9} if change is Change.PROMOTED else {}
    return store.add_policy_event(
        PolicyEvent(task, version, change.value, "a test", "tester", 5, detail)
    )


def put(store: SqliteStore, employed: Employed, task: str, recogniser: str = "") -> None:
    """Promote a version of a task."""
    known = recogniser or store.put_artefact(written(TaskModels({}, {}, {task: ()}, ())))
    store.put_charter(replace(employed.charter, task=task, version=1, recogniser=known))
    store.add_verdict(task, 1, PROVEN, 1)
    say(store, task, Change.PROMOTED)


def test_nobody_is_at_work_in_empty_books(store: SqliteStore) -> None:
    assert roster(store, terms_of) == NOBODY


def test_who_was_promoted_is_at_work_as_the_configuration_allows(
    store: SqliteStore, employed: Employed
) -> None:
    for task in ("desk", "mail", "forbidden"):
        put(store, employed, task)
    found = roster(store, terms_of)
    assert found.servings.keys() == {"desk", "mail"}
    assert found.number == store.policy_number() == 3
    serving = found.servings["desk"]
    assert (serving.standing.mode, serving.standing.threshold) == (Mode.SERVING, 0.9)
    assert serving.certificate == PROVEN
    assert sorted(sorted(tasks) for _, tasks in found.recognisers) == [["desk"], ["mail"]]


def test_tasks_of_one_discovery_are_recognised_together(
    store: SqliteStore, employed: Employed
) -> None:
    known = store.put_artefact(written(TaskModels({}, {}, {"desk": (), "mail": ()}, ())))
    for task in ("desk", "mail"):
        put(store, employed, task, known)
    ((_, tasks),) = roster(store, terms_of).recognisers
    assert tasks == {"desk", "mail"}


@pytest.mark.parametrize("change", [Change.PAUSED, Change.ROLLED_BACK, Change.VOIDED])
def test_who_was_stopped_answers_nobody(
    store: SqliteStore, employed: Employed, change: Change
) -> None:
    put(store, employed, "desk")
    say(store, "desk", change)
    assert all(one.policy is None for one in roster(store, terms_of).servings.values())


@pytest.mark.parametrize("wrong", ["missing", "of another format", "no JSON"])
def test_a_task_that_cannot_be_recognised_hides_no_withdrawal_of_another(
    store: SqliteStore, employed: Employed, wrong: str
) -> None:
    bodies = {"of another format": b'{"format": 99}', "no JSON": b"\x00"}
    digest = store.put_artefact(bodies[wrong]) if wrong in bodies else "0" * 32
    put(store, employed, "desk")
    put(store, employed, "broken", digest)
    say(store, "desk", Change.ROLLED_BACK)
    found = roster(store, terms_of)
    assert all(one.policy is None for one in found.servings.values())
    assert "broken" not in found.servings
    assert found.number == NOBODY.number  # so that it is read again


def test_books_that_are_away_are_no_empty_books(employed: Employed, tmp_path: Path) -> None:
    """What cannot be read now says nothing of who is at work."""

    class Leaving(SqliteStore):
        gone = False

        def get_artefact(self, digest: str) -> bytes:
            self.gone = True
            raise StoreError("the database is away; start it")

        def policy_number(self) -> int:
            if self.gone:
                raise StoreError("the database is away; start it")
            return super().policy_number()

    with Leaving(tmp_path / "books.db") as store:
        put(store, employed, "desk")
        with pytest.raises(StoreError, match="away"):
            roster(store, terms_of)
