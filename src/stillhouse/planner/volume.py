"""How many requests a month there will be, and how little is known about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stillhouse.core.errors import CallerError
from stillhouse.core.traffic import Evidence

DAYS_PER_MONTH = 30.4375
"""A twelfth of 365.25 days."""

USUAL_LOG_SPREAD = 0.5
"""Spread of the logarithm of volume where history says nothing (E11)."""

BURST_LOG_SPREAD = 1.0
"""The same where not even a day was seen: a factor of 2.7 either way is one standard deviation."""

_PRIOR_WEEKS = 4
_SECONDS_PER_DAY = 86_400
_DAYS_TO_TRUST = 28


@dataclass(frozen=True, slots=True)
class Volume:
    """Requests a month, lognormal around this median; `basis` says in words where it comes from."""

    requests_per_month: float
    log_spread: float
    basis: str
    evidence: Evidence

    def __post_init__(self) -> None:
        if not (math.isfinite(self.requests_per_month) and self.requests_per_month >= 0):
            raise CallerError(
                f"the volume is {self.requests_per_month} requests a month; give a number from 0 up"
            )
        if not (math.isfinite(self.log_spread) and self.log_spread >= 0):
            raise CallerError(
                f"the spread of the volume is {self.log_spread}; give a number from 0 up, as 0.5"
            )


def stated_volume(requests_per_month: float, log_spread: float = USUAL_LOG_SPREAD) -> Volume:
    """Take the volume that somebody states, as uncertain as volumes usually are.

    >>> stated_volume(100_000).basis
    '100,000 requests a month as stated'
    """
    basis = f"{requests_per_month:,.0f} requests a month as stated"
    return Volume(float(requests_per_month), log_spread, basis, Evidence.SCENARIO)


def observed_volume(daily_counts: Sequence[int], span_seconds: float) -> Volume:
    """Read the volume off a log: the task's requests per calendar day, zeros included.

    `span_seconds` is the time from the log's first row to its last, of any task. A log of less
    than a day shows a burst, not a rate, and is counted as one month's traffic: stretched to a
    month, a recording of twenty minutes would promise thousands of times what was seen.

    >>> observed_volume([500] * 30, 30 * 86_400.0).requests_per_month
    15218.75
    >>> observed_volume([13_083], 1_186.0).basis
    '13,083 requests in a log of 20 minutes: too short for a rate, so counted as one month'
    """
    if span_seconds < 0 or any(count < 0 for count in daily_counts):
        raise CallerError(
            f"the log spans {span_seconds} seconds with daily counts from "
            f"{min(daily_counts, default=0)}; give spans and counts from 0 up"
        )
    rows, days = sum(daily_counts), span_seconds / _SECONDS_PER_DAY
    if days < 1:
        basis = (
            f"{rows:,} requests in a log of {_short_span(span_seconds)}: too short for a rate, "
            "so counted as one month"
        )
        return Volume(float(rows), BURST_LOG_SPREAD, basis, Evidence.SCENARIO)
    evidence = Evidence.DERIVED if days >= _DAYS_TO_TRUST else Evidence.ESTIMATED
    basis = f"{rows:,} requests in a log of {days:.1f} days"
    per_month = rows / days * DAYS_PER_MONTH
    return Volume(per_month, _weekly_log_spread(daily_counts), basis, evidence)


def _weekly_log_spread(daily_counts: Sequence[int]) -> float:
    """Spread of the logarithm of whole weeks, drawn towards the usual one while weeks are few.

    Weeks, so that the difference between workdays and weekends does not count as uncertainty; the
    first and the last day are left out because a log rarely holds them whole. The usual spread has
    the weight of four weeks.
    """
    whole = daily_counts[1:-1]
    weeks = [math.log1p(sum(whole[end - 7 : end])) for end in range(len(whole), 6, -7)]
    mean = sum(weeks) / len(weeks) if weeks else 0.0
    squares = sum((week - mean) ** 2 for week in weeks)
    freedom = max(len(weeks) - 1, 0)
    return math.sqrt((_PRIOR_WEEKS * USUAL_LOG_SPREAD**2 + squares) / (_PRIOR_WEEKS + freedom))


def _short_span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} seconds"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3_600:.0f} hours"
