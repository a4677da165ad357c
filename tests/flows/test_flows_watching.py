"""The watch on a real store: what it finds in the books, and what it changes by that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillhouse.core.errors import CallerError, StoreError
from stillhouse.core.learning import Certificate
from stillhouse.core.serving import Evidence, Mode, Notice, Terms
from stillhouse.flows.dues import Habits, due
from stillhouse.flows.evidence import serving_since
from stillhouse.flows.watching import (
    PATIENCE,
    PLACE,
    SETTLED_US,
    StudentsAwayError,
    Watch,
)
from stillhouse.risk.certificate import open_gate
from stillhouse.routing import lifecycle
from stillhouse.store.sqlite import SqliteStore
from stillhouse.testing.student_traffic import (
    LEVELS,
    PROMPT,
    TASK,
    Asked,
    LiveEntry,
    Scripted,
    a_certificate,
    a_note,
    ask,
    change,
    fold,
    name,
    open_desk,
    served,
    taught,
)

NOW_US = 10**6
AUTO = Terms(auto_promote=True, canary_share=0.25)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "books.db") as store:
        yield store


def a_watch(
    books: Any, terms: Terms = AUTO, students: Scripted | None = None, batch: int = 500
) -> Watch:
    return Watch(books, students or Scripted(), lambda task: terms, lambda: NOW_US, batch)


def run(watch: Watch) -> int:
    """Step until nothing is left."""
    steps = 0
    while asyncio.run(watch.step()):
        steps += 1
        assert steps < 500
    return steps


def story(store: Any) -> list[tuple[int, str]]:
    return [(event.version, event.event) for event in store.policy_events(TASK)]


def stands(store: Any, version: int = 1) -> Any:
    return lifecycle.standings(list(store.policy_events(TASK)))[version]


def some(count: int, seed: int = 1, first: int = 1) -> list[Asked]:
    """Requests whose student errs the more the less sure it is; version 2 is a bit surer."""
    chance = random.Random(seed)
    found = []
    for n in range(first, first + count):
        score = chance.random()
        wrong = chance.random() < 0.25 * (1 - score) ** 2
        found.append(ask(n, score, wrong, min(1.0, score + 0.1), wrong))
    return found


def told(store: Any) -> list[Notice]:
    return list(store.undelivered(100, 0))


def test_in_shadow_the_gate_opens_by_itself_at_the_threshold_that_the_rows_prove(
    books: SqliteStore,
) -> None:
    open_desk(books, {})
    change(books, "shadowed")
    traffic = some(1200)
    fold(books, map(taught, traffic))
    students = Scripted()
    run(a_watch(books, replace(AUTO, auto_promote=False), students))
    assert story(books) == [(1, "shadowed"), (1, "certified")]
    verdict = books.verdict(TASK, 1)
    assert isinstance(verdict, Certificate)
    rows = list(books.evidence(TASK, 1))[: verdict.n_calibration]
    gate = open_gate(
        np.array([row.score for row in rows]),
        np.array([row.disagrees for row in rows]),
        np.array(LEVELS),
        0.05,
        0.03,
        1000,
    )
    assert verdict.threshold == gate.threshold == stands(books).threshold
    assert (verdict.n_calibration % 500, len(list(books.evidence(TASK, 1)))) in {(0, 1200)}
    assert students.asked == [("s1", 500), ("s1", 500), ("s1", 200)]
    assert [notice.kind for notice in told(books)] == ["shadowed", "certified"]


def test_a_certified_version_is_promoted_where_the_terms_say_so(books: SqliteStore) -> None:
    open_desk(books, {})
    change(books, "shadowed")
    fold(books, map(taught, some(1200)))
    run(a_watch(books))
    assert story(books)[:3] == [(1, "shadowed"), (1, "certified"), (1, "promoted")]
    standing = stands(books)
    assert (standing.mode, standing.share, standing.who) == (Mode.SERVING, 0.25, "monitor")


def test_a_student_that_is_often_wrong_stays_in_shadow(books: SqliteStore) -> None:
    open_desk(books, {})
    change(books, "shadowed")
    chance = random.Random(5)
    fold(books, (taught(ask(n, chance.random(), chance.random() < 0.2)) for n in range(1, 1501)))
    run(a_watch(books))
    assert story(books) == [(1, "shadowed")]
    assert books.verdict(TASK, 1) is None


def test_labels_that_come_late_make_the_same_certificate_as_the_gate_on_their_order(
    books: SqliteStore,
) -> None:
    open_desk(books, {})
    change(books, "shadowed")
    entries = [taught(one, at_us=9000 - one.number) for one in some(1000)]
    random.Random(4).shuffle(entries)
    fold(books, entries)
    run(a_watch(books))
    booked = [exchange.exchange_id for exchange, _ in entries]
    assert [row.exchange_id for row in books.evidence(TASK, 1)] == booked


def serving(
    books: SqliteStore, terms: Terms = AUTO, threshold: float = 0.0, **charter: Any
) -> Watch:
    """A desk whose version 1 answers everything from a threshold on, since an early instant."""
    open_desk(books, charter)
    books.add_verdict(TASK, 1, a_certificate(threshold), 0)
    change(books, "promoted", at_us=1500, threshold=threshold)
    watch = a_watch(books, terms)
    run(watch)
    return watch


def audited(one: Asked, *, at_us: int = 0) -> list[LiveEntry]:
    """A student's answer and its audit."""
    note = a_note(one, "student")
    audit = taught(one._replace(number=one.number + 10**6), note, about=one.number)
    return [served(one, note, at_us=at_us), audit]


def entries_of(asked: Iterable[Asked], at_us: int = 0) -> list[LiveEntry]:
    return [entry for one in asked for entry in audited(one, at_us=at_us)]


def test_audits_of_a_serving_version_are_evidence_of_what_callers_were_given(
    books: SqliteStore,
) -> None:
    watch = serving(books)
    one, two, three = ask(1, 0.9, wrong=False), ask(2, 0.2, wrong=True), ask(3, 0.3, wrong=False)
    deferred = a_note(two, "teacher", reason="below threshold")
    tails = a_note(three, "teacher", coin=False)
    fold(
        books,
        [*audited(one), taught(two, deferred), taught(three, tails), taught(ask(4, 1, False))],
    )
    run(watch)
    rows = [row._replace(number=0) for row in books.evidence(TASK, 1)]
    assert rows == [
        Evidence(name(1), 2001, 0.9, "yes", "yes", served=True),
        Evidence(name(2), 2002, 0.2, "no", "yes", served=False),
    ]
    assert isinstance(watch.students, Scripted)
    assert watch.students.asked == [], "it had said all that when the requests came"


def drifted(books: SqliteStore, watch: Watch, bad: int, first: int = 10_000) -> None:
    """Answers of which every second disagrees; the first alarm comes at NOW_US."""
    for n in range(first, first + bad):
        at_us = n if first == 10_000 else NOW_US + n
        fold(books, audited(ask(n, 0.9, wrong=n % 2 == 0), at_us=at_us))
    run(watch)


def test_an_alarm_raises_the_version_one_level_and_a_second_rolls_it_back(
    books: SqliteStore,
) -> None:
    watch = serving(books, threshold=LEVELS[40])
    drifted(books, watch, 40)
    assert story(books) == [(1, "promoted"), (1, "raised")]
    assert stands(books).threshold == LEVELS[39]
    drifted(books, watch, 3, first=20_000)
    assert len(story(books)) == 2, "the detector begins anew"
    drifted(books, watch, 40, first=30_000)
    assert story(books)[2:] == [(1, "rolled_back")]
    assert stands(books).mode is Mode.STOPPED
    assert [notice.kind for notice in told(books)] == ["promoted", "raised", "rolled_back"]
    events = list(books.policy_events(TASK))
    with pytest.raises(CallerError, match="that is for good"):
        lifecycle.promote(events, 1, a_certificate(0.0), why="w", who="ana", at_us=1)


@pytest.mark.parametrize(
    ("threshold", "terms"), [(0.75, AUTO), (0.2, replace(AUTO, on_alarm="stop"))]
)
def test_with_no_stricter_level_or_none_wanted_an_alarm_stops_the_version(
    books: SqliteStore, threshold: float, terms: Terms
) -> None:
    watch = serving(books, terms, threshold)
    drifted(books, watch, 40)
    assert story(books) == [(1, "promoted"), (1, "rolled_back")]
    drifted(books, watch, 5, first=20_000)
    assert len(story(books)) == 2, "what is stopped is not stopped again"


def test_after_an_alarm_the_workshop_waits_for_rows_from_then_on(books: SqliteStore) -> None:
    watch = serving(books, replace(AUTO, on_alarm="stop"))
    drifted(books, watch, 40)
    at_us = 3 * NOW_US
    fold(books, (taught(one, at_us=at_us + one.number) for one in some(60, first=90_000)))
    run(watch)
    (task,) = books.tasks()
    rows = [(row.at_us or 0, bool(row.audits)) for row in books.task_rows(TASK)]
    events = list(books.policy_events(TASK))
    assert len(rows) == 100
    work = due(task, books.versions(TASK), events, rows, Habits(first_rows=60))
    assert work is not None
    assert (work.version, work.since_us, work.missing) == (2, NOW_US, 0)


def test_a_jump_is_noticed_through_the_whole_watch(books: SqliteStore) -> None:
    watch = serving(books)
    chance = random.Random(11)
    rates = [0.025] * 1500 + [0.1] * 1500
    asked = [ask(n, 0.9, chance.random() < rate) for n, rate in enumerate(rates, 1)]
    fold(books, (entry for one in asked[:1500] for entry in audited(one)))
    run(watch)
    assert story(books) == [(1, "promoted")]
    for begin in range(1500, 3000, 50):
        fold(books, (entry for one in asked[begin : begin + 50] for entry in audited(one)))
        run(watch)
        if len(story(books)) > 1:
            break
    assert story(books) == [(1, "promoted"), (1, "rolled_back")] or story(books)[1:] == [
        (1, "raised")
    ]
    assert begin + 50 - 1500 <= 500


@pytest.mark.parametrize(
    "strange",
    [
        taught(ask(50, 0.9, False), model="m-2"),
        taught(ask(50, 0.9, False), prompt=PROMPT + " Shortly."),
        taught(ask(50, 0.9, False), a_note(ask(50, 0.9, False), "teacher", voids="asked of m-9")),
        taught(ask(50, 0.9, False), model="m-2", about=1),
    ],
)
def test_another_teacher_voids_the_version_at_once_and_for_good(
    books: SqliteStore, strange: LiveEntry
) -> None:
    watch = serving(books)
    fold(books, [*audited(ask(1, 0.9, False)), strange, *audited(ask(2, 0.9, False))])
    run(watch)
    assert story(books) == [(1, "promoted"), (1, "voided")]
    assert stands(books).threshold is None
    change(books, "shadowed", at_us=NOW_US + 1)
    fold(books, map(taught, some(1200, first=100)))
    events = list(books.policy_events(TASK))[:2]
    for verb in (lifecycle.promote, lifecycle.certify):
        with pytest.raises(CallerError, match="that is for good"):
            verb(events, 1, a_certificate(0.0), why="w", who="ana", at_us=1)


def two_versions(books: SqliteStore, bar: float) -> Watch:
    """Version 1 serves, version 2 is in shadow; both have seen what the coin chose."""
    open_desk(books, {}, {})
    books.add_verdict(TASK, 1, a_certificate(bar), 0)
    change(books, "promoted", at_us=1500, threshold=bar)
    change(books, "shadowed", version=2, at_us=1500)
    entries: list[LiveEntry] = []
    for one in some(1500):
        by_student = float(one.text.split()[1]) >= bar
        entries += audited(one) if by_student else [taught(one, a_note(one, "teacher"))]
    fold(books, entries)
    return a_watch(books)


def test_a_new_version_that_answers_more_of_the_same_rows_takes_over(books: SqliteStore) -> None:
    run(two_versions(books, 0.7))
    assert story(books)[2:4] == [(2, "certified"), (2, "promoted")]
    assert stands(books, 1).mode is Mode.STOPPED
    why = list(books.policy_events(TASK))[3].why
    assert "rows that both have seen, version 2 would answer" in why


def test_a_new_version_that_is_no_better_stays_certified_and_that_is_told_once(
    books: SqliteStore,
) -> None:
    watch = two_versions(books, 0.25)
    run(watch)
    assert story(books)[2:] == [(2, "certified")]
    extra = some(100, seed=9, first=5000)
    fold(books, (entry for one in extra for entry in audited(one)))
    run(watch)
    run(a_watch(books))
    assert story(books)[2:] == [(2, "certified")]
    notices = [notice for notice in told(books) if notice.kind == "not_better"]
    assert len(notices) == 1
    assert notices[0].version == 2


def test_nobody_is_promoted_over_a_version_that_a_person_has_paused_or_after_another_change(
    books: SqliteStore,
) -> None:
    watch = two_versions(books, 0.7)
    change(books, "paused", at_us=NOW_US)
    run(watch)
    assert story(books)[3:] == [(2, "certified")]
    change(books, "rolled_back", at_us=NOW_US)
    run(watch)
    assert story(books)[4:] == [(1, "rolled_back")]


def test_a_version_that_was_at_work_before_is_not_certified_again(books: SqliteStore) -> None:
    watch = serving(books, threshold=0.5)
    change(books, "rolled_back", at_us=1600)
    change(books, "shadowed", at_us=1700)
    fold(books, map(taught, some(1200)))
    run(watch)
    assert story(books)[-1] == (1, "shadowed")
    assert stands(books).threshold == 0.5


class Hasty:
    """A store in which a person changes the task whenever an automatic change is to be kept."""

    def __init__(self, store: SqliteStore, person: Callable[[], object]) -> None:
        self._store, self._person = store, person

    def add_policy_event(self, event: Any, expected: int | None = None) -> int:
        self._person()
        return self._store.add_policy_event(event, expected)

    def __getattr__(self, call: str) -> Any:
        return getattr(self._store, call)


def test_a_persons_newer_change_is_never_overridden(books: SqliteStore) -> None:
    serving(books, threshold=0.2)
    for n in range(10_000, 10_040):
        fold(books, audited(ask(n, 0.9, wrong=n % 2 == 0)))
    said: list[int] = []

    def promote_stricter() -> None:
        if not said:
            said.append(change(books, "promoted", at_us=NOW_US, threshold=0.6))

    run(a_watch(Hasty(books, promote_stricter)))
    assert story(books) == [(1, "promoted"), (1, "promoted")]
    assert stands(books).threshold == 0.6


class Failing:
    """A store whose call of one number fails, before or after it was done."""

    def __init__(self, store: SqliteStore, number: int, *, done: bool) -> None:
        self._store, self._number, self._done = store, number, done
        self.calls = 0

    def __getattr__(self, call: str) -> Any:
        real = getattr(self._store, call)

        def asked(*given: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls != self._number:
                return real(*given, **named)
            if self._done:
                real(*given, **named)
            raise StoreError(f"{call} failed")

        return asked


@pytest.fixture(scope="module")
def full_desk(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database whose traffic certifies and promotes, then drifts, then shows another teacher."""
    file = tmp_path_factory.mktemp("desk") / "books.db"
    with SqliteStore(file) as books:
        open_desk(books, {"delta": 0.9, "planned_rows": 100})
        change(books, "shadowed")
        fold(books, map(taught, some(200)))
        late = (ask(n, 0.95, wrong=n % 2 == 0) for n in range(2000, 2050))
        fold(books, entries_of(late, at_us=NOW_US + 5))
        fold(books, [taught(ask(3000, 0.9, False), model="m-2", at_us=2 * NOW_US)])
    return file.read_bytes()


@contextmanager
def a_copy(desk: bytes, file: Path) -> Iterator[SqliteStore]:
    file.write_bytes(desk)
    with SqliteStore(file) as books:
        yield books
    file.unlink()


def dies(watch: Watch) -> bool:
    """Step until nothing is left, or until it fails."""
    try:
        run(watch)
    except StoreError:
        return True
    return False


def outcome(books: SqliteStore) -> Any:
    rows = [row._replace(number=0) for row in books.evidence(TASK, 1)]
    texts = [row.text for row in books.task_rows(TASK)]
    notices = [(notice.kind, notice.sentence) for notice in told(books)]
    return story(books), rows, texts, notices, books.watch_place(PLACE), books.verdict(TASK, 1)


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("done", [True, False])
def test_a_watch_that_fails_or_dies_anywhere_comes_to_the_same_end(
    tmp_path: Path, full_desk: bytes, restarted: bool, done: bool
) -> None:
    with a_copy(full_desk, tmp_path / "0.db") as books:
        counting = Failing(books, -1, done=False)
        run(a_watch(counting, batch=100))
        expected, calls = outcome(books), counting.calls
    assert [event for _, event in expected[0]] == [
        "shadowed", "certified", "promoted", "raised", "rolled_back"
    ]  # fmt: skip
    assert len({row.exchange_id for row in expected[1]}) == len(expected[1]) >= 200
    for number in range(1, calls + 1):
        with a_copy(full_desk, tmp_path / f"{number}.db") as books:
            broken = Failing(books, number, done=done)
            watch = a_watch(broken, batch=100)
            assert dies(watch)
            run(a_watch(books, batch=100) if restarted else watch)
            assert outcome(books) == expected, f"call {number} failed"


def test_students_that_stay_away_are_waited_for_and_then_passed_over(books: SqliteStore) -> None:
    open_desk(books, {}, {})
    for version in (1, 2):
        change(books, "shadowed", version=version)
    fold(books, map(taught, some(1200)))
    students = Scripted()
    students.away = {"s1"}
    watch = a_watch(books, replace(AUTO, auto_promote=False), students)
    for _ in range(PATIENCE):
        with pytest.raises(StudentsAwayError):
            asyncio.run(watch.step())
    assert books.watch_place(PLACE) == 0
    run(watch)
    assert list(books.evidence(TASK, 1)) == []
    assert len(list(books.evidence(TASK, 2))) == 1200
    assert len(list(books.task_rows(TASK))) == 1200
    assert sum(student == "s1" for student, _ in students.asked) == PATIENCE + 3
    students.away = set()
    fold(books, map(taught, some(10, first=5000)))
    run(watch)
    assert len(list(books.evidence(TASK, 1))) == 10


def test_students_that_come_back_in_time_miss_nothing(books: SqliteStore) -> None:
    open_desk(books, {})
    change(books, "shadowed")
    fold(books, map(taught, some(30)))
    students = Scripted()
    students.away = {"s1"}
    watch = a_watch(books, students=students)
    with pytest.raises(StudentsAwayError):
        asyncio.run(watch.step())
    students.away = set()
    run(watch)
    assert len(list(books.evidence(TASK, 1))) == 30


def test_the_rows_of_a_task_are_kept_though_no_version_gathers_any_more(
    books: SqliteStore,
) -> None:
    watch = serving(books)
    change(books, "rolled_back", at_us=1600)
    fold(books, map(taught, some(20)))
    run(watch)
    assert len(list(books.task_rows(TASK))) == 20
    assert list(books.evidence(TASK, 1)) == []


@pytest.mark.parametrize(
    ("on_inputs", "event"), [("notice", ""), ("raise", "raised"), ("stop", "rolled_back")]
)
def test_inputs_that_change_are_answered_as_the_terms_say(
    books: SqliteStore, on_inputs: str, event: str
) -> None:
    terms = replace(AUTO, on_inputs=on_inputs, run_length=1000.0, shadow_share=1.0)
    watch = serving(books, terms, threshold=0.05)
    for begin, high in ((1, True), (1000, False)):
        asked = [ask(n, 0.9 if high else 0.1, wrong=False) for n in range(begin, begin + 600)]
        fold(books, (served(one, a_note(one, "student", coin=False)) for one in asked))
        run(watch)
    late = ask(5000, 0.1, wrong=False)  # by then, all before it have been answered
    fold(books, [served(late, a_note(late, "student", coin=False), at_us=2 * SETTLED_US)])
    run(watch)
    assert story(books)[1:] == ([(1, event)] if event else [])
    kinds = [notice.kind for notice in told(books)]
    assert kinds == ["promoted", event or "inputs"]


def test_a_pause_and_a_resumption_keep_what_was_seen(books: SqliteStore) -> None:
    watch = serving(books, threshold=0.2)
    for n in range(10_000, 10_012):
        fold(books, audited(ask(n, 0.9, wrong=n % 2 == 0)))
    run(watch)
    before = watch.judges[TASK, 1].level
    assert 0 < before < 1
    change(books, "paused", at_us=NOW_US)
    change(books, "resumed", at_us=NOW_US + 1)
    run(watch)
    assert watch.judges[TASK, 1].level == before
    assert serving_since(list(books.policy_events(TASK)), 1) == 1500


def test_every_change_is_told_whoever_made_it(books: SqliteStore) -> None:
    open_desk(books, {})
    change(books, "shadowed")
    run(a_watch(books))
    run(a_watch(books))
    assert [(one.notice_id, one.sentence) for one in told(books)] == [
        ("desk-v1-shadowed-1", "ana: as said")
    ]


def after_promotion(books: SqliteStore, count: int) -> None:
    """Requests that are all audited: by a shadow call, or by the teacher who answered them."""
    bar = stands(books).threshold
    for one in some(count, seed=9, first=20_000):
        if a_note(one, "student").score >= bar:
            fold(books, audited(one, at_us=NOW_US + one.number))
        else:
            note = a_note(one, "teacher", reason="below threshold")
            fold(books, [taught(one, note, at_us=NOW_US + one.number)])


def test_a_threshold_widens_by_itself_as_audits_come_in(books: SqliteStore) -> None:
    open_desk(books, {})
    change(books, "shadowed")
    fold(books, map(taught, some(500)))
    run(a_watch(books))
    first = stands(books)
    after_promotion(books, 2500)
    run(a_watch(books))
    last = stands(books)
    assert last.threshold < first.threshold
    assert (last.mode, last.share, last.who) == (Mode.SERVING, first.share, "monitor")
    verdict = books.verdict(TASK, 1)
    assert isinstance(verdict, Certificate)
    assert verdict.threshold == last.threshold
    events = list(books.policy_events(TASK))
    promoted = next(event for event in events if event.event == "promoted")
    assert serving_since(events, 1) == promoted.at_us, "the detector keeps what it has heard"


def test_what_a_person_has_chosen_is_not_widened(books: SqliteStore) -> None:
    open_desk(books, {})
    change(books, "shadowed")
    fold(books, map(taught, some(500)))
    run(a_watch(books))
    change(books, "promoted", at_us=NOW_US + 1, threshold=0.8)
    after_promotion(books, 2500)
    run(a_watch(books))
    assert stands(books).threshold == 0.8


def test_inputs_are_heard_in_the_order_of_the_requests_and_not_of_the_books(
    books: SqliteStore,
) -> None:
    """A student's answers are booked first: in that order it would seem ever less sure."""
    terms = replace(AUTO, run_length=1000.0, shadow_share=1.0)
    watch = serving(books, terms, threshold=0.5)
    watch.batch = 50
    chance = random.Random(3)
    asked = [ask(n, chance.random(), wrong=False) for n in range(1, 401)]
    sure = [one for one in asked if a_note(one, "student").score >= 0.5]
    rest = [one for one in asked if one not in sure]
    fold(books, (served(one, a_note(one, "student", coin=False)) for one in sure))
    fold(books, (taught(one, a_note(one, "teacher", coin=False)) for one in rest))
    late = ask(5000, 0.9, wrong=False)
    fold(books, [served(late, a_note(late, "student", coin=False), at_us=2 * SETTLED_US)])
    run(watch)
    assert "inputs" not in [notice.kind for notice in told(books)]
