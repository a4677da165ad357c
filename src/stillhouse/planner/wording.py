"""How amounts, days and counts are written: with enough digits, and never as a false date."""

from __future__ import annotations

import math
from decimal import Decimal

from stillhouse.core.money import Money

_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}


def money_text(amount: Money) -> str:
    """Write an amount so that two digits of it can be read, however small it is.

    >>> from stillhouse.core.money import Paid
    >>> [money_text(Paid.of(x)) for x in ("0.00608", "0.0998", "12.35", "2950.4", "-9.131", "0")]
    ['$0.0061', '$0.10', '$12.35', '$2,950', '-$9.13', '$0.00']
    """
    size = abs(amount.decimal)
    size = size if size >= 1 else Decimal(f"{size:.2g}")
    places = 0 if size >= 1000 else max(2, 1 - size.adjusted()) if size else 2
    digits = f"{size.quantize(Decimal(1).scaleb(-places)):,f}"
    sign = "-" if amount.pico < 0 else ""
    return f"{sign}{_SIGNS.get(amount.currency, amount.currency + ' ')}{digits}"


def per_thousand_text(amount: Money) -> str:
    """Write a cost per request as what 1,000 requests cost.

    >>> from stillhouse.core.money import Paid
    >>> per_thousand_text(Paid.of("6.08e-6"))
    '$0.0061 per 1,000'
    """
    return f"{money_text(amount.times(1000))} per 1,000"


def days_text(days: float) -> str:
    """Write a break-even in days: the day on which it is reached, or never.

    >>> [days_text(days) for days in (16.5, 0.2, float("inf"))]
    ['17 days', '1 day', 'never']
    """
    if math.isinf(days):
        return "never"
    whole = max(math.ceil(days), 1)
    return f"{whole:,} day{'s' if whole > 1 else ''}"


def count_text(count: float) -> str:
    """Write a count of requests to two digits; infinite is never.

    >>> [count_text(count) for count in (23_456_789.0, 87.2, float("inf"))]
    ['23,000,000', '87', 'never']
    """
    if math.isinf(count):
        return "never"
    places = max(int(math.log10(count)) - 1, 0) if count >= 1 else 0
    return f"{round(count, -places):,.0f}"


def percent_text(chance: float) -> str:
    """Write a chance in whole percent; what drawing cannot tell from certainty is not called so.

    >>> [percent_text(chance) for chance in (0.0, 0.405, 1.0)]
    ['under 1%', '40%', 'over 99%']
    """
    if chance < 0.01:
        return "under 1%"
    return "over 99%" if chance > 0.99 else f"{chance:.0%}"
