"""What own work costs: time on a machine at an hourly rate."""

from __future__ import annotations

import math
from decimal import Decimal

from stillhouse.core.errors import CallerError
from stillhouse.core.money import Paid


def cpu_cost(cpu_seconds: float, usd_per_core_hour: str | int | float | Decimal) -> Paid:
    """The cost of processor time, exact to a microsecond of it.

    >>> cpu_cost(90.0, "0.04")
    Paid('0.001' USD)
    """
    if not (math.isfinite(cpu_seconds) and cpu_seconds >= 0):
        raise CallerError(f"cpu_seconds is {cpu_seconds}; give a time of 0 or more seconds")
    try:
        rate = Paid.of(usd_per_core_hour)
    except (ValueError, ArithmeticError) as error:
        raise CallerError(
            f"usd_per_core_hour is {usd_per_core_hour!r}; give a number as 0.04"
        ) from error
    if rate < Paid(0):
        raise CallerError(f"usd_per_core_hour is {usd_per_core_hour}; give 0 or more")
    return rate.times(round(cpu_seconds * 10**6), 3600 * 10**6)
