from __future__ import annotations

import pytest

from stillhouse.core.learning import Answerer, Decision, Policy, Prediction
from stillhouse.routing.cascade import Ask, cascade, shadow_coin

POLICY = Policy("intent", "student-1", threshold=0.8, version=1)
KEY = b"a key that callers do not know"
TEACHER = Prediction("from the teacher", 1.0)


def drive(policy: Policy | None, guess: Prediction, shadowed: bool) -> tuple[list[Ask], Decision]:
    """Answer every question of the cascade; returns the questions and the decision."""
    steps = cascade(policy, shadowed)
    asked = [next(steps)]
    while True:
        try:
            asked.append(steps.send(guess if asked[-1] is Ask.STUDENT else TEACHER))
        except StopIteration as done:
            return asked, done.value


@pytest.mark.parametrize("score", [0.8, 0.93, 1.0])
def test_at_the_threshold_and_above_it_the_student_answers(score: float) -> None:
    asked, decision = drive(POLICY, Prediction("refund", score), shadowed=False)
    assert asked == [Ask.STUDENT]
    assert decision == Decision(Answerer.STUDENT, "refund", score, "certified")


@pytest.mark.parametrize("shadowed", [False, True])
@pytest.mark.parametrize("score", [0.0, 0.7999])
def test_below_the_threshold_the_teacher_is_asked_once_and_answers(
    score: float, shadowed: bool
) -> None:
    asked, decision = drive(POLICY, Prediction("refund", score), shadowed)
    assert asked == [Ask.STUDENT, Ask.TEACHER]
    assert decision.answerer is Answerer.TEACHER
    assert (decision.label, decision.score) == ("from the teacher", score)
    assert "below threshold" in decision.reason


@pytest.mark.parametrize("shadowed", [False, True])
def test_without_a_policy_the_teacher_answers_and_no_student_is_asked(shadowed: bool) -> None:
    asked, decision = drive(None, Prediction("refund", 1.0), shadowed)
    assert asked == [Ask.TEACHER]
    assert decision.answerer is Answerer.TEACHER
    assert (decision.label, decision.score) == ("from the teacher", None)
    assert "no student" in decision.reason


def test_a_shadowed_answer_of_the_student_is_put_to_the_teacher_and_stands() -> None:
    asked, decision = drive(POLICY, Prediction("refund", 0.9), shadowed=True)
    assert asked == [Ask.STUDENT, Ask.SHADOW]
    assert decision == Decision(Answerer.STUDENT, "refund", 0.9, "certified")


def test_a_score_that_is_no_number_is_not_certified() -> None:
    _, decision = drive(POLICY, Prediction("refund", float("nan")), shadowed=False)
    assert decision.answerer is Answerer.TEACHER


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_coin_shows_heads_in_its_share_of_requests(share: float) -> None:
    n = 20_000
    heads = sum(shadow_coin(f"request-{i}", KEY, share) for i in range(n))
    assert abs(heads - share * n) < 4 * (n * share * (1 - share)) ** 0.5


def test_the_coin_is_the_same_whatever_the_route() -> None:
    n, share = 20_000, 0.2
    heads = [shadow_coin(str(i), KEY, share) for i in range(n)]
    served = [(i * 7919) % 100 < 60 for i in range(n)]
    among_served = sum(h for h, s in zip(heads, served, strict=True) if s) / sum(served)
    assert among_served == pytest.approx(share, abs=0.015)
    assert heads == [shadow_coin(str(i), KEY, share) for i in range(n)]


def test_another_key_tosses_another_coin() -> None:
    ids = [str(i) for i in range(2_000)]
    ours = [shadow_coin(i, KEY, 0.5) for i in ids]
    theirs = [shadow_coin(i, b"another key", 0.5) for i in ids]
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    assert 850 < equal < 1_150


def test_a_larger_share_adds_heads_and_takes_none_away() -> None:
    for request in map(str, range(500)):
        tosses = [shadow_coin(request, KEY, share) for share in (0.0, 0.1, 0.5, 1.0)]
        assert tosses == sorted(tosses)
        assert tosses[0] is False
        assert tosses[-1] is True


def test_any_text_is_a_request_id() -> None:
    assert isinstance(shadow_coin("é🎉\0", KEY, 0.5), bool)
    assert isinstance(shadow_coin("", KEY, 0.5), bool)
