"""What may be evidence, and that nothing but chance has chosen it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from stillhouse.core.learning import AnswerShape
from stillhouse.core.serving import Consultation, PolicyEvent, Watched
from stillhouse.core.traffic import AttemptKind, Completion
from stillhouse.distillation.discovery import TaskModels
from stillhouse.distillation.recognition import Recogniser, written
from stillhouse.flows.evidence import (
    Seen,
    another,
    audits,
    evidence_of,
    judgeable,
    said_already,
    see,
    served_spans,
    serving_since,
    taught_as,
)
from stillhouse.testing.student_traffic import (
    PROMPT,
    PROMPT_DIGEST,
    RECOGNISER,
    LiveEntry,
    a_charter,
    a_note,
    ask,
    name,
    served,
    taught,
)

KNOWN = {"r": Recogniser.read(RECOGNISER)}
CHARTER = a_charter("r")
ONE = ask(7, 0.8, wrong=False)
ALWAYS = ((0, 10**9),)


def test_the_stage_is_recognised_as_a_task_found_would_be() -> None:
    assert written(TaskModels({}, {}, {"desk": ()}, ())) == RECOGNISER
    assert looked_at(taught(ONE)).found["r"].prompt == PROMPT_DIGEST


def looked_at(entry: LiveEntry, about_us: int = 0) -> Seen:
    exchange, ((started, _),) = entry
    return see(Watched(1, exchange, started.consultation, about_us), KNOWN)


def test_a_row_without_a_student_counts_where_none_served_and_not_where_one_did() -> None:
    row = looked_at(taught(ONE, at_us=5000))
    assert audits(row, ()) == audits(row, ((0, 5000), (5001, 6000))) == name(7)
    assert audits(row, ((0, 4000), (5000, 6000))) == ""


def test_a_consulted_row_counts_by_its_coin_alone() -> None:
    heads, tails = (a_note(ONE, "teacher", coin=coin) for coin in (True, False))
    for spans in ((), ALWAYS):
        assert audits(looked_at(taught(ONE, heads)), spans) == name(7)
        assert audits(looked_at(taught(ONE, tails)), spans) == ""


def test_a_students_answer_counts_once_its_audit_is_there_and_for_itself() -> None:
    note = a_note(ONE, "student")
    assert audits(looked_at(served(ONE, note)), ALWAYS) == ""
    audit = looked_at(taught(ask(8, 0.8, wrong=False), note, about=7), about_us=3000)
    assert audits(audit, ALWAYS) == name(7)
    row = evidence_of(CHARTER, audit, name(7), ("yes", 0.8))
    assert (row.exchange_id, row.served, row.at_us, row.disagrees) == (name(7), True, 3000, False)
    other = evidence_of(replace(CHARTER, version=2), audit, name(7), ("no", 0.8))
    assert (other.served, other.disagrees) == (False, True)


def test_where_no_teacher_answered_there_is_nothing_to_learn() -> None:
    assert audits(looked_at(taught(ONE, ok=False)), ()) == ""
    exchange, pairs = taught(ONE)
    cached = exchange.attempts[0]._replace(kind=AttemptKind.CACHE)
    assert audits(looked_at((replace(exchange, attempts=(cached,)), pairs)), ()) == ""


def test_rows_from_before_the_charter_never_count_nor_audits_of_such() -> None:
    assert judgeable(CHARTER, looked_at(taught(ONE, at_us=1000)))
    assert not judgeable(CHARTER, looked_at(taught(ONE, at_us=999)))
    late = taught(ask(8, 0.8, wrong=False), about=7, at_us=5000)
    assert not judgeable(CHARTER, looked_at(late, about_us=999))
    assert judgeable(CHARTER, looked_at(late, about_us=1000))


@pytest.mark.parametrize(
    "text", ["yes 0.9 yes 0.9 Где моя карта?", "yes 0.9 yes 0.9 " + "long " * 50, "\ud83d"]
)
def test_rows_outside_of_the_contract_and_what_is_no_text_never_count(text: str) -> None:
    assert not judgeable(CHARTER, looked_at(taught(ONE._replace(text=text), at_us=5000)))


def test_another_teacher_prompt_or_model_is_seen_and_its_answers_never_count() -> None:
    model = looked_at(taught(ONE, model="m-2"))
    prompt = looked_at(taught(ONE, prompt=PROMPT + " Now."))
    voids = looked_at(taught(ONE, a_note(ONE, "teacher", voids="asked of m-9")))
    assert another(CHARTER, model) == "m-2 answered, and the certificate speaks of m-1"
    assert "the prompt has changed" in another(CHARTER, prompt)
    assert another(CHARTER, voids) == "asked of m-9"
    assert not any(judgeable(CHARTER, one) for one in (model, prompt, voids))
    assert another(replace(CHARTER, version=2), voids) == ""
    assert another(CHARTER, looked_at(taught(ONE))) == ""


def test_rows_from_before_the_charter_void_nothing() -> None:
    assert another(CHARTER, looked_at(taught(ONE, model="m-2", at_us=999))) == ""
    stale = taught(ONE, prompt=PROMPT + " Old.", about=3)
    assert another(CHARTER, looked_at(stale, about_us=999)) == ""


def test_an_audit_is_recognised_by_the_callers_own_tag() -> None:
    assert not looked_at(taught(ONE, tag="")).found
    assert looked_at(taught(ONE)).found


def test_what_a_version_said_live_is_taken_and_not_asked_again() -> None:
    assert said_already(CHARTER, looked_at(taught(ONE, a_note(ONE, "teacher")))) == ("yes", 0.8)
    silent = Consultation("desk", 1, "", -1.0, 0.5, "teacher", True, "no answer in time")
    assert said_already(CHARTER, looked_at(taught(ONE, silent))) is None
    other = a_note(ONE, "teacher", version=2)
    assert said_already(CHARTER, looked_at(taught(ONE, other))) is None


def test_where_tools_are_chosen_words_and_arguments_are_like_no_answer_of_a_student() -> None:
    exchange, _ = taught(ONE)

    def said(completion: Completion) -> str:
        return taught_as(AnswerShape.TOOL, replace(exchange, completion=completion))

    bare = said(Completion(tool="open_card", tool_arguments="{}"))
    assert bare == taught_as(AnswerShape.LABELS, replace(exchange, completion=Completion(bare)))
    assert said(Completion(tool="open_card", tool_arguments='{"n": 1}')) != bare
    assert said(Completion("open_card")) != bare


def test_spans_of_serving_follow_the_events() -> None:
    def event(what: str, at_us: int, version: int = 1) -> PolicyEvent:
        return PolicyEvent("desk", version, what, "w", "ana", at_us, {"threshold": 0.5})

    story = [
        event("promoted", 5),
        event("raised", 6),
        event("paused", 9),
        event("resumed", 12),
        event("promoted", 15, 2),
        event("rolled_back", 20, 2),
        event("promoted", 30),
    ]
    assert served_spans(story) == ((5, 9), (12, 20), (30, 2**63 - 1))
    assert served_spans(story[:1]) == ((5, 2**63 - 1),)
    assert (served_spans([]), serving_since([], 1)) == ((), 0)
    assert [serving_since(story[:n], 1) for n in (1, 2, 4, 7)] == [5, 6, 6, 30]


@pytest.mark.parametrize("seed", range(6))
def test_the_risk_of_the_evidence_is_the_risk_of_all_traffic(seed: int) -> None:
    chance = random.Random(seed)
    share, bar, rows = 0.2, 0.55, 20_000
    found: list[tuple[float, bool]] = []
    everything: list[tuple[float, bool]] = []
    naive: list[tuple[float, bool]] = []
    for number in range(rows):
        score = chance.random()
        # Version 2 is judged while version 1 serves; both err where version 1 is unsure.
        other = min(1.0, max(0.0, score + chance.gauss(0, 0.2)))
        wrong = chance.random() < 0.4 * (1 - score)
        one = ask(number, score, chance.random() < 0.3 * (1 - score), other, wrong)
        coin, by_student = chance.random() < share, score >= bar
        everything.append((other, wrong))
        note = a_note(one, "student" if by_student else "teacher", coin=coin)
        answered = [served(one, note) if by_student else taught(one, note)]
        if by_student and coin:
            answered.append(taught(one._replace(number=number + rows), note, about=number))
        for entry in answered:
            row = looked_at(entry)
            naive += [(other, wrong)] if row.teacher else []
            found += [(other, wrong)] if audits(row, ALWAYS) else []
    assert abs(len(found) / rows - share) < 0.015

    def risk(of: list[tuple[float, bool]], threshold: float) -> float:
        mine = [wrong for score, wrong in of if score >= threshold]
        return sum(mine) / len(mine)

    for threshold in (0.0, 0.4, 0.7):
        accepted = sum(score >= threshold for score, _ in found)
        noise = 4 * (0.25 / accepted) ** 0.5 * 0.9
        assert abs(risk(found, threshold) - risk(everything, threshold)) < noise
    assert risk(naive, 0.0) > risk(everything, 0.0) + 0.02, "what deferral chooses would mislead"
