"""What every store must do with students at work: who answers, what they said, what is audited."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import orjson

from stillhouse.core.calls import Ended, Fate, Started
from stillhouse.core.learning import AnswerShape, Target, Task
from stillhouse.core.serving import (
    Change,
    Charter,
    Consultation,
    Evidence,
    InputRange,
    Notice,
    PolicyEvent,
)
from stillhouse.core.traffic import AttemptKind, Exchange, Tags, Usage
from stillhouse.testing.store_entries import PRICES, Opener, an_entry, count, keep, refused

LiveEntry = tuple[Exchange, tuple[tuple[Started, Ended], ...]]

CHARTER = Charter(
    task="t",
    version=1,
    student="digest",
    recipe="lexical",
    shape=AnswerShape.LABELS,
    answers={"a": "A\0", "b": "B"},
    levels=(0.1 + 0.2, 0.5),
    planned_rows=1000,
    target=Target(0.02, 0.9),
    delta=0.03,
    recogniser="r",
    prompts=("p",),
    asked_models=("m",),
    teachers=("teacher",),
    inputs=InputRange(100, ("latin",), images=True),
    scores=(0.25, 1 / 3),
    words=("word",),
    since_us=7,
)

CONSULTATION = Consultation("t", 1, "a", 0.75, 0.5, "student", True, "certified", "", "", "k1")
"""An answer of the student that the coin picked for an audit."""


def consulted(
    n: int,
    consultation: Consultation | None = CONSULTATION,
    *,
    body: bytes | None = None,
    kept: str | None = None,
    kind: AttemptKind = AttemptKind.STUDENT,
    avoided_pico: int = 0,
    billed: int | None = 5,
) -> LiveEntry:
    """An exchange of one attempt, as `add_live` takes it, about which a student was asked."""
    exchange, _, charges = an_entry(n, at_us=n, asked=f"text {n}", billed=billed)
    attempt = exchange.attempts[0]._replace(kind=kind)
    if kind is AttemptKind.STUDENT:
        attempt, charges = attempt._replace(usage=Usage()), ()
    sent = a_body(n) if body is None else body
    started = Started(
        exchange.exchange_id,
        attempt,
        "chat",
        "student",
        Tags(),
        "k1",
        asked=sent.decode() if kept is None else kept,
        asked_bytes=len(sent),
        consultation=consultation,
    )
    basis = "m at acme" if avoided_pico else ""
    ended = Ended(
        exchange.exchange_id, attempt, charges, Fate.OK, 200, avoided_pico=avoided_pico, basis=basis
    )
    return replace(exchange, attempts=(attempt,)), ((started, ended),)


def a_body(n: int) -> bytes:
    """A caller's body."""
    return orjson.dumps({"model": "asked-for", "messages": [{"role": "user", "content": f"é{n}"}]})


def name(n: int) -> str:
    """The id of an exchange that `consulted` made."""
    return f"{n:032x}"


def fold(store: Any, *entries: LiveEntry) -> tuple[int, int, int]:
    """Fold exchanges: how many were new, here already, and how many attempts came late."""
    outcome = store.add_live(entries, PRICES, run="r", place=(1, 9))
    return outcome.new, outcome.duplicates, outcome.late


def check_policy(opened: Opener) -> None:
    """Events count up over all tasks; one that was decided on an old state is not kept."""
    promoted = PolicyEvent("t", 1, Change.PROMOTED, "why", "ana", 1, {"threshold": 0.5, "keys": []})

    def append(expected: int) -> int:
        with opened() as store:
            return int(store.add_policy_event(promoted, expected))

    with opened() as store:
        assert (store.policy_number(), list(store.policy_events())) == (0, [])
        first = store.add_policy_event(promoted, 0)
        other = store.add_policy_event(promoted._replace(task="u", detail={}))
        assert 0 < first < other == store.policy_number()
        assert store.add_policy_event(promoted, 0) == 0, "an event overrode one it did not know"
        assert store.add_policy_event(promoted, other) == 0
        with ThreadPoolExecutor(4) as pool:
            numbers = sorted(pool.map(append, [first] * 4))
        assert numbers == [0, 0, 0, store.policy_number()], "not one of four events was kept"
        kept = [promoted._replace(number=first), promoted._replace(number=numbers[3])]
        assert list(store.policy_events("t")) == kept
        assert [event.number for event in store.policy_events()] == [first, other, numbers[3]]


def check_charters(opened: Opener) -> None:
    """A charter comes back as it was, and is never changed."""
    second = replace(CHARTER, version=2, answers={}, levels=(), scores=())
    with opened() as store:
        assert (store.charter("t", 1), store.charters()) == (None, ())
        for charter in (second, CHARTER, CHARTER):
            store.put_charter(charter)
        changed = replace(CHARTER, delta=0.04)
        sentence = refused(lambda: store.put_charter(changed), "another charter of a version")
        assert "has another charter already" in sentence
    with opened() as store:
        assert store.charter("t", 1) == CHARTER, f"the charter came back as {store.charter('t', 1)}"
        assert store.charters() == (CHARTER, second)
        assert store.charter("u", 1) is None


def check_recogniser(opened: Opener) -> None:
    """The recogniser belongs to the tasks that were saved with it; old ones stay artefacts."""
    with opened() as store:
        assert store.recogniser() == ""
        store.save_tasks([], [], b"first")
        first = store.recogniser()
        store.save_tasks([], [], recogniser=b"second")
        assert store.get_artefact(store.recogniser()) == b"second"
        assert store.get_artefact(first) == b"first"
        broken = [(name(9), "unknown", "")]
        refused(lambda: store.save_tasks([], broken, b"third"), "rows of an unknown exchange")
        assert store.get_artefact(store.recogniser()) == b"second"
        store.save_tasks([], [])
        assert store.recogniser() == ""


def check_consultations(opened: Opener) -> None:
    """What a student was asked is kept once with its exchange, however often it is read."""
    odd = CONSULTATION._replace(
        label="\0", score=float("nan"), answerer="teacher", coin=False, voids="another teacher"
    )
    entries = [
        consulted(1),
        consulted(2, odd, kind=AttemptKind.TEACHER),
        consulted(3, None, kind=AttemptKind.TEACHER),
        consulted(4, CONSULTATION._replace(about=name(1)), kind=AttemptKind.SHADOW),
    ]
    with opened() as store:
        assert fold(store, *entries[:2]) == (2, 0, 0)
        assert fold(store, *entries, entries[0]) == (2, 3, 0)
        assert fold(store, *entries) == (0, 4, 0)
        assert count(store, "consultations") == 3
        assert count(store, "student_versions") == 1
    with opened() as store:
        found = store.watched(0, 10)
        assert [watched.exchange for watched in found] == [exchange for exchange, _ in entries]
        said = [watched.consultation for watched in found]
        assert said[0] == CONSULTATION, f"the consultation came back as {said[0]}"
        assert str(said[1]) == str(odd), f"the consultation came back as {said[1]}"
        assert said[2:] == [None, CONSULTATION._replace(about=name(1))]


def check_late_consultations(opened: Opener) -> None:
    """Of several consultations that come together the last counts, and none after one is kept."""
    (exchange, ((started, ended),)) = consulted(1, kind=AttemptKind.TEACHER)
    bridged = CONSULTATION._replace(reason="bridge")
    second = ended.attempt._replace(attempt_id=f"{name(1)}-2", kind=AttemptKind.STUDENT)
    deferred = started._replace(consultation=CONSULTATION._replace(answerer="teacher"))
    last = (
        started._replace(attempt=second, asked="", consultation=bridged),
        ended._replace(attempt=second, charges=()),
    )
    both = replace(exchange, attempts=(ended.attempt, second))
    with opened() as store:
        assert fold(store, (both, ((deferred, ended), last))) == (1, 0, 0)
        (watched,) = store.watched(0, 10)
        assert watched.consultation == bridged
        (call,) = store.waiting_shadows(10, 0)
        assert call.body == a_body(1), "the body was kept with the first call"
    _, ((other, closed),) = consulted(2, None, kind=AttemptKind.TEACHER)
    late = closed.attempt._replace(attempt_id=f"{name(2)}-2")
    alone = consulted(2, None, kind=AttemptKind.TEACHER)
    again = (
        replace(alone[0], attempts=(closed.attempt, late)),
        (
            (other, closed),
            (
                other._replace(attempt=late, consultation=bridged),
                closed._replace(attempt=late, charges=()),
            ),
        ),
    )
    with opened() as store:
        assert fold(store, alone) == (1, 0, 0)
        assert fold(store, again) == (0, 1, 1)
        assert fold(store, again) == (0, 1, 0)
        assert [watched.consultation for watched in store.watched(0, 10)] == [bridged, bridged]


def check_shadow_calls(opened: Opener) -> None:
    """The teacher is asked for what the student answered and the coin picked: once, and whole."""
    tails = CONSULTATION._replace(coin=False)
    deferred = CONSULTATION._replace(answerer="teacher")
    audit = CONSULTATION._replace(about=name(1))
    entries = [
        consulted(1),
        consulted(2, tails),
        consulted(3, deferred, kind=AttemptKind.TEACHER),
        consulted(4, audit, kind=AttemptKind.SHADOW),
        consulted(5, kept=""),
        consulted(6, kept='{"model": "redacted"}'),
        consulted(7, body=b"no JSON"),
        consulted(8, body=b'["no object"]'),
        consulted(9),
    ]
    with opened() as store:
        fold(store, *entries)
        first, last = store.waiting_shadows(10, 0)
        assert first == (name(1), 1, "chat", "asked-for", a_body(1), CONSULTATION, 0, "")
        assert last.exchange_id == name(9)
        assert store.shadows_waiting() == (2, 1)
        assert store.waiting_shadows(1, 0) == [first]
        assert store.shadow_failed(name(1), 100)
        assert [call.tries for call in store.waiting_shadows(10, 100)] == [1, 0]
        assert store.waiting_shadows(10, 99) == [last]
        store.shadow_later(name(9), 200)
        assert store.waiting_shadows(10, 99) == []
        store.shadow_done(name(1))
        store.shadow_done(name(1))
        fold(store, *entries)
        assert [call.exchange_id for call in store.waiting_shadows(10, 200)] == [name(9)]
        tried = 0
        while store.shadow_failed(name(9), 0):
            tried += 1
        assert 0 < tried < 50, "an audit was tried for ever, or never"
        assert not store.shadow_failed(name(9), 0)
    with opened() as store:
        assert (store.shadows_waiting(), store.waiting_shadows(10, 999)) == ((0, 0), [])
        (figures,) = store.serving_figures("t")
        assert (figures.shadows_done, figures.shadows_given_up) == (1, 1)


def check_watching(opened: Opener) -> None:
    """Exchanges are watched in the order of booking; what was found is kept with the place."""
    rows = [
        Evidence(name(n), n, n / 7, "a", "b" if n % 2 else "a", bool(n % 3)) for n in range(1, 4)
    ]
    task = Task("t", "sig", AnswerShape.LABELS, "t")
    with opened() as store:
        fold(store, *(consulted(n) for n in (3, 1)))
        keep(store, [an_entry(2, at_us=0)])
        store.save_tasks([task], [(name(1), "t", "as found")])
        found = store.watched(0, 2)
        assert [int(watched.exchange.exchange_id, 16) for watched in found] == [3, 1]
        (third,) = store.watched(found[-1].number, 10)
        assert third.exchange.exchange_id == name(2)
        assert third.consultation is None
        assert store.watched(third.number, 10) == []
        assert store.watch_place("w") == 0
        slots = [(name(1), "t", "later"), (name(3), "t", "slot"), (name(2), "unknown", "no")]
        store.keep_watch("w", 2, {("t", 1): rows[:2], ("t", 2): rows[:1]}, slots)
        store.keep_watch("other", 9, {}, ())
        store.keep_watch("w", 3, {("t", 1): rows}, slots)
        broken = [rows[0]._replace(exchange_id=name(8), at_us=2**63)]
        refused(lambda: store.keep_watch("w", 4, {("t", 3): broken}, ()), "a time of 65 bits")
        store.keep_watch("w", 4, {("t", 4): rows[:1]}, ())
    with opened() as store:
        assert (store.watch_place("w"), store.watch_place("other")) == (4, 9)
        kept = list(store.evidence("t", 1))
        assert [row._replace(number=0) for row in kept] == rows, f"evidence came back as {kept}"
        assert list(store.evidence("t", 1, kept[0].number)) == kept[1:]
        assert len(list(store.evidence("t", 2))) == len(list(store.evidence("t", 4))) == 1
        assert list(store.evidence("t", 3)) == []
        ((slots_kept,),) = store.database.rows(
            "SELECT count(*) FROM task_rows WHERE slot IN ('as found', 'slot')"
        )
        assert slots_kept == count(store, "task_rows") == 2


def check_rows_of_students(opened: Opener) -> None:
    """What a student answered is no row of its task; what the teacher answered beside it is."""
    entries = [
        consulted(1),
        consulted(2, None, kind=AttemptKind.TEACHER),
        consulted(3, CONSULTATION._replace(about=name(1)), kind=AttemptKind.SHADOW),
    ]
    with opened() as store:
        fold(store, *entries)
        rows = [(name(n), "t", f"slot {n}") for n in (1, 2, 3)]
        store.save_tasks([Task("t", "sig", AnswerShape.LABELS, "t")], rows)
        assert [row.text for row in store.task_rows("t")] == ["slot 2", "slot 3"]


def check_figures(opened: Opener) -> None:
    """What a version did, saved and cost is summed to the last digit."""
    large = 2**62
    tails = CONSULTATION._replace(coin=False)
    other = CONSULTATION._replace(version=2, answerer="teacher")
    entries = [
        consulted(1, avoided_pico=large),
        consulted(2, tails, avoided_pico=large),
        consulted(3, tails, avoided_pico=large + 1),
        consulted(4, other, kind=AttemptKind.TEACHER),
        consulted(5, CONSULTATION._replace(about=name(1)), kind=AttemptKind.SHADOW, billed=large),
        consulted(6, CONSULTATION._replace(about=name(2)), kind=AttemptKind.SHADOW, billed=large),
        consulted(7, CONSULTATION._replace(about=name(3)), kind=AttemptKind.SHADOW, billed=None),
        consulted(8, CONSULTATION._replace(task="u")),
    ]
    with opened() as store:
        assert store.serving_figures("t") == ()
        fold(store, *entries)
        first, second = store.serving_figures("t")
        assert first[:7] == (1, 3, 3, 1, 0, 1, 0)
        assert first[7:] == (3 * large + 1, 2 * large, 1)
        assert second == (2, 1, 0, 1, 0, 0, 0, 0, 0, 0)


def check_notices(opened: Opener) -> None:
    """A notice is told until it is taken, and kept once."""
    told = [Notice(f"n{n}", Change.VOIDED, "t", 1, "It\0 ends.", n, {"n": n}) for n in (1, 2)]
    with opened() as store:
        for notice in (*told, told[0]._replace(sentence="another")):
            store.add_notice(notice)
        assert store.undelivered(10, 0) == told
        assert store.undelivered(1, 0) == told[:1]
        store.notice_failed("n1", 50)
        assert store.undelivered(10, 49) == told[1:]
        store.notice_delivered("n2", 60)
    with opened() as store:
        assert store.undelivered(10, 50) == told[:1]
        store.add_notice(told[1])
        store.notice_delivered("n1", 70)
        assert store.undelivered(10, 99) == []


SERVING_CHECKS: tuple[Callable[[Opener], None], ...] = (
    check_policy,
    check_charters,
    check_recogniser,
    check_consultations,
    check_late_consultations,
    check_shadow_calls,
    check_watching,
    check_rows_of_students,
    check_figures,
    check_notices,
)
"""Each of what a store promises about students at work."""
