from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.money import Paid
from stillhouse.planner import (
    HeldOutCounts,
    Plan,
    PlanInputs,
    PriceOutlook,
    TeacherCost,
    Verdict,
    plan,
    stated_volume,
)

teacher_costs = st.floats(0, 1, allow_subnormal=False)
error_prices = st.floats(0, 100, allow_subnormal=False)
volumes = st.floats(0, 1e9, allow_subnormal=False)
counts = st.integers(0, 5000).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda a: st.integers(0, a).map(lambda d: HeldOutCounts(n, a, d))
    )
)
few = settings(max_examples=15, deadline=None)


def planned(base: PlanInputs, teacher: float, error: float, volume: float) -> Plan:
    inputs = replace(
        base,
        teacher=TeacherCost(Paid.of(teacher), "computed"),
        price_per_error=Paid.of(error),
        volume=stated_volume(volume),
    )
    return plan(inputs, np.random.default_rng(3))


@few
@given(st.lists(teacher_costs, min_size=2, max_size=2).map(sorted), error_prices, volumes)
def test_a_dearer_teacher_never_saves_less(
    banking77: PlanInputs, costs: list[float], error: float, volume: float
) -> None:
    cheap, dear = (planned(banking77, cost, error, volume).figures for cost in costs)
    assert cheap.bill.saving_per_request <= dear.bill.saving_per_request
    assert cheap.with_people.probability <= dear.with_people.probability


@few
@given(teacher_costs, st.lists(error_prices, min_size=2, max_size=2).map(sorted), volumes)
def test_a_dearer_error_never_saves_more(
    banking77: PlanInputs, cost: float, errors: list[float], volume: float
) -> None:
    light, grave = (planned(banking77, cost, error, volume).figures for error in errors)
    assert grave.bill.saving_per_request <= light.bill.saving_per_request
    assert grave.with_people.probability <= light.with_people.probability
    assert grave.bill.break_even_error_price == light.bill.break_even_error_price


@few
@given(counts, teacher_costs, error_prices, volumes, st.floats(-1, 5))
def test_chances_lie_between_0_and_1_and_quantiles_in_order(
    banking77: PlanInputs,
    held_out: HeldOutCounts,
    teacher: float,
    error: float,
    volume: float,
    fall: float,
) -> None:
    base = replace(banking77, held_out=held_out, prices=PriceOutlook(fall_per_year=fall))
    found = planned(base, teacher, error, volume)
    figures = found.figures
    for outcome in (figures.with_people, figures.automatic):
        assert 0 <= outcome.probability <= 1
        for spread in (outcome.break_even_days, outcome.break_even_requests):
            assert 0 <= spread.p10 <= spread.p50 <= spread.p90
    assert figures.with_people.probability <= figures.automatic.probability
    values = [point.net for point in figures.fan]
    assert all(net.p10 <= net.p50 <= net.p90 for net in values)
    shares = [share for _, share in figures.sensitivity]
    assert all(early >= late for early, late in pairwise(shares))
    assert not shares or abs(sum(shares) - 1) < 1e-9
    if found.verdict is Verdict.DISTIL:
        assert figures.bill.saving_per_request.pico > 0
