import math

import pytest

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import Evidence
from stillhouse.planner import observed_volume

DAY = 86_400.0


def test_a_log_of_days_becomes_a_monthly_rate() -> None:
    volume = observed_volume([100] * 10, 10 * DAY)
    assert volume.requests_per_month == pytest.approx(10 * 304.375)
    assert volume.evidence is Evidence.ESTIMATED
    assert "1,000 requests" in volume.basis


@pytest.mark.parametrize("span", [0.0, 59.0, 1_186.0, DAY - 1])
def test_less_than_a_day_counts_as_a_month_and_says_so(span: float) -> None:
    volume = observed_volume([13_083], span)
    assert volume.requests_per_month == 13_083
    assert volume.evidence is Evidence.SCENARIO
    assert "counted as one month" in volume.basis


def test_steady_weeks_narrow_the_spread_and_wild_ones_widen_it() -> None:
    short = observed_volume([100] * 9, 9 * DAY).log_spread
    steady = observed_volume([100] * 72, 72 * DAY).log_spread
    wild = observed_volume([10, *([10] * 7 + [1000] * 7) * 5, 10], 72 * DAY).log_spread
    assert short == 0.5
    assert steady < 0.3
    assert wild > 1


def test_quiet_weekends_are_no_uncertainty() -> None:
    flat = observed_volume([100] * 72, 72 * DAY).log_spread
    weekends = observed_volume([7, *[140] * 70, 7], 72 * DAY).log_spread
    weekly = observed_volume([1, *([196] * 5 + [0, 0]) * 10, 1], 72 * DAY).log_spread
    assert flat == pytest.approx(weekends) == pytest.approx(weekly)


def test_a_task_that_fell_silent_has_no_volume() -> None:
    volume = observed_volume([0] * 30, 30 * DAY)
    assert volume.requests_per_month == 0
    assert math.isfinite(volume.log_spread)
    assert observed_volume([], 30 * DAY).requests_per_month == 0


def test_negative_counts_and_spans_are_refused() -> None:
    with pytest.raises(CallerError, match="daily counts from -3"):
        observed_volume([5, -3], DAY)
    with pytest.raises(CallerError, match="spans -1"):
        observed_volume([5], -1.0)
