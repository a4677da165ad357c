"""A consultation: what is recorded of it, and that it decides as a replay of it would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.calls import Ended, Fate
from stillhouse.core.catalogue import Recorded, Wire
from stillhouse.core.learning import Answerer, Policy, Prediction
from stillhouse.core.serving import Answered, InputRange, Mode
from stillhouse.core.traffic import Attempt, Tags
from stillhouse.flows.consulting import (
    UNAVAILABLE,
    UNKNOWN,
    Matter,
    Ruling,
    Staff,
    conclude,
    consult,
    recognised,
    watch_teacher,
)
from stillhouse.flows.replay import drive
from stillhouse.routing.cascade import shadow_coin

if TYPE_CHECKING:
    from tests.flows.conftest import Employed

    from stillhouse.flows.house import Asked

TAUGHT = Ended("e", Attempt("e", "m"), (), Fate.OK)


def rule(employed: Employed, asked: Asked) -> Ruling:
    """Consult about a request as things stand now."""
    staff = employed.hire()
    matter = recognised(staff, asked)
    assert matter is not None
    return asyncio.run(consult(staff, matter, asked.ask.wire, lambda: 0.0))


@settings(deadline=None)
@given(
    threshold=st.none() | st.floats(0, 1),
    score=st.floats(0, 1) | st.just(float("nan")),
    coin=st.booleans(),
    guess=st.sampled_from(["cards", "loans"]),
    taught=st.sampled_from(["cards", "loans", "other"]),
)
def test_a_live_decision_is_the_one_that_a_replay_of_the_request_comes_to(
    make_employed: Callable[[], Employed],
    threshold: float | None,
    score: float,
    coin: bool,
    guess: str,
    taught: str,
) -> None:
    employed = make_employed()
    policy = None
    if threshold is not None:
        employed.standing = replace(employed.standing, threshold=threshold)
        policy = Policy("desk", employed.charter.student, threshold, 3)
    else:
        employed.standing = replace(employed.standing, mode=Mode.PAUSED)
    employed.terms = replace(employed.terms, shadow_share=float(coin))
    said = Prediction(guess, score)
    employed.students.says = Answered(said)

    ruling = rule(employed, employed.asked())
    by_student = ruling.decision is not None
    live = ruling.decision or conclude(ruling, [TAUGHT])

    replayed, teacher_calls, shadow_calls = drive(policy, taught, said, coin)
    assert live is not None
    assert (live.answerer, live.reason) == (replayed.answerer, replayed.reason)
    assert repr(live.score) == repr(replayed.score)  # NaN is like no other number
    assert not by_student or live.label == replayed.label == guess
    assert by_student is (teacher_calls == 0)
    note = ruling.consultation
    assert (note.answerer, note.coin) == (replayed.answerer, coin)
    assert shadow_calls == (note.coin and note.answerer == Answerer.STUDENT)


@settings(deadline=None)
@given(
    number=st.integers(1, 2**100),
    share=st.floats(0, 1),
    says=st.none()
    | st.builds(Answered, st.builds(Prediction, st.sampled_from("ab"), st.floats(0, 1))),
    allowed=st.booleans(),
    model=st.sampled_from(["m", "other"]),
    text=st.sampled_from(["My card is gone.", "Карта", "x" * 101]),
)
def test_the_coin_is_the_same_whoever_answers_and_why(
    make_employed: Callable[[], Employed],
    number: int,
    share: float,
    says: Answered | None,
    allowed: bool,
    model: str,
    text: str,
) -> None:
    employed = make_employed()
    employed.terms = replace(employed.terms, shadow_share=share)
    employed.charter = replace(employed.charter, answers={"a": "A"})
    employed.students.says = says
    messages = [{"role": "user", "content": text}]
    asked = employed.asked(number=number, body={"model": model, "messages": messages})
    note = rule(employed, asked._replace(students=allowed)).consultation
    assert note.coin is shadow_coin(asked.exchange_id, b"coin", share)


def test_student_and_teacher_are_audited_in_the_same_share(employed: Employed) -> None:
    employed.terms = replace(employed.terms, shadow_share=0.25)
    heads = {Answerer.STUDENT: 0, Answerer.TEACHER: 0}
    rounds = 2000
    for number in range(1, rounds + 1):
        employed.students.says = Answered(Prediction("cards", 0.95 if number % 2 else 0.5))
        note = rule(employed, employed.asked(number=number)).consultation
        heads[Answerer(note.answerer)] += note.coin
    for found in heads.values():  # five standard deviations on either side
        assert abs(found - 250) < 5 * (1000 * 0.25 * 0.75) ** 0.5


def not_allowed(employed: Employed) -> Asked:
    return employed.asked()._replace(students=False)


def outside_the_share(employed: Employed) -> Asked:
    employed.standing = replace(employed.standing, share=1e-12)
    return employed.asked()


def another_key(employed: Employed) -> Asked:
    employed.standing = replace(employed.standing, keys=("k2", "k3"))
    return employed.asked()


def with_an_image(employed: Employed) -> Asked:
    picture = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
    parts = [{"type": "text", "text": "My card"}, picture]
    system = {"role": "system", "content": "Sort the mail.\n- cards\n- loans"}
    asked = employed.asked(body={"messages": [system, {"role": "user", "content": parts}]})
    employed.learn(asked)
    return asked


def with_a_tool(employed: Employed) -> Asked:
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    return employed.asked(body={"tools": [tool]})


def saying(text: str) -> Callable[[Employed], Asked]:
    def asked(employed: Employed) -> Asked:
        messages = [
            {"role": "system", "content": "Sort the mail.\n- cards\n- loans"},
            {"role": "user", "content": text},
        ]
        return employed.asked(body={"messages": messages})

    return asked


def of_another_model(employed: Employed) -> Asked:
    return employed.asked(body={"model": "m-large"})


def with_another_prompt(employed: Employed) -> Asked:
    employed.hire()
    messages = [
        {"role": "system", "content": "Sort the mail with care.\n- cards\n- loans"},
        {"role": "user", "content": "My card is gone."},
    ]
    return employed.asked(body={"messages": messages})


@pytest.mark.parametrize(
    ("made", "reason", "voids"),
    [
        (not_allowed, "the caller wants no student", False),
        (outside_the_share, "not in the canary", False),
        (another_key, "not in the canary", False),
        (with_an_image, "carries images", False),
        (with_a_tool, "carries tools", False),
        (saying("a" * 101), "longer than anything learnt from", False),
        (saying("Где моя карта?"), "written in cyrillic", False),
        (of_another_model, "another model was asked for", True),
        (with_another_prompt, "another prompt", True),
    ],
)
def test_what_the_student_may_not_answer_is_the_teachers_and_the_reason_is_kept(
    employed: Employed, made: Callable[[Employed], Asked], reason: str, voids: bool
) -> None:
    asked = made(employed)
    ruling = rule(employed, asked)
    assert employed.students.asked == []
    assert (ruling.decision, ruling.said) == (None, None)
    note = ruling.consultation
    assert note.reason.startswith(reason)
    assert (note.answerer, note.label, note.score, note.threshold) == ("teacher", "", -1.0, -1.0)
    assert (note.task, note.version) == ("desk", 3)
    assert bool(note.voids) is voids


@pytest.mark.parametrize("made", [of_another_model, with_another_prompt])
def test_what_voids_a_certificate_does_so_at_once(
    employed: Employed, made: Callable[[Employed], Asked]
) -> None:
    async def story() -> list[Matter | None]:
        asked = made(employed)
        staff = employed.hire()
        return [recognised(staff, one) for one in (employed.asked(), asked, employed.asked())]

    before, voiding, after = asyncio.run(story())
    assert before is not None
    assert before.policy is not None
    assert voiding is not None
    assert voiding.voids
    assert after is not None
    assert (after.policy, after.reason, after.voids) == (None, "its certificate is void", "")


def test_who_forbids_students_or_is_no_canary_voids_nothing(employed: Employed) -> None:
    asked = of_another_model(employed)._replace(students=False)
    staff = employed.hire()
    recognised(staff, asked)
    assert staff.voided == set()


@pytest.mark.parametrize(
    ("says", "reason", "label"),
    [
        (None, UNAVAILABLE, ""),
        (Answered(Prediction("parcels", 0.99)), UNKNOWN, ""),
        (Answered(Prediction("cards", 0.89)), "below threshold", "cards"),
        (Answered(Prediction("cards", float("nan"))), "below threshold", "cards"),
    ],
)
def test_a_student_that_may_not_answer_leaves_it_to_the_teacher(
    employed: Employed, says: Answered | None, reason: str, label: str
) -> None:
    employed.students.says = says
    ruling = rule(employed, employed.asked())
    assert employed.students.asked == [("d" * 32, "My card is gone.", False)]
    note = ruling.consultation
    assert (ruling.decision, note.reason, note.label) == (None, reason, label)
    assert note.answerer == "teacher"
    decision = conclude(ruling, [TAUGHT])
    assert decision is not None
    assert decision.answerer is Answerer.TEACHER


def test_odds_are_asked_for_where_probabilities_are_wanted(employed: Employed) -> None:
    question = {"type": "choice", "criteria": {"Cards": None, "Loans": None}, "instructions": "?"}
    asked = employed.asked(
        wire=Wire.SYSTEMONE, body={"state": "gone", "questions": {"q": question}}
    )
    employed.learn(asked)
    rule(employed, asked)
    assert employed.students.asked == [("d" * 32, "gone", True)]


@pytest.mark.parametrize("recorded", [Recorded.NONE, Recorded.HASHED, Recorded.REDACTED])
def test_students_have_no_part_in_what_is_not_recorded(
    employed: Employed, recorded: Recorded
) -> None:
    assert recognised(employed.hire(), employed.asked(recorded=recorded)) is None


def test_other_tasks_and_what_cannot_be_read_are_nobodys(employed: Employed) -> None:
    staff = employed.hire()
    assert recognised(staff, employed.asked(tags=Tags(task="other"))) is None
    assert recognised(staff, employed.asked(tags=Tags())) is None
    assert recognised(staff, employed.asked(body={"messages": [7]})) is None
    embedding = employed.asked("lists", wire=Wire.EMBEDDINGS, body={"input": "hi"})
    assert recognised(staff, embedding) is None


def voided(staff: Staff) -> Any:
    return staff.voided


@pytest.mark.parametrize(
    ("ended", "voids"),
    [
        ([TAUGHT], False),
        ([TAUGHT._replace(attempt=Attempt("e", "m-2"))], True),
        ([TAUGHT._replace(attempt=Attempt("e", "m-2", ok=False))], False),
        ([], False),
    ],
)
def test_another_model_that_answers_voids_a_certificate(
    employed: Employed, ended: list[Ended], voids: bool
) -> None:
    staff = employed.hire()
    matter = recognised(staff, employed.asked())
    assert matter is not None
    watch_teacher(staff, matter, ended)
    assert voided(staff) == ({("desk", 3)} if voids else set())


def test_a_teacher_that_did_not_answer_leaves_no_decision(employed: Employed) -> None:
    employed.students.says = None
    failed = TAUGHT._replace(attempt=Attempt("e", "m", ok=False))
    for ended in ([], [failed]):
        assert conclude(rule(employed, employed.asked()), ended) is None


def test_a_version_that_bridges_nobody_is_not_asked_while_it_is_paused(employed: Employed) -> None:
    employed.standing = replace(employed.standing, mode=Mode.PAUSED)
    employed.terms = replace(employed.terms, bridge=True)
    ruling = rule(employed, employed.asked())
    assert (ruling.said, ruling.consultation.reason) == (None, "the version is paused")
    assert json.dumps(ruling.consultation)


def test_nothing_learnt_lets_nothing_through(employed: Employed) -> None:
    employed.charter = replace(employed.charter, inputs=InputRange())
    assert rule(employed, employed.asked()).consultation.reason.startswith("longer")
