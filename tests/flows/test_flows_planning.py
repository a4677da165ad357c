"""A plan takes volume and cost from the log, says on which basis, and refuses to guess."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stillhouse.core.books import Job, JobKind, JobStatus
from stillhouse.core.errors import CallerError
from stillhouse.core.learning import Certificate
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Attempt, Completion, Exchange, Message, Request, Usage
from stillhouse.flows.planning import Observed, Question, held_out_counts, make_plan, observe
from stillhouse.ledger.prices import Price
from stillhouse.planner import Verdict

START = datetime(2026, 10, 1, tzinfo=UTC)
CERTIFIED = Certificate(
    student="s",
    threshold=0.8,
    max_risk=0.05,
    confidence=0.95,
    delta_spent=0.03,
    version=1,
    n_calibration=2000,
    n_accepted=1500,
    n_disagreements=50,
    method="m",
    dataset="d",
)


def exchange(number: int, reported: str | None = None, timed: bool = True) -> Exchange:
    at = START + timedelta(hours=number)
    attempt = Attempt(
        attempt_id=f"a{number}",
        model="cheap",
        at_us=int(at.timestamp() * 1e6) if timed else None,
        usage=Usage(input_tokens=20, cache_read_tokens=380, output_tokens=5),
        reported_cost=Paid.of(reported) if reported else None,
    )
    request = Request((Message("user", "where is it"),))
    return Exchange(f"e{number}", request, Completion("track"), (attempt,))


def log(n: int = 720, reported: str | None = None, timed: bool = True) -> Observed:
    found = [exchange(number, reported, timed) for number in range(n)]
    return observe(found, lambda exchange_id: 6_000_000)


def no_price(model: str, attempt: Attempt) -> Price | None:
    return None


def test_the_log_gives_every_day_its_count_and_the_booked_cost() -> None:
    seen = log()
    assert seen.daily_counts == (24,) * 30
    assert seen.computed == Paid(720 * 6_000_000)
    assert (seen.n_reported, seen.requests) == (0, 720)


def test_a_day_without_calls_counts_as_zero() -> None:
    seen = observe([exchange(0), exchange(60)], lambda exchange_id: None)
    assert seen.daily_counts == (1, 0, 1)


def test_a_provider_bill_goes_before_a_computed_cost() -> None:
    billed = make_plan("t", log(reported="0.00001"), None, [], Question(), no_price)
    computed = make_plan("t", log(), None, [], Question(), no_price)
    assert billed.inputs.teacher.basis == "billed"
    assert billed.inputs.teacher.per_request == Paid.of("0.00001")
    assert computed.inputs.teacher.basis == "computed"


def test_a_log_without_times_needs_a_stated_volume() -> None:
    with pytest.raises(CallerError, match="--volume"):
        make_plan("t", log(timed=False), None, [], Question(), no_price)
    stated = Question(requests_per_month=1000.0)
    plan = make_plan("t", log(timed=False), None, [], stated, no_price)
    assert plan.inputs.volume.requests_per_month == 1000.0


def test_a_task_without_any_price_points_to_another_models_price() -> None:
    seen = replace(log(), n_computed=0)
    with pytest.raises(CallerError, match="--teacher-price"):
        make_plan("t", seen, None, [], Question(), no_price)


def test_an_unknown_model_is_a_sentence_with_the_remedy() -> None:
    with pytest.raises(CallerError, match="no price for 'gpt-unheard-of'"):
        make_plan("t", log(), None, [], Question(teacher_model="gpt-unheard-of"), no_price)


def test_the_verdict_turns_with_the_volume_at_the_same_price() -> None:
    def verdict(volume: float) -> Verdict:
        question = Question(requests_per_month=volume)
        dear = replace(log(), computed=Paid.of("0.004").times(720))
        return make_plan("t", dear, CERTIFIED, [], question, no_price).verdict

    assert verdict(1_000) is Verdict.DO_NOT_DISTIL
    assert verdict(3_000_000) is Verdict.DISTIL


def test_the_counts_of_the_last_evaluation_on_test_rows_are_used() -> None:
    def job(number: int, **detail: str) -> Job:
        return Job(
            str(number), "t", JobKind.EVALUATE, JobStatus.OK, number, 1.0, 1.0, Paid(1), detail
        )

    jobs = [
        job(1, n="100", n_accepted="50", n_disagreements="5"),
        job(2, n="300", n_accepted="200", n_disagreements="4"),
        job(3, step="curve"),
    ]
    found = held_out_counts(jobs)
    assert found is not None
    assert (found.n, found.n_accepted, found.n_disagreements) == (300, 200, 4)
    assert held_out_counts([]) is None
