"""While the teacher fails a student may answer, uncertified; every call is in one exchange."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.calls import Done, Fate
from stillhouse.core.catalogue import Wire
from stillhouse.core.learning import Prediction
from stillhouse.core.quotas import Denied
from stillhouse.core.serving import Answered, Mode
from stillhouse.core.traffic import AttemptKind
from stillhouse.flows.fold import Folder
from stillhouse.flows.fold_making import Making
from stillhouse.flows.price_facts import facts_of
from stillhouse.flows.verify import Audit, verify
from stillhouse.store.journal import JournalWriter
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.store.sqlite import SqliteStore
from stillhouse.wiring.folding import bodies

if TYPE_CHECKING:
    from tests.flows.conftest import Employed

    from stillhouse.flows.house import Asked

UNSURE = Answered(Prediction("loans", 0.6))


@pytest.fixture
def bridging(employed: Employed) -> Employed:
    """A student that bridges, and is not sure of what it is asked."""
    return bridge(employed)


def bridge(employed: Employed) -> Employed:
    employed.terms = replace(employed.terms, bridge=True, shadow_share=1.0)
    employed.students.says = UNSURE
    return employed


def serve(employed: Employed, asked: Asked | None = None) -> Done:
    """Answer a request, and see that the books are in order and the watch hears of it once."""
    before = len(employed.stage.watch.seen)
    done = asyncio.run(employed.answer(asked or employed.asked()))
    employed.stage.check_books()
    assert len(employed.stage.watch.seen) == before + 1
    return done


def field(employed: Employed, name: str) -> str:
    return dict(employed.stage.reader.headers).get(name.encode(), b"").decode()


OUTAGES = [500, 502, 503, 529, Fate.REFUSED, Fate.DNS, Fate.FIRST_BYTE_TIMEOUT, Fate.DROPPED]


def fail(employed: Employed, how: int | Fate) -> None:
    stage = employed.stage
    stage.a.script = [stage.failure(how) if isinstance(how, Fate) else stage.refusal(how)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", OUTAGES)
def test_a_student_answers_while_the_teacher_fails_and_says_that_it_is_not_certified(
    bridging: Employed, how: int | Fate, stream: bool
) -> None:
    stage = bridging.stage
    fail(bridging, how)
    done = serve(bridging, bridging.asked(body={"stream": stream}))
    assert (stage.reader.status, done.status) == (200, 200)
    assert b"Loans" in stage.reader.body
    assert field(bridging, "x-stillhouse-answered-by") == "student"
    assert field(bridging, "x-stillhouse-uncertified") == "bridging the teacher's outage"
    assert field(bridging, "x-stillhouse-certificate") == ""
    assert (stage.notes.count("whole"), stage.notes.count("begin")) == (not stream, stream)
    *failed, given = stage.journal.ended
    assert failed
    assert [one.attempt.ok for one in failed] == [False] * len(failed)
    assert [one.last for one in stage.journal.ended] == [False] * len(failed) + [True]
    assert (given.attempt.kind, given.avoided_pico) == (AttemptKind.STUDENT, 0)
    note = stage.journal.started[-1].consultation
    assert note is not None
    assert (note.answerer, note.coin, note.reason) == (
        "student",
        False,
        "bridging the teacher's outage",
    )
    assert done.consultation == note
    assert done.attempts == tuple(stage.journal.ended)
    assert stage.house.staff is not None
    assert stage.house.staff.voided == set()


def test_the_body_says_that_the_answer_is_not_certified(bridging: Employed) -> None:
    fail(bridging, 500)
    serve(bridging)
    assert bridging.stage.reader.told["stillhouse"] == {
        "answered_by": "student",
        "uncertified": "bridging the teacher's outage",
    }


def test_the_wait_for_the_teacher_is_no_time_of_the_endpoints_own(bridging: Employed) -> None:
    stage = bridging.stage
    stage.a.script = [stage.refusal(500)._replace(waiting=[stage.pass_time(3.0)])]
    done = serve(bridging, bridging.asked(max_attempts=1))
    assert (done.seconds, done.overhead_seconds) == (3.0, 0.0)


def without_the_terms(employed: Employed) -> Asked:
    employed.terms = replace(employed.terms, bridge=False)
    return employed.asked()


def late(employed: Employed) -> Asked:
    employed.students.says = None
    return employed.asked()


def unknown(employed: Employed) -> Asked:
    employed.students.says = Answered(Prediction("parcels", 0.6))
    return employed.asked()


def forbidden(employed: Employed) -> Asked:
    return employed.asked()._replace(students=False)


def paused(employed: Employed) -> Asked:
    employed.standing = replace(employed.standing, mode=Mode.PAUSED)
    return employed.asked()


def not_renderable(employed: Employed) -> Asked:
    return employed.asked(body={"n": 2})


@pytest.mark.parametrize(
    "made", [without_the_terms, late, unknown, forbidden, paused, not_renderable]
)
def test_without_a_student_that_may_bridge_the_failure_is_passed_on(
    bridging: Employed, made: Any
) -> None:
    stage = bridging.stage
    stage.a.script = [stage.refusal(503, message="too busy")]
    done = serve(bridging, made(bridging))
    assert (stage.reader.status, done.status) == (503, 503)
    assert stage.reader.told["error"]["message"] == "too busy"
    assert field(bridging, "x-stillhouse-answered-by") == ""
    assert stage.notes.count("whole") == 1
    assert not any(e.attempt.kind is AttemptKind.STUDENT for e in stage.journal.ended)


@pytest.mark.parametrize("status", [400, 404, 422, 429])
def test_a_callers_own_failure_is_never_bridged(bridging: Employed, status: int) -> None:
    fail(bridging, status)
    done = serve(bridging)
    assert (bridging.stage.reader.status, done.status) == (status, status)
    assert field(bridging, "x-stillhouse-answered-by") == ""


def test_a_stream_that_has_begun_is_never_bridged(bridging: Employed) -> None:
    stage = bridging.stage
    first, *_ = stage.events_of()
    broken = stage.failure(Fate.DROPPED).waiting[0]
    stage.a.script = [stage.stream_of(first, broken)]
    serve(bridging, bridging.asked(body={"stream": True}))
    assert field(bridging, "x-stillhouse-answered-by") == "teacher"
    assert b"Loans" not in stage.reader.body
    assert stage.notes.count("begin") == 1


def test_a_teacher_that_answers_is_given_and_named(bridging: Employed) -> None:
    serve(bridging)
    assert field(bridging, "x-stillhouse-answered-by") == "teacher"
    (started,) = bridging.stage.journal.started
    assert started.consultation is not None
    assert (started.consultation.answerer, started.consultation.coin) == ("teacher", True)


def test_a_second_upstream_that_answers_needs_no_bridge(bridging: Employed) -> None:
    fail(bridging, 500)
    serve(bridging, bridging.asked("a", "b"))
    assert field(bridging, "x-stillhouse-answered-by") == "teacher"


def test_a_limit_in_the_way_of_the_first_call_is_told_as_it_is(bridging: Employed) -> None:
    bridging.stage.desk.denies[0] = Denied(None, "the budget is spent", None)
    serve(bridging)
    assert bridging.stage.reader.status == 429
    assert bridging.stage.journal.entries == []


def test_a_limit_in_the_way_of_a_later_call_closes_the_exchange(bridging: Employed) -> None:
    fail(bridging, 500)
    bridging.stage.desk.denies[1] = Denied(None, "the budget is spent", None)
    serve(bridging)
    assert bridging.stage.reader.status == 429


def test_a_limit_in_the_way_of_the_bridge_leaves_the_teachers_failure(bridging: Employed) -> None:
    fail(bridging, 500)
    bridging.stage.desk.denies[1] = Denied(None, "one request at a time", None)
    done = serve(bridging, bridging.asked(max_attempts=1))
    assert (bridging.stage.reader.status, done.status) == (500, 500)


@pytest.mark.parametrize("refused", [0, 2])
def test_what_cannot_be_journalled_is_neither_bought_nor_bridged(
    bridging: Employed, refused: int
) -> None:
    stage = bridging.stage
    fail(bridging, 500)
    stage.journal.refuses = {refused}
    done = serve(bridging, bridging.asked(max_attempts=1))
    assert stage.reader.status == done.status == (500 if refused else 503)
    assert not any(e.attempt.kind is AttemptKind.STUDENT for e in stage.journal.ended)


def test_what_the_disk_does_not_confirm_is_no_bridge(bridging: Employed) -> None:
    stage = bridging.stage
    fail(bridging, 500)
    stage.journal.slow, stage.journal.doubtful = True, {2}
    serve(bridging, bridging.asked(max_attempts=1))
    assert stage.reader.status == 500
    assert [e.fate for e in stage.journal.ended][-2:] == [Fate.WITHDRAWN, Fate.STATUS]


def test_a_caller_that_has_left_gets_no_bridge(bridging: Employed) -> None:
    stage = bridging.stage
    stage.a.script = [stage.refusal(500)._replace(waiting=[stage.reader_leaves_unseen])]
    serve(bridging)
    assert not any(e.attempt.kind is AttemptKind.STUDENT for e in stage.journal.ended)


def test_a_certified_answer_needs_no_teacher_and_says_nothing_of_a_bridge(
    bridging: Employed,
) -> None:
    bridging.students.says = Answered(Prediction("cards", 0.95))
    fail(bridging, 500)
    serve(bridging)
    assert field(bridging, "x-stillhouse-uncertified") == ""
    assert bridging.stage.a.tried == 0


def test_a_bridge_is_never_cached(bridging: Employed) -> None:
    fail(bridging, 500)
    for number in (1, 2):
        serve(
            bridging,
            bridging.asked(number=number, body={"temperature": 0}, cache_seconds=60),
        )
        assert field(bridging, "x-stillhouse-cache") == ""


@settings(deadline=None, max_examples=150)
@given(
    script=st.lists(st.sampled_from([200, 400, 429, *OUTAGES]), min_size=1, max_size=4),
    attempts=st.integers(1, 4),
    stream=st.booleans(),
    hedged=st.booleans(),
    denied=st.sets(st.integers(0, 5), max_size=2),
    refused=st.sets(st.integers(0, 9), max_size=2),
)
def test_whatever_fails_the_books_are_closed_once_and_the_caller_is_told_once(
    make_employed: Any,
    script: list[int | Fate],
    attempts: int,
    stream: bool,
    hedged: bool,
    denied: set[int],
    refused: set[int],
) -> None:
    employed = bridge(make_employed())
    stage = employed.stage
    good = stage.stream_of(*stage.events_of()) if stream else stage.answer_of()
    said = [
        stage.failure(how) if isinstance(how, Fate) else good if how == 200 else stage.refusal(how)
        for how in script
    ]
    stage.a.script = stage.b.script = said
    stage.desk.denies = {number: Denied(None, "no", None) for number in denied}
    stage.journal.refuses = refused
    terms: dict[str, Any] = {"max_attempts": attempts}
    if hedged:
        terms["hedge_after_seconds"] = 0.0
    done = serve(employed, employed.asked("a", "b", body={"stream": stream}, **terms))
    told = stage.notes.count("whole") + stage.notes.count("begin")
    assert told == 1
    assert stage.notes.count("end") == stage.notes.count("begin")
    assert done.status == stage.reader.status
    by = {200: ("teacher", "student")}.get(stage.reader.status, ("",))
    assert field(employed, "x-stillhouse-answered-by") in by


def test_in_the_books_a_bridge_is_one_exchange_and_nothing_waits_for_an_audit(
    bridging: Employed, tmp_path: Path
) -> None:
    stage = bridging.stage
    fail(bridging, 500)
    serve(bridging)
    folder = tmp_path / "journal"
    prices = {price.price_id: facts_of(price) for price in stage.house.prices.prices}
    journal = JournalWriter(
        folder, "w1", started_us=1, durability="process", price_facts=prices.get
    )
    for entry in stage.journal.entries:
        journal.append(entry)
    journal.close()
    with SqliteStore(tmp_path / "books.db") as store:
        making = Making(lambda _: pytest.fail("interrupted"), stage.house.prices.by_id, bodies)
        Folder(JournalFolder(folder), store, making).fold_once(stage.house.now_us())
        (row,) = store.watched(0, 10)
        assert row.consultation is not None
        assert (row.consultation.answerer, row.consultation.coin) == ("student", False)
        assert row.exchange.attempts[-1].kind is AttemptKind.STUDENT
        assert row.exchange.completion.text == "Loans"
        assert store.waiting_shadows(10, stage.house.now_us() + 10**12) == []
        assert list(verify(store, Audit())) == []


def test_a_bridge_speaks_the_callers_format(bridging: Employed) -> None:
    stage = bridging.stage
    asked = bridging.asked("claude", wire=Wire.MESSAGES)
    bridging.learn(asked)
    stage.upstreams["claude"].script = [stage.refusal(529)]
    serve(bridging, asked)
    assert stage.reader.told["content"][0]["text"] == "Loans"
