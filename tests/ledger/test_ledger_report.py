"""The spend report and the price of own work."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import CallerError
from stillhouse.core.money import Paid
from stillhouse.core.traffic import Evidence
from stillhouse.ledger.metering import cpu_cost
from stillhouse.ledger.report import SpendSum, spend_report

CHEAP = SpendSum(
    "flash", n_requests=10, billed_pico=4 * 10**9, n_reported=10, reported_pico=5 * 10**9,
    tokens={"input_tokens": 90, "output_tokens": 10},
    n_both=10, both_billed_pico=4 * 10**9, both_reported_pico=5 * 10**9,
)  # fmt: skip
HALF_KNOWN = SpendSum(
    "pro", n_requests=4, n_unpriced=1, billed_pico=9 * 10**9,
    tokens={"input_tokens": 30, "web_searches": 5}, unpriced_tokens=10,
    evidence=Evidence.ESTIMATED,
)  # fmt: skip
UNKNOWN = SpendSum("mystery", n_requests=1, n_unpriced=1, tokens={"input_tokens": 7},
                   unpriced_tokens=7)  # fmt: skip


def test_rows_stand_by_falling_cost_and_unknown_money_is_none() -> None:
    report = spend_report([UNKNOWN, CHEAP, HALF_KNOWN], by="model")
    assert [row.key for row in report.rows] == ["pro", "flash", "mystery"]
    mystery = report.rows[2]
    assert (mystery.computed, mystery.reported, mystery.difference) == (None, None, None)
    assert mystery.per_1000_requests is None
    assert mystery.unpriced_request_share == mystery.unpriced_token_share == 1.0


def test_shares_and_unit_costs_count_what_they_say() -> None:
    pro, flash = spend_report([CHEAP, HALF_KNOWN], by="model").rows
    assert pro.unpriced_request_share == 0.25
    assert pro.unpriced_token_share == 10 / 30  # a search is no token
    assert pro.per_1000_requests == Paid.of("3")  # over the three priced requests
    assert flash.difference == Paid.of("-0.001")


def test_the_total_adds_up_and_is_as_good_as_its_weakest_part() -> None:
    total = spend_report([CHEAP, HALF_KNOWN, UNKNOWN], by="model").total
    assert (total.n_requests, total.computed, total.reported) == (
        15, Paid.of("0.013"), Paid.of("0.005"))  # fmt: skip
    assert total.tokens == {"input_tokens": 127, "output_tokens": 10, "web_searches": 5}
    assert total.difference == Paid.of("-0.001")
    assert total.evidence is Evidence.ESTIMATED


def test_nothing_spent_is_an_empty_report() -> None:
    report = spend_report([], by="day")
    assert (report.rows, report.total.n_requests, report.total.computed) == ((), 0, None)


SUMS = st.builds(
    SpendSum,
    key=st.sampled_from("abc"),
    n_requests=st.integers(1, 9),
    billed_pico=st.integers(0, 10**15),
    tokens=st.dictionaries(st.sampled_from(["input_tokens", "output_tokens"]), st.integers(1, 99)),
)


@given(st.lists(SUMS, max_size=8))
def test_rows_sum_to_the_total(sums: list[SpendSum]) -> None:
    report = spend_report(sums, by="task")
    assert len({row.key for row in report.rows}) == len(report.rows)
    assert sum(row.n_requests for row in report.rows) == report.total.n_requests
    parts = [row.computed for row in report.rows if row.computed is not None]
    assert sum(parts, Paid(0)) == (report.total.computed or Paid(0))


@pytest.mark.parametrize(
    ("seconds", "rate", "expected"),
    [
        (3600.0, "0.05", "0.05"),
        (0.0, "0.05", "0"),
        (1.5, Decimal("0.048"), "0.00002"),
        (90, 0, "0"),
    ],
)
def test_processor_time_costs_its_share_of_the_hourly_rate(
    seconds: float, rate: str | Decimal | int, expected: str
) -> None:
    assert cpu_cost(seconds, rate) == Paid.of(expected)


@pytest.mark.parametrize(
    ("seconds", "rate", "named"),
    [(-1.0, "1", "cpu_seconds is -1"), (float("nan"), "1", "cpu_seconds is nan"),
     (1.0, "-1", "usd_per_core_hour is -1"), (1.0, "cheap", "usd_per_core_hour is 'cheap'"),
     (1.0, float("inf"), "usd_per_core_hour is inf")],
)  # fmt: skip
def test_impossible_work_is_refused(seconds: float, rate: str | float, named: str) -> None:
    with pytest.raises(CallerError, match=named):
        cpu_cost(seconds, rate)
