import math
from dataclasses import replace

import numpy as np
import pytest

from stillhouse.core.books import Job, JobKind, JobStatus
from stillhouse.core.learning import Certificate
from stillhouse.core.money import Paid
from stillhouse.planner import (
    NOBODY,
    HeldOutCounts,
    PlanInputs,
    PriceOutlook,
    Serving,
    TeacherCost,
    plan,
    stated_volume,
)
from stillhouse.planner.cashflow import break_even_error_price, campaign_cost, cash, jobs_cost
from stillhouse.planner.chance import central, draw
from stillhouse.planner.volume import DAYS_PER_MONTH


def job(cost: float, status: JobStatus) -> Job:
    return Job("j", "t", JobKind.TRAIN, status, 0, 1.0, 1.0, Paid.of(cost))


def break_even_days(inputs: PlanInputs) -> float:
    months = cash(inputs, central(inputs), 60).break_even_months()
    return float(months[0]) * DAYS_PER_MONTH


def test_the_worked_check_gives_its_saving_day_17_and_nineteen_cents(worked: PlanInputs) -> None:
    figures = plan(worked, np.random.default_rng(0)).figures
    assert float(figures.bill.saving_per_request) == pytest.approx(0.003036)
    assert math.ceil(break_even_days(worked)) == 17
    assert float(figures.bill.break_even_error_price or 0) == pytest.approx(0.19, abs=0.0005)


def test_the_spreads_around_a_500_dollar_run_are_those_of_the_reference(worked: PlanInputs) -> None:
    uncertain = replace(
        worked,
        volume=stated_volume(30_000 * DAYS_PER_MONTH),
        held_out=HeldOutCounts(800, 640, 16),
        labels_paid=Paid(0),
        jobs=(job(500, JobStatus.PROMOTED),),
        prices=PriceOutlook(),
        price_per_error=Paid.of("0.02"),
        horizon_months=6,
    )
    outcome = plan(uncertain, np.random.default_rng(7)).figures.with_people
    days = outcome.break_even_days
    assert (days.p10, days.p50, days.p90) == pytest.approx((8, 19, 57), rel=0.08)
    assert outcome.probability == pytest.approx(0.999, abs=0.002)


def reference_day(inputs: PlanInputs, saving: float, carry: float, fall: float) -> float:
    """E10 day by day, as the reference script adds it up; only avoided calls follow the price."""
    teacher = 0.8 * (1 - inputs.shadow_share) * float(inputs.teacher.per_request)
    total = 0.0
    for day in range(1825):
        price = teacher * math.exp(-fall * (day + 0.5) / 365.25)
        total += 30_000 * (price - (teacher - saving)) - carry
        if total >= 1500:
            return day + 1
    return math.inf


@pytest.mark.parametrize(
    ("carry_per_day", "fall_per_year"), [(0, 0), (60, 0), (0, 2.0), (80, 0.7), (95, 0), (85, 4.0)]
)
def test_break_even_is_the_day_by_day_sum(
    worked: PlanInputs, carry_per_day: float, fall_per_year: float
) -> None:
    monitoring = Paid.of(carry_per_day * DAYS_PER_MONTH)
    case = replace(
        worked,
        serving=replace(worked.serving, monitoring_per_month=monitoring),
        prices=PriceOutlook((1.0,), fall_per_year),
    )
    expected = reference_day(case, 0.003036, carry_per_day, fall_per_year)
    found = break_even_days(case)
    assert found == expected or found == pytest.approx(expected, rel=0.02, abs=1)


def certain(jobs: float, labels: float, net_per_month: int) -> PlanInputs:
    return PlanInputs(
        task="retrained",
        volume=stated_volume(1000 * net_per_month, log_spread=0),
        teacher=TeacherCost(Paid.of("0.001"), "computed"),
        student=None,
        jobs=(job(jobs, JobStatus.PROMOTED),),
        labels_paid=Paid.of(labels),
        own_campaigns=5,
        serving=Serving(0.0, Paid(0), 0.0),
        people=NOBODY,
        prices=PriceOutlook((1.0,)),
        shadow_share=0.0,
        retrain_every_months=1,
        discount_per_year=0.0,
    )


@pytest.mark.parametrize(
    ("jobs", "labels", "net", "months"),
    [
        (0, 200, 400, 0.5),
        (300, 700, 400, 7.0),
        (300, 100, 400, 1.0),
        (400, 700, 400, math.inf),
        (500, 0, 400, math.inf),
        (0, 0, 400, 0.0),
    ],
)
def test_every_retrain_must_be_earned_back_too(
    jobs: float, labels: float, net: int, months: float
) -> None:
    inputs = certain(jobs, labels, net)
    assert cash(inputs, central(inputs), 60).break_even_months()[0] == pytest.approx(months)


def test_discounting_puts_break_even_off_and_lowers_the_value(worked: PlanInputs) -> None:
    slow = replace(worked, labels_paid=Paid.of(20_000))
    dear = replace(slow, discount_per_year=0.5)
    assert break_even_days(dear) > break_even_days(slow)
    value = cash(slow, central(slow), 12).end[0, -1] - cash(dear, central(dear), 12).end[0, -1]
    assert value > 0


def test_failed_runs_are_paid_for_and_winning_ones_multiplied_until_five_campaigns(
    worked: PlanInputs,
) -> None:
    ran = (job(100, JobStatus.PROMOTED), job(900, JobStatus.FAILED))
    few = replace(worked, jobs=ran[:1], labels_paid=Paid(0))
    drawn = jobs_cost(few, draw(few, np.random.default_rng(0), 500))
    assert 100 / 0.51 <= drawn.min() < 205
    assert 460 < drawn.max() <= 100 / 0.21
    own = replace(few, own_campaigns=5)
    assert jobs_cost(own, draw(own, np.random.default_rng(0), 500)) == pytest.approx(100)
    wasteful = replace(few, jobs=ran)
    assert campaign_cost(wasteful, central(wasteful)) == pytest.approx(1000)


def test_idle_is_what_answering_leaves_of_the_floor(worked: PlanInputs) -> None:
    serving = Serving(3.6, Paid.of("0.10"), idle_cores=0.5)
    month = 0.5 * 0.10 * 730.5
    for requests, expected in ((0, month), (100_000, month), (1_000_000, 100)):
        case = replace(worked, serving=serving, volume=stated_volume(requests, 0))
        figures = plan(case, np.random.default_rng(0)).figures
        assert float(figures.bill.running_cost_per_month) == pytest.approx(expected)


def test_the_error_price_is_zero_without_a_saving_and_none_without_errors() -> None:
    assert break_even_error_price(-0.1, 0.8, 0.02) == 0
    assert break_even_error_price(0.1, 0.8, 0.0) is None


def test_the_promised_risk_gives_a_lower_error_price_than_the_observed_one(
    banking77: PlanInputs,
) -> None:
    figures = plan(banking77, np.random.default_rng(0)).figures
    assert figures.bill.break_even_error_price is not None
    assert figures.bill.error_price_at_promised_risk is not None
    assert figures.bill.error_price_at_promised_risk < figures.bill.break_even_error_price


def test_held_out_rows_are_believed_before_calibration_rows(worked: PlanInputs) -> None:
    assert isinstance(worked.student, Certificate)
    assert worked.counts == HeldOutCounts(1000, 800, 16)
    tested = replace(worked, held_out=HeldOutCounts(200, 100, 1))
    assert central(tested).accept_rate[0] == 0.5
    assert replace(worked, held_out=HeldOutCounts(0, 0, 0)).counts == worked.counts


def test_fully_loaded_cost_shares_campaign_and_upkeep_over_the_horizon(worked: PlanInputs) -> None:
    figures = plan(worked, np.random.default_rng(0)).figures
    marginal = (1 - 0.8 * 0.98) * 0.004 + 0.0001
    requests = 12 * 30_000 * DAYS_PER_MONTH
    assert float(figures.bill.marginal_cost_per_request) == pytest.approx(marginal)
    loaded = figures.with_people.fully_loaded_cost_per_request
    assert loaded is not None
    assert float(loaded) == pytest.approx(marginal + 1500 / requests)
