from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import CallerError, StoreError
from stillhouse.core.learning import AnswerShape, Certificate, Refusal, Target
from stillhouse.core.serving import Change, Charter, Mode, Notice, PolicyEvent
from stillhouse.flows.steering import TRIES, By, change, promotable, promote
from stillhouse.routing import lifecycle

NONE: tuple[str, ...] = ()
BY = By("ana", 10**12, "because")


class Kept(NamedTuple):
    version: int
    verdict: Certificate | Refusal | None


def certificate(version: int) -> Certificate:
    return Certificate("d", 0.9, 0.05, 0.95, 0.03, version, 500, 400, 2, "gate", "rows")


def a_charter(version: int) -> Charter:
    return Charter(
        "t", version, "d", "lexical", AnswerShape.LABELS, {"a": "A"}, (0.9,), 500, Target(), 0.03,
        "r", NONE, NONE, NONE,
    )  # fmt: skip


class Shelf:
    """Books in memory; each rival is appended by others just before one of our changes."""

    def __init__(self, versions: int = 2, rivals: Sequence[PolicyEvent] = ()) -> None:
        self.kept = [Kept(version, certificate(version)) for version in range(1, versions + 1)]
        self.events: list[PolicyEvent] = []
        self.notices: list[Notice] = []
        self.rivals = [*rivals]

    def policy_events(self, task: str = "") -> Iterator[PolicyEvent]:
        return iter([*self.events])

    def add_policy_event(self, event: PolicyEvent, expected: int | None = None) -> int:
        if self.rivals:
            self._append(self.rivals.pop(0))
        newest = self.events[-1].number if self.events else 0
        return self._append(event) if expected in (None, newest) else 0

    def versions(self, task: str) -> list[Kept]:
        return self.kept

    def charter(self, task: str, version: int) -> Charter | None:
        return a_charter(version)

    def add_notice(self, notice: Notice) -> None:
        self.notices.append(notice)

    def _append(self, event: PolicyEvent) -> int:
        number = len(self.events) + 1
        self.events.append(event._replace(number=number))
        return number


def rival(version: int, event: str) -> PolicyEvent:
    return PolicyEvent("t", version, event, "quicker", "bob", 1, {"threshold": 0.9})


def test_a_change_is_decided_anew_where_another_came_first() -> None:
    books = Shelf(rivals=[rival(1, "promoted")])
    done = promote(books, "t", BY)
    assert [one.who for one in books.events] == ["bob", "ana"]
    assert (done.event.version, done.event.number) == (2, 2)
    assert done.serving is not None
    assert done.serving.version == 2
    assert lifecycle.standings(books.events)[1].mode is Mode.STOPPED, "superseded"


def test_a_change_that_is_no_longer_possible_is_refused_and_never_kept() -> None:
    books = Shelf()
    promote(books, "t", BY)
    books.rivals = [rival(2, "retired")]
    with pytest.raises(CallerError, match="nothing of t can be paused; version 2 is retired"):
        change(books, "t", Change.PAUSED, BY)
    assert [one.event for one in books.events] == ["promoted", "retired"]


def test_who_always_comes_second_is_told_so() -> None:
    books = Shelf(rivals=[rival(1, "promoted")] * TRIES)
    with pytest.raises(StoreError, match="came second 5 times"):
        promote(books, "t", BY)
    assert {one.who for one in books.events} == {"bob"}
    assert books.notices == []


def test_every_change_is_told_with_who_and_why() -> None:
    books = Shelf()
    promote(books, "t", BY, share=0.5)
    change(books, "t", Change.ROLLED_BACK, By("bob", 5, "too many complaints"))
    first, second = books.notices
    assert (first.kind, first.sentence) == ("promoted", "ana: because")
    assert first.facts["share"] == 0.5
    assert (second.kind, second.sentence) == ("rolled_back", "bob: too many complaints")
    assert first.notice_id != second.notice_id


def test_a_version_that_lost_its_certificate_is_not_the_one_that_is_meant() -> None:
    books = Shelf()
    promote(books, "t", BY)
    books.events.append(rival(2, "voided")._replace(number=2))
    promote(books, "t", BY, version=1)
    assert promotable(books, "t") == 1


@given(st.lists(st.sampled_from(["promote", *Change]), max_size=12))
def test_whatever_people_do_one_version_answers_at_most_and_only_under_a_certificate(
    steps: list[str],
) -> None:
    books = Shelf(versions=3)
    hands = (Change.PAUSED, Change.RESUMED, Change.ROLLED_BACK, Change.RETIRED)
    for number, step in enumerate(steps):
        try:
            if step in hands:
                change(books, "t", Change(step), BY)
            else:
                promote(books, "t", BY, version=1 + number % 3)
        except CallerError:
            continue
    stood = lifecycle.standings(books.events).values()
    serving = [one for one in stood if one.mode is Mode.SERVING]
    assert len(serving) <= 1
    assert all(one.threshold is not None and one.threshold >= 0.9 for one in serving)
    assert len(books.notices) == len(books.events)
