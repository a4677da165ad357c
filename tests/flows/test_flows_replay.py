"""A replay runs the serving cascade on recorded answers and counts what it would have done."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.learning import Answerer, Policy, Prediction
from stillhouse.core.money import Avoided, Paid
from stillhouse.flows.replay import Recorded, Replay, drive, replay

POLICY = Policy("desk", "digest", threshold=0.8, version=1)
DAY = 86_400_000_000


def row(number: int, text: str, label: str = "refund", cost: int | None = 5) -> Recorded:
    return Recorded(f"r{number}", number * DAY // 2, text, label, 100.0 + number, cost)


def predict(texts: Sequence[str]) -> list[Prediction]:
    """`refund 0.9` is refund, 0.9 sure."""
    return [Prediction(t.split()[0], float(t.split()[1])) for t in texts]


def run(rows: Sequence[Recorded], shadowed: bool = False) -> Replay:
    return replay(rows, POLICY, predict, lambda row_id: shadowed)


ROWS = [
    row(0, "refund 0.9"),
    row(1, "track 0.95"),
    row(2, "refund 0.5"),
    row(3, "refund 0.8"),
    row(4, "refund 0.81", cost=None),
]


def test_the_student_answers_at_the_threshold_and_above_and_defers_the_rest() -> None:
    total = run(ROWS).total
    assert (total.requests, total.accepted, total.agreed, total.teacher_calls) == (5, 4, 3, 1)


def test_money_paid_and_avoided_stay_apart_and_unpriced_rows_are_in_neither() -> None:
    total = run(ROWS).total
    assert (total.paid, total.avoided, total.unpriced) == (Paid(5), Avoided(15), 1)


def test_a_shadowed_request_is_paid_for_although_the_student_answers() -> None:
    total = run(ROWS, shadowed=True).total
    assert (total.accepted, total.shadow_calls, total.avoided) == (4, 4, Avoided(0))
    assert total.paid == Paid(20)


def test_days_are_those_of_the_log_and_sum_to_the_total() -> None:
    found = run(ROWS)
    assert [tally.requests for tally in found.days.values()] == [2, 2, 1]
    assert sum(tally.accepted for tally in found.days.values()) == found.total.accepted


def test_latency_of_the_cascade_is_the_students_where_it_answers_and_both_where_it_defers() -> None:
    found = run(ROWS).latency_ms(student_ms=2.0)
    assert found["teacher"][0] == pytest.approx(102.0)
    assert found["cascade"][0] == pytest.approx(2.0)


def test_without_a_policy_the_teacher_answers_everything() -> None:
    decision, teacher_calls, shadow_calls = drive(None, "refund", Prediction("track", 1.0), True)
    assert (decision.answerer, decision.label) == (Answerer.TEACHER, "refund")
    assert (teacher_calls, shadow_calls) == (1, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["refund", "track"]),
            st.floats(0, 1).map(lambda score: round(score, 6)),
            st.sampled_from(["refund", "track"]),
        ),
        max_size=60,
    ),
    st.booleans(),
)
def test_every_request_is_answered_once_and_costs_add_up(
    asked: list[tuple[str, float, str]], shadowed: bool
) -> None:
    rows = [row(n, f"{said} {score}", label) for n, (said, score, label) in enumerate(asked)]
    total = run(rows, shadowed).total
    assert total.accepted + total.teacher_calls == total.requests == len(rows)
    assert total.paid_pico + total.avoided_pico == 5 * len(rows)
    assert total.agreed <= total.accepted
