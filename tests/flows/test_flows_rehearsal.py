"""A rehearsal stops a student for the reasons, and at the rows, at which the live watch would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stillhouse.core.learning import AnswerShape, Certificate, Policy, Prediction, Target
from stillhouse.core.serving import Charter, InputRange, Terms
from stillhouse.flows.rehearsal import Counts, Rehearsal
from stillhouse.flows.replay import Recorded, Replay, replay

LONG = 200
CHARTER = Charter(
    task="desk", version=1, student="digest", recipe="lexical", shape=AnswerShape.LABELS,
    answers={"refund": "refund", "track": "track"}, levels=(0.95, 0.9, 0.8), planned_rows=500,
    target=Target(0.05, 0.95), delta=0.03, recogniser="", prompts=(), asked_models=("old",),
    teachers=("old",), inputs=InputRange(LONG, ("latin",)), scores=(0.9,) * 300,
    words=("refund", "track"),
)  # fmt: skip
PROOF = Certificate(
    student="digest", threshold=0.8, max_risk=0.05, confidence=0.95, delta_spent=0.03, version=1,
    n_calibration=500, n_accepted=400, n_disagreements=5, method="", dataset="",
)  # fmt: skip
TERMS = Terms(shadow_share=1.0, run_length=5000.0)


def rows(n: int, label: str = "refund", text: str = "refund 0.9", teacher: str = "old",
         begin: int = 0) -> list[Recorded]:  # fmt: skip
    return [
        Recorded(f"{text}{begin + k}", None, text, label, None, None, teacher) for k in range(n)
    ]


def predict(texts: Sequence[str]) -> list[Prediction]:
    """`refund 0.9` is refund, 0.9 sure."""
    return [Prediction(t.split()[0], float(t.split()[1])) for t in texts]


def watched(
    traffic: Sequence[Recorded],
    terms: Terms = TERMS,
    injected: int = 0,
    coin: bool = True,
    charter: Charter = CHARTER,
) -> tuple[Rehearsal, Replay]:
    watch = Rehearsal(charter, PROOF, terms, injected)
    policy = Policy("desk", "digest", 0.8, 1)
    return watch, replay(traffic, policy, predict, lambda row_id: coin, watch)


def test_traffic_that_agrees_is_served_to_its_end() -> None:
    watch, result = watched(rows(400))
    assert watch.happenings == []
    assert (watch.threshold, watch.since) == (0.8, None)
    assert watch.counts == Counts(400, 400, 400, 0)
    assert result.total.accepted == 400


def test_answers_that_disagree_raise_the_level_once_and_then_stop_the_student() -> None:
    watch, result = watched(rows(100) + rows(100, label="track", begin=100), injected=101)
    raised, stopped = watch.happenings
    assert (raised.event, raised.threshold) == ("raised", 0.9)
    assert (stopped.event, stopped.threshold) == ("rolled_back", None)
    assert raised.since is not None
    assert raised.row == 100 + raised.since.requests
    assert raised.since == (raised.row - 100,) * 4
    assert result.total.accepted == stopped.row
    assert result.total.teacher_calls == 200 - stopped.row


def test_each_level_is_judged_on_what_it_let_through_itself() -> None:
    watch, _ = watched(rows(100) + rows(100, label="track", begin=100), injected=101)
    raised, stopped = watch.happenings
    wrong = raised.row - 100
    assert raised.why.endswith(f"({wrong} of {raised.row} since it answers)")
    again = stopped.row - raised.row
    assert stopped.why.endswith(f"({again} of {again} since it answers)")


def test_terms_that_say_stop_do_not_raise_first() -> None:
    watch, _ = watched(rows(50, label="track"), replace(TERMS, on_alarm="stop"))
    assert [one.event for one in watch.happenings] == ["rolled_back"]


def test_without_audits_nobody_learns_that_the_answers_are_wrong() -> None:
    watch, result = watched(rows(300, label="track"), coin=False)
    assert watch.happenings == []
    assert (result.total.accepted, result.total.agreed) == (300, 0)


def test_a_row_without_the_teachers_answer_is_no_evidence() -> None:
    watch, _ = watched(rows(300, label=""))
    assert watch.happenings == []
    assert watch.counts == Counts(300, 300, 0, 0)


def test_another_teacher_voids_the_certificate_at_its_first_answer() -> None:
    mixed = [*rows(20), *rows(5, teacher="new", begin=20)]
    watch, result = watched(mixed, injected=21)
    (voided,) = watch.happenings
    assert (voided.event, voided.row, voided.since) == ("voided", 21, Counts(1, 1, 1, 0))
    assert "new answered, and the certificate speaks of old" in voided.why
    assert result.total.accepted == 21


def test_another_teacher_is_not_seen_before_it_is_asked() -> None:
    deferred = rows(1, text="refund 0.1", teacher="new")
    watch, _ = watched([*rows(30, teacher="new"), *deferred], coin=False)
    assert [one.row for one in watch.happenings] == [31]


def test_what_another_teacher_said_is_no_evidence() -> None:
    watch, _ = watched(rows(100, label="track", teacher="new"))
    assert [one.event for one in watch.happenings] == ["voided"]


@pytest.mark.parametrize("teacher", ["", "old"])
def test_a_log_that_does_not_name_the_teacher_voids_nothing(teacher: str) -> None:
    assert watched(rows(50, teacher=teacher))[0].happenings == []


def test_changed_inputs_are_told_once_and_the_student_goes_on() -> None:
    terms = replace(TERMS, run_length=500.0)
    watch, result = watched(rows(100) + rows(300, text="refund 0.81"), terms, injected=101)
    (told,) = watch.happenings
    assert (told.event, told.threshold) == ("inputs", 0.8)
    assert "scores have changed, and look lower" in told.why
    assert result.total.accepted == 400


def test_changed_inputs_count_as_an_alarm_where_the_terms_say_so() -> None:
    terms = replace(TERMS, run_length=500.0, on_inputs="stop")
    watch, _ = watched(rows(100) + rows(300, text="refund 0.81"), terms)
    assert [one.event for one in watch.happenings] == ["rolled_back"]


def test_what_was_not_learnt_from_is_the_teachers() -> None:
    foreign = rows(3, text="refund 0.9 где карта")
    long = rows(3, text="refund 0.9 " + "x" * LONG)
    _, result = watched([*foreign, *long, *rows(3)])
    assert (result.total.teacher_calls, result.total.accepted) == (6, 3)


def test_the_same_rows_come_to_the_same_events() -> None:
    mixed = rows(60) + rows(60, label="track", begin=60)
    assert watched(mixed)[0].happenings == watched(mixed)[0].happenings


def test_rows_that_were_audited_before_a_raise_are_what_inputs_are_compared_with() -> None:
    text = "refund 0.93"
    good, wrong = rows(200, text=text), rows(9, label="track", text=text, begin=200)
    same, _ = watched([*good, *wrong, *rows(300, text=text, begin=300)])
    assert [one.event for one in same.happenings] == ["raised"]
    lower, _ = watched([*good, *wrong, *rows(300, text="refund 0.91")])
    assert [one.event for one in lower.happenings] == ["raised", "inputs"]
