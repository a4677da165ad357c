"""A student's answer: journalled before it is given, free, counted, and in the caller's format."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.calls import Done, Fate
from stillhouse.core.catalogue import Wire
from stillhouse.core.learning import AnswerShape, Prediction
from stillhouse.core.quotas import Denied, Need, Quota, Scope, Unit, Window
from stillhouse.core.serving import Answered
from stillhouse.core.traffic import AttemptKind, Tags
from stillhouse.dialects.assemble import assemble
from stillhouse.flows.desk import LeasingDesk
from stillhouse.flows.fold import Folder
from stillhouse.flows.fold_making import Making
from stillhouse.flows.price_facts import facts_of
from stillhouse.flows.verify import Audit, verify
from stillhouse.store.journal import JournalWriter
from stillhouse.store.journal_reading import JournalFolder
from stillhouse.store.sqlite import SqliteStore
from stillhouse.wiring.books import access_of
from stillhouse.wiring.folding import bodies

if TYPE_CHECKING:
    from tests.flows.conftest import Employed

    from stillhouse.flows.house import Asked

SPENT = Denied(Quota(Scope.KEY, "k1", Unit.COST, Window.DAY, 100), "the budget is spent", 7.2)
AVOIDED = 11 * 3_000_000 + 15_000_000
"""What the teacher would have charged: eleven words in, one out, at the stage's price."""


def serve(employed: Employed, asked: Asked | None = None) -> Done:
    """Answer a request, and see that the books are in order."""
    done = asyncio.run(employed.answer(asked or employed.asked()))
    employed.stage.check_books()
    return done


def field(employed: Employed, name: str) -> str:
    found = dict(employed.stage.reader.headers).get(name.encode(), b"")
    return found.decode()


def test_a_student_answers_once_for_nothing_after_the_journal_knows_of_it(
    employed: Employed,
) -> None:
    done = serve(employed)
    stage = employed.stage
    assert stage.notes == ["started", "ended", "whole", "settled 0"]
    assert stage.reader.told["choices"][0]["message"]["content"] == "Cards"
    assert stage.reader.told["stillhouse"] == {"answered_by": "student", "certificate": "desk@v3"}
    assert field(employed, "x-stillhouse-answered-by") == "student"
    assert field(employed, "x-stillhouse-certificate") == "desk@v3"
    assert int(field(employed, "content-length")) == len(stage.reader.body)
    (started,), (ended,) = stage.journal.started, stage.journal.ended
    assert started.attempt == ended.attempt
    assert (started.attempt.kind, started.attempt.host) == (AttemptKind.STUDENT, "student")
    assert (ended.fate, ended.status, ended.last) == (Fate.OK, 200, True)
    assert sum(charge.billed.pico for charge in ended.charges if charge.billed) == 0
    assert (ended.avoided_pico, ended.basis) == (
        AVOIDED,
        "estimated tokens at the price of m at acme",
    )
    note = started.consultation
    assert note is not None
    assert (note.task, note.version, note.label, note.score) == ("desk", 3, "cards", 0.97)
    assert (note.threshold, note.answerer, note.reason) == (0.9, "student", "certified")
    assert ended.answer == stage.reader.body.decode()
    assert (done.cost_pico, done.consultation, done.status) == (0, note, 200)
    assert len(stage.watch.seen) == 1


def test_where_the_teacher_has_no_price_nothing_is_said_to_be_avoided(employed: Employed) -> None:
    employed.charter = replace(employed.charter, asked_models=("nobody's",))
    serve(employed, employed.asked(body={"model": "nobody's"}))
    (ended,) = employed.stage.journal.ended
    assert (ended.avoided_pico, ended.basis) == (0, "the teacher has no price")


LATE = None
STRANGE = Answered(Prediction("parcels", 0.99))
UNSURE = Answered(Prediction("cards", 0.5))


@pytest.mark.parametrize("says", [LATE, STRANGE, UNSURE])
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_student_leaves_open_the_teacher_answers_once(
    employed: Employed, says: Answered | None, stream: bool
) -> None:
    stage = employed.stage
    employed.students.says = says
    if stream:
        stage.a.script = [stage.stream_of(*stage.events_of())]
    serve(employed, employed.asked(body={"stream": stream}))
    assert stage.a.tried == 1
    assert (stage.notes.count("whole"), stage.notes.count("begin")) == (not stream, stream)
    assert field(employed, "x-stillhouse-answered-by") == "teacher"
    assert field(employed, "x-stillhouse-certificate") == ""
    (started,) = stage.journal.started
    assert started.attempt.kind is AttemptKind.TEACHER
    assert started.consultation is not None
    assert started.consultation.answerer == "teacher"
    assert len(stage.watch.seen) == 1


def test_requests_of_no_students_task_are_answered_as_ever(employed: Employed) -> None:
    serve(employed, employed.asked(tags=Tags()))
    assert field(employed, "x-stillhouse-answered-by") == ""
    (started,) = employed.stage.journal.started
    assert started.consultation is None


def test_a_teachers_failure_is_nobodys_answer(employed: Employed) -> None:
    employed.students.says = None
    employed.stage.a.script = [employed.stage.refusal(400)]
    serve(employed)
    assert employed.stage.reader.status == 400
    assert field(employed, "x-stillhouse-answered-by") == ""


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (Wire.CHAT, {"n": 2}),
        (Wire.CHAT, {"logprobs": True}),
        (Wire.CHAT, {"logprobs": True, "top_logprobs": 3}),
        (Wire.RESPONSES, {"include": ["message.output_text.logprobs"]}),
        (Wire.RESPONSES, {"previous_response_id": "resp_1"}),
        (Wire.RESPONSES, {"conversation": {"id": "c1"}}),
    ],
)
def test_callers_that_want_what_no_student_has_get_the_teacher(
    employed: Employed, wire: Wire, body: dict[str, Any]
) -> None:
    stage = employed.stage
    stage.change_upstream("a", wires=(wire,))
    stage.a.script = [stage.answer_of(wire=wire)]
    said = {"input": "My card is gone.", **body} if wire is Wire.RESPONSES else body
    asked = employed.asked(wire=wire, body=said)
    employed.learn(asked)
    serve(employed, asked)
    assert (stage.a.tried, field(employed, "x-stillhouse-answered-by")) == (1, "teacher")
    (started,) = stage.journal.started
    assert started.consultation is not None
    assert (started.consultation.answerer, started.consultation.label) == ("teacher", "cards")
    assert started.consultation.reason


def test_what_only_sounds_like_it_is_no_such_wish(employed: Employed) -> None:
    said = {"logprobs": False, "top_logprobs": None, "n": 1, "metadata": {"note": '"logprobs": 1'}}
    serve(employed, employed.asked(body=said))
    assert field(employed, "x-stillhouse-answered-by") == "student"


TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {}}}
    for name in ("Cards", "Loans")
]


@pytest.mark.parametrize("offered", [TOOLS, TOOLS[1:]])
def test_a_tool_is_chosen_only_where_it_is_on_offer(
    employed: Employed, offered: list[dict[str, Any]]
) -> None:
    inputs = replace(employed.charter.inputs, tools=True)
    employed.charter = replace(employed.charter, shape=AnswerShape.TOOL, inputs=inputs)
    serve(employed, employed.asked(body={"tools": offered}))
    if offered is TOOLS:
        choice = employed.stage.reader.told["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        assert (call["function"]["name"], call["function"]["arguments"]) == ("Cards", "{}")
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    else:
        assert field(employed, "x-stillhouse-answered-by") == "teacher"


QUESTION = {"type": "choice", "name": "q", "instructions": "Which team?"}
LISTED = {
    "input": "gone",
    "questions": [{**QUESTION, "choices": [{"value": "Cards"}, {"value": "Loans"}]}],
}
KEYED = {"state": "gone", "questions": {"q": {**QUESTION, "criteria": {"Cards": "", "Loans": ""}}}}


def odds(*shares: float, labels: tuple[str, ...] = ("cards", "loans")) -> Answered:
    best = labels[shares.index(max(shares))]
    return Answered(Prediction(best, max(shares)), labels, shares)


@pytest.mark.parametrize("body", [LISTED, KEYED])
@pytest.mark.parametrize(
    ("says", "answered"),
    [
        (odds(0.95, 0.05), True),
        (odds(0.05, 0.95), True),
        (odds(0.92, 0.02, 0.06, labels=("cards", "loans", "other")), True),
        (odds(0.92, 0.08, labels=("other", "loans")), False),
        (Answered(Prediction("cards", 0.95)), False),
        (Answered(Prediction("cards", 0.95), ("cards", "loans"), (float("nan"), 0.1)), False),
        (Answered(Prediction("cards", 0.95), ("cards", "loans"), (0.1, 0.9)), False),
    ],
)
def test_a_decision_has_the_requests_own_options_and_shares_of_one(
    employed: Employed, body: dict[str, Any], says: Answered, answered: bool
) -> None:
    employed.students.says = says
    employed.charter = replace(
        employed.charter, answers={"cards": "Cards", "loans": "Loans", "other": "Other"}
    )
    wire = Wire.DECISIONS
    employed.stage.change_upstream("a", wires=(wire,))
    employed.stage.a.script = [employed.stage.answer_of("[]", wire=wire)]
    asked = employed.asked(wire=wire, body=body)
    employed.learn(asked)
    serve(employed, asked)
    if not answered:
        assert field(employed, "x-stillhouse-answered-by") == "teacher"
        return
    told = employed.stage.reader.told
    assert told["stillhouse"] == {"answered_by": "student", "certificate": "desk@v3"}
    given = told["answers"]["q"] if body is KEYED else told["answers"][0]
    shares = given["probabilities"]
    if body is LISTED:
        shares = {one["value"]: one["probability"] for one in shares}
    assert list(shares) == ["Cards", "Loans"]
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-12)
    assert given["choice"] == max(shares, key=shares.__getitem__)
    assert given["choice"] == employed.charter.answers[says.prediction.label]
    assert {"input_tokens", "output_tokens"} <= told["usage"].keys()


@settings(deadline=None, max_examples=60)
@given(
    literal=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    wire=st.sampled_from([Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES]),
    usage=st.booleans(),
)
def test_a_stream_joined_again_is_the_answer_given_whole(
    make_employed: Any, literal: str, wire: Wire, usage: bool
) -> None:
    told = []
    for stream in (False, True):
        employed = make_employed()
        employed.charter = replace(employed.charter, answers={"cards": literal})
        body: dict[str, Any] = {"stream": stream, "input": "My card is gone."}
        if usage:
            body["stream_options"] = {"include_usage": True}
        asked = employed.asked(wire=wire, body=body)
        employed.learn(asked)
        serve(employed, asked)
        reader = employed.stage.reader
        told.append(json.loads(assemble(reader.body, wire)) if stream else reader.told)
        assert field(employed, "x-stillhouse-certificate") == "desk@v3"
    whole, joined = told
    if wire is Wire.CHAT and not usage:
        del whole["usage"]
    assert joined["model"] == whole["model"]
    for name in ("choices", "content", "output", "stillhouse", "metadata"):
        assert joined.get(name) == whole.get(name)
    assert literal in json.dumps(whole, ensure_ascii=False) or json.dumps(literal)[
        1:-1
    ] in json.dumps(whole)


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_journalled_is_given_to_nobody(employed: Employed, stream: bool) -> None:
    stage = employed.stage
    stage.journal.refuses = {0}
    done = serve(employed, employed.asked(body={"stream": stream}))
    assert (stage.reader.status, done.status, stage.a.tried) == (503, 503, 0)
    assert b"Cards" not in stage.reader.body
    assert stage.journal.entries == []
    assert len(stage.watch.seen) == 1


def test_what_the_disk_does_not_confirm_is_closed_and_given_to_nobody(employed: Employed) -> None:
    stage = employed.stage
    stage.journal.slow, stage.journal.doubtful = True, {0}
    serve(employed)
    assert stage.reader.status == 503
    (ended,) = stage.journal.ended
    assert (ended.fate, ended.attempt.ok, ended.last) == (Fate.WITHDRAWN, False, True)


def test_an_end_that_the_disk_refuses_waits_and_the_answer_is_given(employed: Employed) -> None:
    employed.stage.journal.refuses = {1}
    serve(employed)
    assert employed.stage.reader.status == 200


def test_a_limit_that_refuses_is_told_and_nothing_is_journalled(employed: Employed) -> None:
    stage = employed.stage
    stage.desk.denies[0] = SPENT
    done = serve(employed)
    assert (stage.reader.status, stage.journal.entries, stage.a.tried) == (429, [], 0)
    assert done.refused_by == SPENT.quota.quota_id if SPENT.quota else False
    assert stage.desk.needs == [Need(0, 0)]


def test_requests_are_counted_money_is_not_asked_for_and_what_is_under_way_ends(
    employed: Employed, tmp_path: Path
) -> None:
    """With real leases: the money is spent before, three requests are allowed, one at a time."""
    stage = employed.stage
    quotas = (
        Quota(Scope.KEY, "k1", Unit.COST, Window.DAY, 1),
        Quota(Scope.KEY, "k1", Unit.TOKENS, Window.DAY, 1),
        Quota(Scope.KEY, "k1", Unit.REQUESTS, Window.DAY, 3),
        Quota(Scope.KEY, "k1", Unit.CONCURRENT, Window.NOW, 1),
    )

    async def story() -> list[int]:
        with access_of(str(tmp_path / "books.db")) as counters:
            async with LeasingDesk(counters, "w1", stage.house.now_us) as desk:
                desk.replace((), {"k1": quotas})
                stage.house.desk = desk
                employed.students.says = None
                statuses = [(await employed.answer(employed.asked(number=1))).status]
                employed.students.says = Answered(Prediction("cards", 0.95))
                for number in range(2, 6):
                    stage.new_reader()
                    done = await employed.answer(employed.asked(number=number))
                    statuses.append(done.status)
                return statuses

    assert asyncio.run(story()) == [429, 200, 200, 200, 429]
    assert stage.a.tried == 0


def test_the_concurrent_limit_is_free_again_when_the_journal_fails(employed: Employed) -> None:
    employed.stage.journal.refuses = {0}
    serve(employed)
    assert (employed.stage.desk.open, employed.stage.desk.settled) == ({}, [])


def test_a_students_answer_is_never_cached_and_a_teachers_is(employed: Employed) -> None:
    stage = employed.stage

    async def story() -> list[str]:
        said = []
        for number, says in enumerate((0.95, 0.95, 0.5, 0.95), 1):
            employed.students.says = Answered(Prediction("cards", says))
            stage.new_reader()
            asked = employed.asked(number=number, body={"temperature": 0}, cache_seconds=60)
            await employed.answer(asked)
            said.append(field(employed, "x-stillhouse-answered-by"))
            said[-1] += field(employed, "x-stillhouse-cache")
        return said

    assert asyncio.run(story()) == ["student", "student", "teacher", "hit"]
    stage.check_books()


def test_long_prompts_are_counted_once(employed: Employed) -> None:
    class Counting:
        def __init__(self) -> None:
            self.texts: list[str] = []

        def count(self, text: str) -> int:
            self.texts.append(text)
            return 7

    counter = employed.stage.house.counter = Counting()
    system = {"role": "system", "content": "Sort. " * 100}
    messages = [system, {"role": "user", "content": "gone"}]
    first = employed.asked(number=1, body={"messages": messages})
    employed.learn(first)

    async def story() -> None:
        staff = employed.hire()
        for number in (1, 2, 3):
            employed.stage.house.staff = staff
            await employed.stage.answer(employed.asked(number=number, body={"messages": messages}))

    asyncio.run(story())
    assert counter.texts.count("Sort. " * 100) == 1
    assert {ended.avoided_pico for ended in employed.stage.journal.ended} == {
        14 * 3_000_000 + 7 * 15_000_000
    }


def test_in_the_books_an_answer_is_one_exchange_and_audited_where_the_coin_says_so(
    employed: Employed, tmp_path: Path
) -> None:
    stage = employed.stage
    employed.terms = replace(employed.terms, shadow_share=0.5)

    async def story() -> None:
        for number in range(1, 41):
            employed.students.says = Answered(Prediction("cards", 0.95 if number % 2 else 0.5))
            stage.new_reader()
            await employed.answer(employed.asked(number=number))

    asyncio.run(story())
    stage.check_books()
    notes = {s.exchange_id: s.consultation for s in stage.journal.started}
    audited = {one for one, n in notes.items() if n and n.coin and n.answerer == "student"}
    assert len(notes) == 40
    assert 0 < len(audited) < 20
    with SqliteStore(tmp_path / "books.db") as store:
        fold(stage, store, tmp_path / "journal")
        watched = store.watched(0, 100)
        assert {row.exchange.exchange_id: row.consultation for row in watched} == notes
        for row in watched:
            (attempt,) = row.exchange.attempts
            assert row.consultation is not None
            assert (attempt.kind is AttemptKind.STUDENT) == (row.consultation.answerer == "student")
            if attempt.kind is AttemptKind.STUDENT:
                assert row.exchange.completion.text == "Cards"
        waiting = store.waiting_shadows(100, stage.house.now_us() + 10**12)
        assert {call.exchange_id for call in waiting} == audited
        assert all(json.loads(call.body)["messages"] for call in waiting)
        assert list(verify(store, Audit())) == []


def fold(stage: Any, store: SqliteStore, folder: Path) -> None:
    """Bring a stage's journal into books."""
    prices = {price.price_id: facts_of(price) for price in stage.house.prices.prices}
    journal = JournalWriter(
        folder, "w1", started_us=1, durability="process", price_facts=prices.get
    )
    for entry in stage.journal.entries:
        journal.append(entry)
    journal.close()

    def never(_: Any) -> Any:
        raise AssertionError("no call was interrupted")

    making = Making(never, stage.house.prices.by_id, bodies)
    Folder(JournalFolder(folder), store, making).fold_once(stage.house.now_us())
